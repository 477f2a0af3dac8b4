//! A run's checkpoints on disk: those that its log names. Whatever else lies beside them belongs to a
//! person and is neither counted nor touched, but for what a worker left that died as it saved.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hm_domain::checkpoint::CheckpointState;
use hm_domain::event::{CheckpointSaved, PassedOver};
use hm_domain::spec::CheckpointSpec;
use hm_domain::state::RunState;
use hm_train::{TrainError, Trainer};

use crate::work::anchor::OnRecord;
use crate::work::resume::CaughtUp;
use crate::work::run_states;

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

    /// Notes all that the log names, `on_record` being the newest first: what the run has gone back to
    /// counts as newer than what it left behind.
    pub(crate) fn note_all(&mut self, on_record: &[OnRecord], turns: &[(u64, u64, String)]) {
        let mut turns = turns.iter().peekable();
        for (seq, saved) in on_record.iter().rev() {
            while let Some((_, _, folder)) = turns.next_if(|(turned, ..)| turned < seq) {
                self.return_to(folder);
            }
            self.note(saved.clone());
        }
        turns.for_each(|(_, _, folder)| self.return_to(folder));
    }

    /// Notes that the run has gone back to a checkpoint.
    pub(crate) fn return_to(&mut self, folder: &str) {
        if let Some(place) = self.named.iter().position(|saved| saved.folder == folder) {
            let saved = self.named.remove(place);
            self.named.push(saved);
        }
    }

    /// The one on record that was begun by the event at `seq`.
    pub(crate) fn begun_at(&self, seq: u64) -> Option<CheckpointSaved> {
        self.named.iter().find(|saved| saved.begun == seq).cloned()
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
        on_record: impl Iterator<Item = OnRecord>,
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

    /// Saves one that the log names once more where catch-up has come to it and it is not whole: a worker
    /// that is ended on the way has not caught up in vain. Only where the same bits come out again. What
    /// cannot be done here stands in nobody's way, and is told.
    pub(crate) fn save_again(
        &mut self,
        logged: &CheckpointSaved,
        (state, snapshot): (&RunState, &[u8]),
        trainer: &Trainer,
        caught_up: &mut CaughtUp,
    ) {
        let is_whole = self.whole.get(&logged.folder) == Some(&true);
        if is_whole || !trainer.is_exact() || caught_up.disagreement.is_some() {
            return;
        }
        let step = logged.step;
        let tried = trainer.save(&self.folder, &state.checkpoint_state()).and_then(|saved| {
            run_states::keep(&self.folder.join(&saved.folder), snapshot)?;
            Ok(saved)
        });
        match tried {
            Err(error) => {
                eprintln!("the checkpoint of step {step} cannot be saved again: {error}");
            }
            Ok(saved) if saved.digest != logged.digest => {
                let (now, then) = (saved.digest.short(), logged.digest.short());
                caught_up.disagreement =
                    Some(format!("the checkpoint of step {step} is {now} now, {then} in the log"));
                if let Err(error) = std::fs::remove_dir_all(self.folder.join(&saved.folder)) {
                    eprintln!("the folder {} stays, which no event names: {error}", saved.folder);
                }
            }
            Ok(saved) => {
                self.whole.insert(saved.folder, true);
                let of = &state.spec.checkpoint;
                if let Err(error) = self.prune(of, state.proven.as_ref(), trainer) {
                    eprintln!("an old checkpoint stays: {error:#}");
                }
            }
        }
    }

    /// Deletes those beyond the newest `keep` whole ones, but no milestone and never the newest whole one
    /// that is known to give numbers, which is `proven` or an older one. Where there are fewer, all stay.
    pub(crate) fn prune(
        &mut self,
        of: &CheckpointSpec,
        proven: Option<&CheckpointSaved>,
        trainer: &Trainer,
    ) -> Result<Vec<CheckpointSaved>> {
        let is_proven =
            |saved: &CheckpointSaved| proven.is_some_and(|it| it.folder == saved.folder);
        let Some(proven) = self.named.iter().position(is_proven) else { return Ok(Vec::new()) };
        let (mut left, mut is_safe, mut oldest_kept) = (of.keep, false, self.named.len());
        while left > 0 || !is_safe {
            let Some(older) = oldest_kept.checked_sub(1) else { return Ok(Vec::new()) };
            oldest_kept = older;
            if self.is_whole(older, trainer) {
                left = left.saturating_sub(1);
                is_safe |= older <= proven;
            }
        }
        let milestones = milestones(&self.named, of.keep_every);
        let mut deleted = Vec::new();
        for index in (0..oldest_kept).rev().filter(|index| !milestones[*index]) {
            let path = self.folder.join(&self.named[index].folder);
            match std::fs::remove_dir_all(&path) {
                Ok(()) => deleted.push(self.named.remove(index)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    self.named.remove(index);
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot delete {}", path.display()));
                }
            }
        }
        deleted.reverse();
        Ok(deleted)
    }

    /// Deletes all but milestones, the newest whole one and the newest that is known to give numbers, which
    /// are read once more before the others go.
    pub(crate) fn make_room(
        &mut self,
        of: &CheckpointSpec,
        proven: Option<&CheckpointSaved>,
        trainer: &Trainer,
    ) -> Result<Vec<CheckpointSaved>> {
        self.whole.clear();
        self.prune(&CheckpointSpec { keep: 1, ..of.clone() }, proven, trainer)
    }

    /// Deletes whole checkpoints of `attempt` and a step in `steps` that no event names: a worker died
    /// before it could say that they are there, and what it would have said is known to nobody. Only
    /// folders that are ours to the letter, by their names and by the state in them.
    pub(crate) fn remove_strays(
        &self,
        attempt: u32,
        steps: RangeInclusive<u64>,
    ) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        let is_ours =
            |saved: &CheckpointState| saved.attempt == attempt && steps.contains(&saved.next_step);
        for (folder, state) in hm_train::checkpoints_in(&self.folder)? {
            if is_ours(&state) && !self.named.iter().any(|saved| saved.folder == folder) {
                let path = self.folder.join(&folder);
                std::fs::remove_dir_all(&path)
                    .with_context(|| format!("cannot delete {}", path.display()))?;
                removed.push(folder);
            }
        }
        Ok(removed)
    }

    /// Reads a folder once; what this worker has saved or read it trusts.
    fn is_whole(&mut self, index: usize, trainer: &Trainer) -> bool {
        let CheckpointSaved { folder, digest, .. } = &self.named[index];
        let read = || trainer.verify(&self.folder.join(folder), *digest).is_ok();
        *self.whole.entry(folder.clone()).or_insert_with(read)
    }
}

