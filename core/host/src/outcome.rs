//! The class of a call that failed. An audit compares classes, so they must not depend on wording
//! that changes between engines, nor call provable what depends on the machine.

use hm_domain::plugin::Outcome;
use wasmtime::{PoolConcurrencyLimitError, Trap};

use crate::bounds::NoGrowth;

/// Where a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// While the instance was made.
    Setup,
    /// In the plugin's function, or while its answer was read.
    Call,
}

/// The class of `error`.
pub(crate) fn outcome(error: &wasmtime::Error, phase: Phase) -> Outcome {
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return match trap {
            Trap::OutOfFuel => Outcome::OutOfFuel,
            Trap::Interrupt => Outcome::Deadline,
            Trap::StackOverflow => Outcome::StackOverflow,
            trap => Outcome::Trap(kind(*trap)),
        };
    }
    match error.downcast_ref::<NoGrowth>() {
        Some(NoGrowth::Limit) => return Outcome::Trap("memory-limit".to_owned()),
        Some(NoGrowth::Machine) => return Outcome::HostMemory,
        None => {}
    }
    let machine = error.is::<PoolConcurrencyLimitError>()
        || error.is::<wasmtime::OutOfMemory>()
        || error.is::<std::io::Error>();
    // A loaded component has been instantiated under the same limits before: what fails now and is no
    // trap fails for want of something on this machine.
    if machine || phase == Phase::Setup {
        return Outcome::HostMemory;
    }
    if error.root_cause().to_string().contains("fuel allocated for hostcalls") {
        return Outcome::TooLarge("more bytes than any answer may have".to_owned());
    }
    // Bytes that are no value of the interface: a list beyond memory, text that is not UTF-8.
    tracing::debug!(target: "plugin", "an answer cannot be read: {error:#}");
    Outcome::Trap("malformed-answer".to_owned())
}

/// A name of our own for each trap a plugin can come to.
fn kind(trap: Trap) -> String {
    let name = match trap {
        Trap::UnreachableCodeReached => "unreachable",
        Trap::MemoryOutOfBounds => "out-of-bounds",
        Trap::TableOutOfBounds => "table-out-of-bounds",
        Trap::IndirectCallToNull => "null-call",
        Trap::BadSignature => "bad-signature",
        Trap::IntegerOverflow => "integer-overflow",
        Trap::IntegerDivisionByZero => "division-by-zero",
        Trap::BadConversionToInteger => "bad-conversion",
        Trap::CannotLeaveComponent | Trap::CannotEnterComponent => "reentrance",
        other => return other.to_string(),
    };
    name.to_owned()
}
