//! How much memory a call may take, and who said no: the limits or the machine.

use hm_domain::plugin::Limits;
use wasmtime::ResourceLimiter;

/// Linear memories of one component.
pub(crate) const MEMORIES_MAX: u32 = 4;

/// Why memory did not grow. The guest never sees it: the call ends, so that no guest can branch on a
/// refusal that depends on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoGrowth {
    /// Would be so on every machine.
    #[error("more memory than the limits allow")]
    Limit,
    /// May be otherwise on another machine, or later.
    #[error("the machine has no more memory")]
    Machine,
}

/// The memory part of [`Limits`], asked by the engine.
pub(crate) struct Bounds {
    memory_bytes: usize,
    table_elements: usize,
    instances: usize,
}

impl Bounds {
    pub(crate) fn new(limits: &Limits) -> Bounds {
        Bounds {
            memory_bytes: limits.memory_bytes_max as usize,
            table_elements: limits.table_elements_max as usize,
            instances: limits.instances_max as usize,
        }
    }
}

fn within(desired: usize, limit: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
    if desired > maximum.unwrap_or(limit).min(limit) {
        Err(NoGrowth::Limit.into())
    } else {
        Ok(true)
    }
}

/// Growth that was allowed and failed. The engine also comes here, unasked, with a size that the
/// memory's type cannot have; that much is the guest's doing on any machine.
fn failed(error: &wasmtime::Error) -> wasmtime::Result<()> {
    let text = error.to_string();
    let guest = text.contains("memory type's limits") || text.contains("new table size");
    Err(if guest { NoGrowth::Limit } else { NoGrowth::Machine }.into())
}

impl ResourceLimiter for Bounds {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        within(desired, self.memory_bytes, maximum)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        failed(&error)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        within(desired, self.table_elements, maximum)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        failed(&error)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.instances
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}
