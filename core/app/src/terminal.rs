//! What is printed, whoever listens. Beyond this module `println!` and its kin are these: the standard
//! ones panic where nobody reads any more (`hm runs ls | head -1`), and a run must not end because a pipe
//! is closed. So words that nobody reads are dropped, the work goes on, and its exit code stays what it
//! was; output that is lost for another reason, such as a full disk, is an error at the end.
//!
//! Nor does work stand still because the terminal does (Ctrl-S, a pager, a connection that hangs):
//! standard error is written by a thread of its own, and what it cannot take is dropped.
//!
//! And whatever the words hold: names, reasons and messages come from run files, plugins and strangers'
//! requests, and a terminal obeys some characters instead of showing them. Here each of these becomes
//! its number, as JSON writes it, so that JSON stays JSON.

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
    write(&shown(&words.to_string()));
}

/// A text that is what was asked for: shown like any other on a terminal, itself in a file.
pub(crate) fn product(text: &str) {
    match io::stdout().is_terminal() {
        true => write(&shown(text)),
        false => write(text),
    }
}

fn write(text: &str) {
    settle();
    if let Err(error) = io::stdout().lock().write_all(text.as_bytes()) {
        note_loss(&error);
    }
}

/// Behind `eprint!` and `eprintln!`. Where it cannot be said there is nobody to say it to.
pub(crate) fn err(words: Arguments<'_>) {
    say(shown(&words.to_string()));
}

fn say(words: String) {
    let mut waiting = Shown::Words(words);
    let begun = Instant::now();
    while let Err(unsent) = hand_over(waiting) {
        if STUCK.load(Ordering::Relaxed) || begun.elapsed() > PATIENCE {
            STUCK.store(true, Ordering::Relaxed);
            return;
        }
        waiting = unsent;
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

/// Words as a terminal shows them and does nothing else: line ends and tabs stay, what would move the
/// cursor, colour or turn the text becomes `\u001b` and the like.
pub(crate) fn shown(words: &str) -> String {
    let mut shown = String::with_capacity(words.len());
    for character in words.chars() {
        let obeyed = match character {
            '\n' | '\t' => false,
            // Soft hyphen, direction marks and overrides, separators of lines, invisible signs and tags.
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' => true,
            '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => true,
            '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
            other => other.is_control(),
        };
        if obeyed {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                shown += &format!("\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

/// The same on one line, for what stands in a list of lines: nobody can add one.
pub(crate) fn line(words: &str) -> String {
    shown(words).replace('\n', "\\n").replace('\t', "\\t")
}

/// Standard error for the log's events, each of which comes whole: the same as for other words, on one
/// line each. Colours are the log's own: it lets nobody else's through.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let parts: Vec<String> = text.split('\u{1b}').map(line).collect();
        say(format!("{}\n", parts.join("\u{1b}")));
        Ok(event.len())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_control_a_terminal() {
        let hostile = "a\u{1b}[2J\u{1b}]0;p\u{7}\r\u{9b}31m\u{202e}b\u{7f}\u{feff}\u{e0041}";
        assert_eq!(
            shown(hostile),
            "a\\u001b[2J\\u001b]0;p\\u0007\\u000d\\u009b31m\\u202eb\\u007f\\ufeff\\udb40\\udc41"
        );
        let honest = "数据\tnaïve 👩‍💻 می‌خواهم\nnext";
        assert_eq!(shown(honest), honest);
    }

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(line("x\nobeyed a command\tof root"), "x\\nobeyed a command\\tof root");
    }

    #[test]
    fn json_stays_what_it_says() {
        let value = serde_json::json!({"a\u{202e}": "\\\u{9b}\u{e0041}\u{1b}\n"});
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let back: serde_json::Value = serde_json::from_str(&shown(&text)).unwrap();
            assert_eq!(back, value);
        }
    }
}
