//! Ways to misbehave, for tests of the host. A call misbehaves as the configuration says:
//! `{"at": "step", "how": "loop"}`. `describe` has no configuration, so the tests write its behaviour
//! over [`DESCRIBE`] in the built module.
//!
//! Each way meets its own limit first, whatever the compiler makes of it: memory is taken in pages that
//! nobody writes to, texts are little longer than the limits, recursion keeps nothing in memory.

use heurimentor::Level;
use heurimentor::bindings::policy::heurimentor::plugin::types::{Description, Error};

/// Where `describe` reads how to behave.
#[used]
static DESCRIBE: [u8; 24] = *b"describe=honest         ";

/// Bytes of state, or of text, that no limit of the tests allows: more than a state may have by default.
const TOO_MUCH: usize = 300 << 10;

/// How to behave at each call: the state.
pub struct Plan {
    at: String,
    how: String,
}

impl Plan {
    /// From the configuration.
    pub fn from_config(config: &str) -> Result<Plan, Error> {
        let config: serde_json::Value = serde_json::from_str(config)
            .map_err(|error| Error::Refused(format!("config is not JSON: {error}")))?;
        let text = |key: &str| match config[key].as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(Error::Refused(format!("config.{key} is missing"))),
        };
        Ok(Plan { at: text("at")?, how: text("how")? })
    }

    /// From the state.
    pub fn from_state(state: &[u8]) -> Plan {
        let text = String::from_utf8_lossy(state);
        let (at, how) = text.split_once(' ').unwrap_or_default();
        Plan { at: at.to_owned(), how: how.to_owned() }
    }

    /// Misbehaves, if it is the turn of `call`, and gives the state and what kind of nonsense to
    /// answer: nothing where it behaves.
    pub fn carry_out(&self, call: &str) -> Result<(Vec<u8>, &str), Error> {
        let state = format!("{} {}", self.at, self.how).into_bytes();
        if self.at != call {
            return Ok((state, ""));
        }
        misbehave(&self.how)?;
        match self.how.as_str() {
            "large-state" => Ok((vec![0; TOO_MUCH], "")),
            "log" => Ok((state, "")),
            how => Ok((state, how)),
        }
    }
}

/// Texts of 64 KiB of which a list may hold many without much memory: they are all the same bytes.
/// Nobody may drop them.
pub fn aliases(count: usize) -> Vec<String> {
    let text: &'static mut [u8] = vec![b'x'; 64 << 10].leak();
    let alias = || {
        // SAFETY: none; a guest may do to itself what it likes. The host must survive it.
        unsafe { String::from_raw_parts(text.as_ptr().cast_mut(), text.len(), text.len()) }
    };
    (0..count).map(|_| alias()).collect()
}

/// A text that is too long for any answer.
pub fn novel() -> String {
    "x".repeat(TOO_MUCH)
}

fn misbehave(how: &str) -> Result<(), Error> {
    match how {
        "loop" => loop {
            std::hint::black_box(how);
        },
        // A megabyte at a time.
        "hoard" => loop {
            grow(16);
        },
        // More than 4 GiB at once.
        "grow" => grow(u16::MAX),
        "trap" => trap(),
        "recurse" => {
            std::hint::black_box(recurse(1));
        }
        "panic" => panic!("on purpose"),
        "sulk" => return Err(Error::Failed("sulk".to_owned())),
        "complain" => return Err(Error::Failed(novel())),
        "log" => {
            for _ in 0..100 {
                heurimentor::log(Level::Warning, &"ä".repeat(500));
            }
        }
        "log-for-ever" => loop {
            heurimentor::log(Level::Debug, "");
        },
        _ => {}
    }
    Ok(())
}

/// What it says of itself, once it has misbehaved as the tests wrote over [`DESCRIBE`].
pub fn describe(name: &str, detector: bool) -> Description {
    // SAFETY: a reference to a static is always readable. Volatile: the optimiser must not know it.
    let text = unsafe { std::ptr::read_volatile(&raw const DESCRIBE) };
    let how = String::from_utf8_lossy(&text["describe=".len()..]).trim_end().to_owned();
    let _ = misbehave(&how);
    let text = |wrong: &str, instead: &str, right: &str| {
        if how == wrong { instead.to_owned() } else { right.to_owned() }
    };
    let schema = r#"{"type": "object", "required": ["at", "how"], "properties": {
        "at": {"type": "string", "default": "never"}, "how": {"type": "string", "default": "well"}}}"#;
    Description {
        name: text("nameless", "", name),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        documentation: text("novel", &novel(), "Misbehaves on purpose."),
        config_schema: text("schema", r#"{"type": "sandwich"}"#, schema),
        columns: if how == "column" { vec!["weather".to_owned()] } else { Vec::new() },
        every_steps: if how == "never" { 0 } else { 1 },
        gates: detector && how != "idle",
        watches: detector && how != "idle",
        wants_timings: detector,
    }
}

/// Not a loop in disguise: what is done with the answer depends on the order.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { recurse(depth + 1).rotate_left(1) ^ depth }
}

/// So many pages of 64 KiB more, untouched.
fn grow(pages: u16) {
    #[cfg(target_arch = "wasm32")]
    std::hint::black_box(core::arch::wasm32::memory_grow(0, pages.into()));
    #[cfg(not(target_arch = "wasm32"))]
    let _ = pages;
}

/// `unreachable` on the wasm target; natively the crate is only checked.
fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}
