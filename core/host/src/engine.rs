//! The engine: one configuration for live calls and audits, a wall-clock ticker, a fingerprint.
//!
//! Does not know plugins. Every setting that could change a result is fixed here, never read from
//! the environment.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use hm_domain::id::Digest;
use hm_domain::plugin::Limits;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy,
    WasmBacktraceDetails,
};

use crate::error::HostError;

/// Version of the engine, part of the fingerprint: fuel is not stable between versions.
pub(crate) const WASMTIME_VERSION: &str = "48.0.8";
/// Every byte of the interface, part of the fingerprint.
const WIT: [&str; 3] = [
    include_str!("../../../wit/0.1.0/types.wit"),
    include_str!("../../../wit/0.1.0/policy.wit"),
    include_str!("../../../wit/0.1.0/detector.wit"),
];
/// Milliseconds between two ticks of the watchdog.
pub(crate) const TICK_MS: u64 = 10;
/// Linear memories of one component: its own and an adapter's.
pub(crate) const MEMORIES_MAX: u32 = 4;

/// An engine for these limits: pooled where the machine grants the address space, else on demand.
/// Both give equal results.
///
/// # Errors
/// When neither can be made.
pub(crate) fn engine(limits: &Limits) -> Result<Engine, HostError> {
    let pooled = config(limits).and_then(|mut config| {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)?));
        Engine::new(&config).map_err(refused)
    });
    let engine = match pooled {
        Ok(engine) => engine,
        Err(_) => Engine::new(&config(limits)?).map_err(refused)?,
    };
    start_ticker(&engine)?;
    Ok(engine)
}

fn refused(error: wasmtime::Error) -> HostError {
    HostError::Engine(format!("{error:#}"))
}

fn size(bytes: u64) -> Result<usize, HostError> {
    usize::try_from(bytes).map_err(|_| HostError::Engine(format!("{bytes} bytes do not fit")))
}

fn config(limits: &Limits) -> Result<Config, HostError> {
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
        .max_wasm_stack(size(limits.stack_bytes_max)?)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable);
    Ok(config)
}

fn pool(limits: &Limits) -> Result<PoolingAllocationConfig, HostError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    let calls = (2 * threads).clamp(16, 512);
    let mut pool = PoolingAllocationConfig::new();
    pool.max_memory_size(size(limits.memory_bytes_max)?)
        .table_elements(limits.table_elements_max as usize)
        .total_component_instances(calls)
        .total_memories(calls * 2)
        .total_core_instances(calls * limits.instances_max)
        .total_tables(calls * limits.instances_max)
        .max_core_instances_per_component(limits.instances_max)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(limits.instances_max);
    Ok(pool)
}

/// The ticker is an OS thread, since workers may all be inside plugins (wasmtime#7134). It ends
/// with the engine.
fn start_ticker(engine: &Engine) -> Result<(), HostError> {
    let weak = engine.weak();
    let tick = move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(Duration::from_millis(TICK_MS));
        }
    };
    std::thread::Builder::new()
        .name("plugin-watchdog".to_owned())
        .spawn(tick)
        .map(drop)
        .map_err(|error| HostError::Engine(error.to_string()))
}

/// Names everything but the limits that fuel may depend on: engine version, machine, compiler
/// settings, interface. Outputs compare always, fuel only where this is equal.
pub(crate) fn fingerprint(engine: &Engine) -> Digest {
    let mut hasher = Collector(Vec::new());
    WASMTIME_VERSION.hash(&mut hasher);
    std::env::consts::ARCH.hash(&mut hasher);
    std::env::consts::OS.hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    WIT.hash(&mut hasher);
    Digest::of(&hasher.0)
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
    fn fingerprints_of_equal_engines_are_equal() {
        let engines = [engine(&Limits::default()), engine(&Limits::default())];
        let [a, b] = engines.map(|engine| fingerprint(&engine.unwrap()));
        assert_eq!(a, b);
        assert_ne!(a, Digest::ZERO);
    }
}
