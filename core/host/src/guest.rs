//! One call's store: limits while it runs, and what its end means.

use hm_domain::plugin::{Limits, Outcome};
use wasmtime::{Engine, ResourceLimiter, Store, Trap};

use crate::engine::{MEMORIES_MAX, TICK_MS};

/// What a store holds beside the instance: limits and the lines the plugin logged.
pub(crate) struct Guest {
    memory_bytes_max: usize,
    table_elements_max: usize,
    instances_max: usize,
    log_bytes_left: usize,
    /// Lines within the limit.
    pub(crate) lines: Vec<String>,
}

impl Guest {
    /// Keeps a line if the bytes suffice.
    pub(crate) fn log(&mut self, line: String) {
        // An empty line counts too, or their number would be without bound.
        let cost = line.len() + 1;
        if cost <= self.log_bytes_left {
            self.log_bytes_left -= cost;
            self.lines.push(line);
        } else {
            self.log_bytes_left = 0;
        }
    }
}

/// Why growth was refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("memory grew past its limit")]
    Memory,
    #[error("a table grew past its limit")]
    Table,
    #[error("the machine has no memory left")]
    Machine,
}

impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.memory_bytes_max {
            // A trap, so that no plugin can branch on how much memory it got.
            return Err(Refused::Memory.into());
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Refused::Machine.into())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.table_elements_max {
            return Err(Refused::Table.into());
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Refused::Machine.into())
    }

    fn instances(&self) -> usize {
        self.instances_max
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }

    fn tables(&self) -> usize {
        self.instances_max
    }
}

/// A store for one call, fuelled for the instance's start.
pub(crate) fn store(engine: &Engine, limits: &Limits) -> wasmtime::Result<Store<Guest>> {
    let bound = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let guest = Guest {
        memory_bytes_max: bound(limits.memory_bytes_max),
        table_elements_max: limits.table_elements_max as usize,
        instances_max: limits.instances_max as usize,
        log_bytes_left: bound(limits.log_bytes_max),
        lines: Vec::new(),
    };
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| guest);
    store.set_fuel(limits.fuel)?;
    store.set_epoch_deadline(limits.deadline_ms.div_ceil(TICK_MS) + 1);
    store.epoch_deadline_trap();
    // What the host allocates while it reads an answer: values are up to four times as large in
    // Rust as in the plugin's memory.
    let answer = limits.state_bytes_max.saturating_add(limits.output_bytes_max);
    store.set_hostcall_fuel(bound(answer.saturating_mul(4).saturating_add(64 << 10)));
    Ok(store)
}

/// What an error of the engine means.
pub(crate) fn outcome(error: &wasmtime::Error) -> Outcome {
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return match refused {
            Refused::Memory => Outcome::Trap("memory-limit".to_owned()),
            Refused::Table => Outcome::Trap("table-limit".to_owned()),
            Refused::Machine => Outcome::HostMemory,
        };
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Outcome::HostMemory;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Outcome::OutOfFuel,
        Some(Trap::Interrupt) => Outcome::Deadline,
        Some(Trap::StackOverflow) => Outcome::StackOverflow,
        Some(Trap::UnreachableCodeReached) => Outcome::Trap("unreachable".to_owned()),
        Some(Trap::MemoryOutOfBounds) => Outcome::Trap("memory-out-of-bounds".to_owned()),
        Some(trap) => Outcome::Trap(kebab(&format!("{trap:?}"))),
        // The engine has no type for this one; a test holds its words.
        None if format!("{error:#}").contains("hostcalls has been exhausted") => {
            Outcome::TooLarge("the answer".to_owned())
        }
        None => Outcome::Trap("invalid-answer".to_owned()),
    }
}

fn kebab(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for (index, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traps_are_named_in_kebab_case() {
        let error = wasmtime::Error::from(Trap::IntegerDivisionByZero);
        assert_eq!(outcome(&error), Outcome::Trap("integer-division-by-zero".to_owned()));
    }

    #[test]
    fn log_lines_past_the_limit_are_dropped() {
        let engine = crate::engine::engine(&Limits::default()).unwrap();
        let limits = Limits { log_bytes_max: 8, ..Limits::default() };
        let mut store = store(&engine, &limits).unwrap();
        for line in ["four", "12345", ""] {
            store.data_mut().log(line.to_owned());
        }
        assert_eq!(store.data().lines, ["four"]);
    }
}
