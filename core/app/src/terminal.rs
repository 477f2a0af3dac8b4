//! What is printed, whoever listens. Beyond this module `println!` and its kin are these: the standard
//! ones panic where nobody reads any more (`hm runs ls | head -1`), and a run must not end because a pipe
//! is closed. So words that nobody reads are dropped, the work goes on, and its exit code stays what it
//! was; output that is lost for another reason, such as a full disk, is an error at the end.
//!
//! Nor does work stand still because the terminal does (Ctrl-S, a pager, a connection that hangs):
//! standard error is written by a thread of its own, and what it cannot take is dropped.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// What may wait to be shown.
const WAITING_MAX: usize = 1024;
/// How long words wait for a place among them, and an ending program for all of them.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why standard output does not hold all that was printed.
static LOST: OnceLock<String> = OnceLock::new();
/// To the thread that shows.
static SCREEN: OnceLock<SyncSender<Shown>> = OnceLock::new();
/// What was handed over and is not shown yet.
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// Nothing was shown for so long that words are dropped at once.
static STUCK: AtomicBool = AtomicBool::new(false);

/// What goes to standard error.
enum Shown {
    Words(String),
    Drawing(Box<dyn FnOnce() + Send>),
}

/// Behind `print!` and `println!`.
pub(crate) fn out(words: Arguments<'_>) {
    settle();
    if let Err(error) = io::stdout().lock().write_fmt(words) {
        note_loss(&error);
    }
}

/// Behind `eprint!` and `eprintln!`. Where it cannot be said there is nobody to say it to.
pub(crate) fn err(words: Arguments<'_>) {
    let mut shown = Shown::Words(words.to_string());
    let begun = Instant::now();
    while let Err(unsent) = hand_over(shown) {
        if STUCK.load(Ordering::Relaxed) || begun.elapsed() > PATIENCE {
            STUCK.store(true, Ordering::Relaxed);
            return;
        }
        shown = unsent;
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Changes a progress bar, in order with the words; dropped where too much waits.
pub(crate) fn draw(drawing: impl FnOnce() + Send + 'static) {
    let _ = hand_over(Shown::Drawing(Box::new(drawing)));
}

/// Gives it back where there is no room for it.
fn hand_over(shown: Shown) -> Result<(), Shown> {
    let screen = SCREEN.get_or_init(|| {
        let (screen, waiting) = sync_channel(WAITING_MAX);
        std::thread::spawn(move || show(waiting));
        screen
    });
    WAITING.fetch_add(1, Ordering::AcqRel);
    screen.try_send(shown).map_err(|unsent| {
        WAITING.fetch_sub(1, Ordering::AcqRel);
        match unsent {
            TrySendError::Full(shown) | TrySendError::Disconnected(shown) => shown,
        }
    })
}

fn show(waiting: Receiver<Shown>) {
    for shown in waiting {
        match shown {
            Shown::Words(words) => _ = io::stderr().lock().write_all(words.as_bytes()),
            Shown::Drawing(drawing) => drawing(),
        }
        STUCK.store(false, Ordering::Relaxed);
        WAITING.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Waits, not for long, until all is shown: what follows on standard output comes after it.
pub(crate) fn settle() {
    let begun = Instant::now();
    while WAITING.load(Ordering::Acquire) > 0 && !STUCK.load(Ordering::Relaxed) {
        if begun.elapsed() > PATIENCE {
            STUCK.store(true, Ordering::Relaxed);
            return;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Standard error for whoever wants something to write to.
pub(crate) struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        err(format_args!("{}", String::from_utf8_lossy(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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

/// Brings everything to its reader; why it does not hold all that was printed, if somebody wanted to read it.
pub(crate) fn lost() -> Option<&'static str> {
    settle();
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
