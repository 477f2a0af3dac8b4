//! What is printed, whoever listens. Beyond this module `println!` and its kin are these: the standard
//! ones panic where nobody reads any more (`hm runs ls | head -1`), and a run must not end because the
//! window in which it was started is closed. So words that nobody reads are dropped, the work goes on,
//! and its exit code stays what it was; output that is lost for another reason, such as a full disk, is
//! an error at the end.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::sync::OnceLock;

/// Why standard output does not hold all that was printed.
static LOST: OnceLock<String> = OnceLock::new();

/// Behind `print!` and `println!`.
pub(crate) fn out(words: Arguments<'_>) {
    if let Err(error) = io::stdout().lock().write_fmt(words) {
        note_loss(&error);
    }
}

/// Behind `eprint!` and `eprintln!`. Where it cannot be said there is nobody left to say it to.
pub(crate) fn err(words: Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(words);
}

/// Brings to its reader what was printed so far.
pub(crate) fn flush() {
    if let Err(error) = io::stdout().lock().flush() {
        note_loss(&error);
    }
}

fn note_loss(error: &io::Error) {
    if error.kind() != ErrorKind::BrokenPipe {
        LOST.get_or_init(|| error.to_string());
    }
}

/// Flushes standard output; why it does not hold all that was printed, if somebody wanted to read it.
pub(crate) fn lost() -> Option<&'static str> {
    flush();
    LOST.get().map(String::as_str)
}

/// Whether standard error shows colours: a terminal that was not asked to leave them out
/// (no-color.org).
pub(crate) fn has_colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !refused
}

macro_rules! print {
    ($($words:tt)*) => { $crate::terminal::out(format_args!($($words)*)) };
}

macro_rules! println {
    () => { $crate::terminal::out(format_args!("\n")) };
    ($($words:tt)*) => { $crate::terminal::out(format_args!("{}\n", format_args!($($words)*))) };
}

macro_rules! eprintln {
    () => { $crate::terminal::err(format_args!("\n")) };
    ($($words:tt)*) => { $crate::terminal::err(format_args!("{}\n", format_args!($($words)*))) };
}
