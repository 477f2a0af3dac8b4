//! Ctrl-C, SIGTERM and a terminal that is closed: the first asks the work in hand to end in good order,
//! the second ends it. Under `nohup` the terminal may close.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{SigHandler, Signal, signal};

/// How soon a wait notices that it is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// A second signal that comes sooner is the first one: `timeout` and other wrappers pass on what the
/// terminal has sent to everybody already.
const SECOND_AFTER: Duration = Duration::from_secs(1);
/// Work that ends sooner needs no word.
const WORD_AFTER: Duration = Duration::from_millis(500);

/// When the first signal came.
static FIRST: OnceLock<Instant> = OnceLock::new();
/// Whether signals are taken over.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Work that was asked to end where it had nothing to save; it says where that was.
#[derive(Debug, thiserror::Error)]
#[error("interrupted {0}")]
pub(crate) struct Interrupted(pub(crate) &'static str);

/// Raised by the first signal. Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    raised: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes over the signals of this process, once.
    pub(crate) fn install() -> Result<Interrupt> {
        let interrupt = Interrupt::default();
        let raised = Arc::clone(&interrupt.raised);
        let hangup_before = hangup(SigHandler::SigIgn)?;
        ctrlc::set_handler(move || {
            let is_first = FIRST.set(Instant::now()).is_ok();
            raised.store(true, Ordering::Relaxed);
            if is_first {
                std::thread::spawn(say_that_it_ends);
            } else if FIRST.get().is_some_and(|first| first.elapsed() >= SECOND_AFTER) {
                // Nothing acknowledged is lost: the log is on disk and the next start catches up.
                std::process::exit(130);
            }
        })
        .context("cannot listen for Ctrl-C")?;
        // Who says `nohup` means it.
        if matches!(hangup_before, SigHandler::SigIgn) {
            hangup(SigHandler::SigIgn)?;
        }
        INSTALLED.store(true, Ordering::Relaxed);
        Ok(interrupt)
    }

    /// For who may not wait long once it is raised.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.raised)
    }

    /// Waits so long, or until it is raised; whether it is.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let begun = Instant::now();
        while !self.raised() && begun.elapsed() < time {
            std::thread::sleep(LOOK_INTERVAL.min(time));
        }
        self.raised()
    }

    /// Whether the work should end.
    pub(crate) fn raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }
}

/// Whether this process takes Ctrl-C as a wish to end in good order.
pub(crate) fn is_installed() -> bool {
    INSTALLED.load(Ordering::Relaxed)
}

/// Whether that wish has come.
pub(crate) fn is_raised() -> bool {
    FIRST.get().is_some()
}

/// Ends the process, as a second Ctrl-C does, and says why.
pub(crate) fn end(why: &str) -> ! {
    eprintln!("hm: interrupted: {why}");
    crate::terminal::settle();
    std::process::exit(130)
}

/// An answer to who has pressed Ctrl-C: a step in hand may take minutes.
fn say_that_it_ends() {
    std::thread::sleep(WORD_AFTER);
    eprintln!("finishing what is in hand, then ending in good order; Ctrl-C again ends at once");
}

/// Sets what SIGHUP does; what it did before.
fn hangup(handler: SigHandler) -> Result<SigHandler> {
    #[expect(
        unsafe_code,
        reason = "ignoring a signal or leaving it as it was runs no code of ours in it"
    )]
    let before = unsafe { signal(Signal::SIGHUP, handler) };
    before.context("cannot see what a closed terminal does")
}
