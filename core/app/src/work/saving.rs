//! A checkpoint on its way to disk: a thread writes it from a copy while training goes on. One at a time.
//!
//! What comes of it is logged by the loop, at a step boundary.

use std::path::PathBuf;
use std::thread::JoinHandle;

use hm_domain::checkpoint::CheckpointState;
use hm_train::{SavedCheckpoint, TrainError, TrainerCopy};

use crate::work::run_states;

/// The thread that writes one.
pub(crate) struct Saving {
    /// None once it has been waited for.
    thread: Option<JoinHandle<Result<SavedCheckpoint, TrainError>>>,
}

impl Saving {
    /// Begins to write the copy and the state that belongs to it under `folder`, with the run's state as
    /// bytes beside them.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn begin(
        copy: TrainerCopy,
        folder: PathBuf,
        state: CheckpointState,
        snapshot: Vec<u8>,
    ) -> std::io::Result<Saving> {
        let write = move || {
            let saved = copy.save(&folder, &state)?;
            run_states::keep(&folder.join(&saved.folder), &snapshot)?;
            Ok(saved)
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(write)?;
        Ok(Saving { thread: Some(thread) })
    }

    /// Whether it has come to its end.
    pub(crate) fn is_done(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for it: what is on disk now, or why nothing is.
    pub(crate) fn end(mut self) -> Result<SavedCheckpoint, TrainError> {
        let thread = self.thread.take().expect("it is waited for once");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Saving {
    /// A worker that ends otherwise leaves nothing half written.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Nobody asks any more what came of it: the next worker removes what no event names.
            let _ = thread.join();
        }
    }
}
