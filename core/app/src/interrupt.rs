//! Ctrl-C and SIGTERM: the first asks the work in hand to end in good order, the second ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How soon a wait notices that it is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

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
        ctrlc::set_handler(move || {
            if raised.swap(true, Ordering::Relaxed) {
                // Nothing acknowledged is lost: the log is on disk and the next start catches up.
                std::process::exit(130);
            }
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(interrupt)
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
