//! Where components are compiled: one at a time and on few threads, since each thread holds what it
//! compiles, and a run trains meanwhile.

use std::sync::{Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{HostError, Result};

/// Threads that compile, if the machine has so many.
const THREADS_MAX: usize = 2;

/// The host's compiling threads.
pub(crate) struct Compiler {
    threads: ThreadPool,
    turn: Mutex<()>,
}

impl Compiler {
    pub(crate) fn new() -> Result<Compiler> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let threads = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|number| format!("plugin-compiler-{number}"))
            .build()
            .map_err(|error| HostError::Engine(error.to_string()))?;
        Ok(Compiler { threads, turn: Mutex::new(()) })
    }

    /// Compiles when its turn comes.
    pub(crate) fn compile<T: Send>(&self, compile: impl FnOnce() -> T + Send) -> T {
        // A compiler that panicked holds nothing that the next one needs.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.threads.install(compile)
    }
}
