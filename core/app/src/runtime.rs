//! The asynchronous side of a program that is otherwise a plain thread: whatever asks the database waits
//! here, and can be asked to end while it does.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::runtime::Handle;

use crate::interrupt;

/// How often a wait looks whether it should end.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A wait that is longer is told; one that is interrupted ends after so long.
const LONG: Duration = Duration::from_secs(10);
/// How long tasks may take to end with the program.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

/// One per process.
pub(crate) struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    /// Starts its threads.
    pub(crate) fn start() -> Result<Runtime> {
        let started = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
        Ok(Runtime(Some(started)))
    }

    /// For those who wait or spawn elsewhere.
    pub(crate) fn handle(&self) -> &Handle {
        self.0.as_ref().expect("it is there until it is dropped").handle()
    }

    /// See [`wait_for`].
    pub(crate) fn block_on<F: Future>(&self, work: F) -> F::Output {
        wait_for(self.handle(), work)
    }

    /// Runs beside the thread that waits.
    pub(crate) fn spawn<F>(&self, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.handle().spawn(work)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(SHUTDOWN_PATIENCE);
        }
    }
}

/// Waits for `work`. Where Ctrl-C is taken to end work in good order, a long wait is told, and ends the
/// program once that is asked for: nothing acknowledged is lost, as after a second Ctrl-C.
pub(crate) fn wait_for<F: Future>(handle: &Handle, work: F) -> F::Output {
    handle.block_on(async {
        let (mut work, begun, mut told) = (pin!(work), Instant::now(), false);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            if begun.elapsed() < LONG || !interrupt::is_installed() {
                continue;
            }
            if interrupt::is_raised() {
                let seconds = begun.elapsed().as_secs();
                interrupt::end(&format!("what was waited for has not come in {seconds} s"));
            }
            if !told {
                eprintln!("waiting for the database since {} s; Ctrl-C ends that", LONG.as_secs());
                told = true;
            }
        }
    })
}
