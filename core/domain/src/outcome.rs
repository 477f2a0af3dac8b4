//! How a call of a plugin ended, what of that can be proved, and how it is told.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "class", content = "message")]
pub enum Outcome {
    /// With a state and an output.
    Ok,
    /// The plugin said no, in its own words.
    GuestError(String),
    /// It trapped: `unreachable`, `out-of-bounds`, `memory-limit`...
    Trap(String),
    /// It used up its fuel.
    OutOfFuel,
    /// It ran into the wall-clock watchdog. Not provable.
    Deadline,
    /// The machine had no memory for it. Not provable.
    HostMemory,
    /// It overflowed the native stack. Not provable.
    StackOverflow,
    /// It answered more or larger values than the limits allow.
    TooLarge(String),
    /// The call was never made: the plugin is not loaded in this process, or its world has no such
    /// function. It says nothing about the plugin. Not provable.
    NotCalled(String),
}

impl Outcome {
    /// Whether an auditor can expect the same outcome again (fuel: under the same engine only).
    pub fn provable(&self, same_engine: bool) -> bool {
        match self {
            Outcome::Deadline
            | Outcome::HostMemory
            | Outcome::StackOverflow
            | Outcome::NotCalled(_) => false,
            Outcome::OutOfFuel => same_engine,
            Outcome::Ok | Outcome::GuestError(_) | Outcome::Trap(_) | Outcome::TooLarge(_) => true,
        }
    }
}

impl Outcome {
    /// Whether it speaks against the plugin. What the machine could not do does not.
    pub fn is_fault(&self) -> bool {
        match self {
            Outcome::Ok | Outcome::Deadline | Outcome::HostMemory | Outcome::NotCalled(_) => false,
            Outcome::GuestError(_)
            | Outcome::Trap(_)
            | Outcome::OutOfFuel
            | Outcome::StackOverflow
            | Outcome::TooLarge(_) => true,
        }
    }
}

impl fmt::Display for Outcome {
    /// As a sentence about the plugin.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Ok => f.write_str("it ended well"),
            Outcome::GuestError(message) => write!(f, "it said no: {message}"),
            Outcome::Trap(kind) => match kind.as_str() {
                "unreachable" => f.write_str("it panicked (trap: unreachable)"),
                "memory-limit" => f.write_str("it wanted more memory than its limit"),
                "malformed-answer" => f.write_str("its answer cannot be read"),
                kind => write!(f, "it broke off (trap: {kind})"),
            },
            Outcome::OutOfFuel => f.write_str("it used up its fuel"),
            Outcome::Deadline => f.write_str("it ran into the deadline"),
            Outcome::HostMemory => f.write_str("the machine had no memory for it"),
            Outcome::StackOverflow => f.write_str("it overflowed its stack"),
            Outcome::TooLarge(what) => write!(f, "it answered too much: {what}"),
            Outcome::NotCalled(why) => write!(f, "it was not called: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_in_words_and_never_as_code() {
        let text = String::from;
        for (outcome, due) in [
            (Outcome::Ok, "it ended well"),
            (Outcome::GuestError(text("failed: sulk")), "it said no: failed: sulk"),
            (Outcome::Trap(text("unreachable")), "it panicked (trap: unreachable)"),
            (Outcome::Trap(text("memory-limit")), "it wanted more memory than its limit"),
            (Outcome::Trap(text("malformed-answer")), "its answer cannot be read"),
            (Outcome::Trap(text("out-of-bounds")), "it broke off (trap: out-of-bounds)"),
            (Outcome::OutOfFuel, "it used up its fuel"),
            (Outcome::Deadline, "it ran into the deadline"),
            (Outcome::HostMemory, "the machine had no memory for it"),
            (Outcome::StackOverflow, "it overflowed its stack"),
            (Outcome::TooLarge(text("9 bytes")), "it answered too much: 9 bytes"),
            (Outcome::NotCalled(text("not loaded")), "it was not called: not loaded"),
        ] {
            assert_eq!(outcome.to_string(), due);
        }
    }
}
