//! A run's checkpoints on disk: those that its log names. Whatever else lies beside them belongs to a
//! person and is neither counted nor touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hm_domain::checkpoint::CheckpointState;
use hm_domain::event::{CheckpointSaved, PassedOver};
use hm_train::{TrainError, Trainer};

/// The checkpoints of one run.
pub(crate) struct Checkpoints {
    folder: PathBuf,
    /// As the log names them, oldest first; no folder twice, and none that was deleted.
    named: Vec<CheckpointSaved>,
    /// Folders that this worker has saved or read, and whether they are whole.
    whole: BTreeMap<String, bool>,
}

/// A checkpoint that the trainer has taken up.
pub(crate) struct TakenUp {
    /// Seq of its event.
    pub(crate) seq: u64,
    /// As its event names it.
    pub(crate) saved: CheckpointSaved,
    /// What it holds beside the tensors.
    pub(crate) content: CheckpointState,
}

impl Checkpoints {
    /// Of the run whose checkpoints lie in `folder`; none is known yet.
    pub(crate) fn new(folder: PathBuf) -> Checkpoints {
        Checkpoints { folder, named: Vec::new(), whole: BTreeMap::new() }
    }

    /// Where they lie.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Notes what an event of the log names.
    pub(crate) fn note(&mut self, saved: CheckpointSaved) {
        self.named.retain(|other| other.folder != saved.folder);
        self.named.push(saved);
    }

    /// Notes what has just been saved and logged.
    pub(crate) fn note_whole(&mut self, saved: CheckpointSaved) {
        self.whole.insert(saved.folder.clone(), true);
        self.note(saved);
    }

    /// Whether the newest on record is of this step, and whole as far as this worker knows.
    pub(crate) fn hold(&self, step: u64) -> bool {
        let newest = self.named.last().filter(|saved| saved.step == step);
        newest.is_some_and(|saved| self.whole.get(&saved.folder) == Some(&true))
    }

    /// Loads the newest of `on_record` that is whole, and says which newer ones are not. Those that are
    /// gone count only as long as they are among the newest `keep`: older ones were deleted on purpose.
    pub(crate) fn take_up(
        &mut self,
        on_record: impl Iterator<Item = (u64, CheckpointSaved)>,
        keep: usize,
        trainer: &mut Trainer,
    ) -> (Option<TakenUp>, Vec<PassedOver>) {
        let mut passed_over: Vec<PassedOver> = Vec::new();
        for (index, (seq, saved)) in on_record.enumerate() {
            let path = self.folder.join(&saved.folder);
            if passed_over.iter().any(|other| other.checkpoint == saved.digest)
                || (index >= keep && !path.exists())
            {
                continue;
            }
            match trainer.load(&path, saved.digest) {
                Ok(content) => {
                    self.whole.insert(saved.folder.clone(), true);
                    return (Some(TakenUp { seq, saved, content }), passed_over);
                }
                Err(error) => {
                    self.whole.insert(saved.folder, false);
                    let (step, checkpoint) = (saved.step, saved.digest);
                    passed_over.push(PassedOver { step, checkpoint, reason: error.to_string() });
                }
            }
        }
        (None, passed_over)
    }

    /// Deletes those beyond the newest `keep` whole ones. Fewer whole ones, and all stay.
    pub(crate) fn prune(&mut self, keep: usize, trainer: &Trainer) -> Result<Vec<CheckpointSaved>> {
        let (mut left, mut oldest_kept) = (keep, self.named.len());
        while left > 0 {
            let Some(older) = oldest_kept.checked_sub(1) else { return Ok(Vec::new()) };
            oldest_kept = older;
            left -= usize::from(self.is_whole(older, trainer));
        }
        let mut deleted = Vec::new();
        for _ in 0..oldest_kept {
            let path = self.folder.join(&self.named[0].folder);
            match std::fs::remove_dir_all(&path) {
                Ok(()) => deleted.push(self.named.remove(0)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    self.named.remove(0);
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot delete {}", path.display()));
                }
            }
        }
        Ok(deleted)
    }

    /// Deletes all but the newest whole one, which is read once more before the others go.
    pub(crate) fn make_room(&mut self, trainer: &Trainer) -> Result<Vec<CheckpointSaved>> {
        self.whole.clear();
        self.prune(1, trainer)
    }

    /// Reads a folder once; what this worker has saved or read it trusts.
    fn is_whole(&mut self, index: usize, trainer: &Trainer) -> bool {
        let CheckpointSaved { folder, digest, .. } = &self.named[index];
        let read = || trainer.verify(&self.folder.join(folder), *digest).is_ok();
        *self.whole.entry(folder.clone()).or_insert_with(read)
    }
}

/// Whether a checkpoint could not be saved since there was no room for it.
pub(crate) fn has_no_room(error: &TrainError) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error, TrainError::File { reason, .. } if matches!(reason.kind(), StorageFull | QuotaExceeded))
}
