//! The engine: one configuration for live calls and audits, a wall-clock ticker, a fingerprint.
//!
//! Every setting that could change a result is fixed here and never read from the environment.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use hm_domain::id::Digest;
use hm_domain::plugin::Limits;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    Strategy, WasmBacktraceDetails,
};

use crate::bounds::MEMORIES_MAX;
use crate::error::{HostError, Result};
use crate::guest::LOG_FUEL;

/// Time between two ticks of the watchdog.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Version of the engine, part of the fingerprint: fuel is not stable between versions.
const WASMTIME_VERSION: &str = "48.0.8";
/// Every byte of the interface, part of the fingerprint.
const WIT: &str = include_str!("../../../wit/0.1.0/plugin.wit");

/// An engine whose epochs advance with the wall clock for as long as it lives.
pub(crate) struct Ticking {
    pub(crate) engine: Engine,
}

impl Ticking {
    /// Pooled where the machine grants the address space, else on demand. Both give equal results.
    pub(crate) fn new(limits: &Limits) -> Result<Ticking> {
        let mut pooled = config(limits);
        pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
        let engine = Engine::new(&pooled)
            .or_else(|_| Engine::new(&config(limits)))
            .map_err(|error| HostError::Engine(format!("{error:#}")))?;
        start_ticker(&engine)?;
        Ok(Ticking { engine })
    }

    /// Names all that fuel may depend on: engine version, machine, compiler settings, interface
    /// and limits. Outputs compare always, fuel only where this is equal.
    pub(crate) fn fingerprint(&self, limits: &Limits) -> Digest {
        let mut all = Collector(Vec::new());
        WASMTIME_VERSION.hash(&mut all);
        std::env::consts::ARCH.hash(&mut all);
        std::env::consts::OS.hash(&mut all);
        self.engine.precompile_compatibility_hash().hash(&mut all);
        WIT.hash(&mut all);
        LOG_FUEL.hash(&mut all);
        serde_json::to_string(limits).expect("limits are numbers").hash(&mut all);
        Digest::of(&all.0)
    }
}

fn config(limits: &Limits) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .wasm_component_model(true)
        .concurrency_support(false)
        .wasm_relaxed_simd(false)
        .relaxed_simd_deterministic(true)
        .wasm_memory64(false)
        .shared_memory(false)
        // The limit that counts.
        .consume_fuel(true)
        // The watchdog, which no proof may rest on.
        .epoch_interruption(true)
        .memory_init_cow(true)
        .max_wasm_stack(limits.stack_bytes_max as usize)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config
}

fn pool(limits: &Limits) -> PoolingAllocationConfig {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    let calls = (2 * threads).clamp(16, 512);
    let mut pool = PoolingAllocationConfig::new();
    pool.max_memory_size(limits.memory_bytes_max as usize)
        .table_elements(limits.table_elements_max as usize)
        .total_component_instances(calls)
        .total_memories(calls * 2)
        .total_core_instances(calls * limits.instances_max)
        .total_tables(calls * limits.instances_max)
        .max_core_instances_per_component(limits.instances_max)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(limits.instances_max)
        // A call touches a few pages of its instance. Writing those back is cheaper than giving them to
        // the kernel and faulting them in again: 21 us a call instead of 36.
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(4 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// The ticker is an OS thread, since workers may all be inside plugins (wasmtime#7134). It ends
/// with the engine.
fn start_ticker(engine: &Engine) -> Result<()> {
    let weak = engine.weak();
    let tick = move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new()
        .name("plugin-watchdog".to_owned())
        .spawn(tick)
        .map(drop)
        .map_err(|error| HostError::Engine(error.to_string()))
}

/// Keeps what is hashed, so that a cryptographic digest can be taken of it.
struct Collector(Vec<u8>);

impl Hasher for Collector {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_version_is_the_pinned_one() {
        let pin = format!("wasmtime = {{ version = \"={WASMTIME_VERSION}\"");
        assert!(include_str!("../../../Cargo.toml").contains(&pin));
    }

    #[test]
    fn fingerprints_differ_by_limits_and_not_by_engine_instance() {
        let limits = Limits::default();
        let [a, b] = [(); 2].map(|()| Ticking::new(&limits).unwrap());
        assert_eq!(a.fingerprint(&limits), b.fingerprint(&limits));
        let less = Limits { fuel: 1, ..limits.clone() };
        assert_ne!(a.fingerprint(&limits), a.fingerprint(&less));
    }
}