/// Which of the checkpoints `named`, in whatever order, are milestones: of each attempt the first at or after
/// each multiple of `every` steps, which may itself have passed without one.
fn milestones(named: &[CheckpointSaved], every: u64) -> Vec<bool> {
    fn attempt(saved: &CheckpointSaved) -> Option<&str> {
        saved.folder.split('-').next()
    }
    let multiple = |saved: &CheckpointSaved| saved.step.checked_div(every).unwrap_or(0);
    let is_first = |saved: &CheckpointSaved| {
        !named.iter().any(|other| {
            attempt(other) == attempt(saved)
                && other.step < saved.step
                && multiple(other) == multiple(saved)
        })
    };
    named.iter().map(|saved| multiple(saved) > 0 && is_first(saved)).collect()
}

/// Whether a checkpoint could not be saved since there was no room for it.
pub(crate) fn has_no_room(error: &TrainError) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error, TrainError::File { reason, .. } if matches!(reason.kind(), StorageFull | QuotaExceeded))
}

#[cfg(test)]
mod tests {
    use hm_domain::id::Digest;

    use super::*;

    #[test]
    fn milestone_that_a_run_has_gone_back_to_is_one_still() {
        let saved = |attempt: u32, step: u64| {
            let digest = Digest::of(&step.to_le_bytes());
            let folder = hm_domain::checkpoint::folder_name(attempt, step, &digest);
            CheckpointSaved { step, begun: 0, digest, folder, bytes: 1 }
        };
        let named = [saved(0, 40), saved(0, 60), saved(0, 85), saved(0, 120), saved(1, 90)];
        assert_eq!(milestones(&named, 40), [true, false, true, true, true]);
        assert_eq!(milestones(&named, 0), [false; 5]);
        // The one that it has gone back to counts as the newest.
        let gone_back = [saved(0, 40), saved(0, 120), saved(0, 85)];
        assert_eq!(milestones(&gone_back, 40), [true; 3]);
    }
}
