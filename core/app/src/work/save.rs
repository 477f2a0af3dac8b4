//! When and how this worker saves: in the run's course by a thread of its own, at its end in the loop.
//!
//! `CheckpointBegun` stands where the checkpoint is of, `CheckpointSaved` or `CheckpointFailed` at the
//! boundary at which it is known what came of it. A worker that dies in between has begun one in vain.

use std::time::Duration;

use anyhow::Result;
use hm_domain::ending::Due;
use hm_domain::event::*;
use hm_domain::id::Digest;
use hm_domain::made;
use hm_domain::mentor::Decided;
use hm_train::{SavedCheckpoint, TrainError};

use crate::work::checkpoints::has_no_room;
use crate::work::run_loop::Run;
use crate::work::run_states;
use crate::work::saving::Saving;

/// Pauses between the tries of a run's last checkpoint: a disk that is full for a moment costs nothing,
/// and nobody waits long for one that stays full.
pub(crate) const LAST_CHECKPOINT_PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

impl Run {
    /// What is due between steps; the end of the run sees to what is due then. Why the run cannot go
    /// on, if its weights are such that nothing will ever be saved again.
    pub(crate) fn carry_out_what_is_due(&mut self) -> Result<Option<Due>> {
        let state = self.mentor.state();
        let validate = state.validation_is_due();
        self.checkpoint_due |= state.next_step.is_multiple_of(state.spec.checkpoint.every_steps);
        if validate {
            self.validate()?;
        }
        self.save_what_is_due()
    }

    /// Begins the checkpoint that is due, if one is. Weights that give no numbers wait: they may be ruined,
    /// and either way they are those of an older checkpoint or become others with the next step that does.
    /// Why the run cannot go on, as above.
    pub(crate) fn save_what_is_due(&mut self) -> Result<Option<Due>> {
        let state = self.mentor.state();
        if !self.checkpoint_due || state.learns_nothing() || state.ending_due().is_some() {
            return Ok(None);
        }
        if self.saving.as_ref().is_some_and(|saving| !saving.is_done()) {
            self.progress
                .say("training waits: the checkpoint before this one is still being written");
        }
        // What came of the one before may be that another is due, or that none ever is.
        if let Some(broken) = self.wait_for_checkpoint()? {
            return Ok(Some(broken));
        }
        self.checkpoint_due = false;
        if !self.copies {
            let failed = self.checkpoint(&[])?;
            return Ok(failed.and_then(|error| self.broken(&error)));
        }
        if self.checkpoints.hold(self.mentor.state().next_step) {
            return Ok(None);
        }
        let snapshot = self.begin_checkpoint()?;
        let content = self.mentor.state().checkpoint_state();
        let folder = self.checkpoints.folder().to_owned();
        let begun = self.trainer.copy().and_then(|copy| {
            Saving::begin(copy, folder.clone(), content, snapshot)
                .map_err(|reason| TrainError::File { path: folder, reason })
        });
        match begun {
            Ok(saving) => self.saving = Some(saving),
            Err(error) => drop(self.conclude(Err(error))?),
        }
        Ok(None)
    }

    /// Logs what came of the checkpoint that is being written, once it is known. Why the run cannot go on,
    /// as above.
    pub(crate) fn look_after_checkpoint(&mut self) -> Result<Option<Due>> {
        if let Some(broken) = self.broken.take() {
            return Ok(Some(broken));
        }
        match &self.saving {
            Some(saving) if saving.is_done() => self.wait_for_checkpoint(),
            _ => Ok(None),
        }
    }

    /// The same, waited for.
    pub(crate) fn wait_for_checkpoint(&mut self) -> Result<Option<Due>> {
        let Some(saving) = self.saving.take() else { return Ok(None) };
        let Some(error) = self.conclude(saving.end())? else { return Ok(None) };
        if has_no_room(&error) && self.make_room(&error) {
            self.checkpoint_due = true;
        }
        Ok(self.broken(&error))
    }

    /// Saves a checkpoint in the loop, with a further try after each of `pauses`. Why it could not be
    /// saved, if so: that is logged too.
    pub(crate) fn checkpoint(&mut self, pauses: &[Duration]) -> Result<Option<TrainError>> {
        self.wait_for_checkpoint()?;
        if self.checkpoints.hold(self.mentor.state().next_step) {
            return Ok(None);
        }
        let snapshot = self.begin_checkpoint()?;
        let mut tried = self.save(&snapshot);
        for pause in pauses {
            let Err(error) = &tried else { break };
            if matches!(error, TrainError::WeightsNotFinite { .. }) {
                break;
            }
            self.progress.say(&format!(
                "the last checkpoint cannot be saved: {error}; trying again in {} s, Ctrl-C leaves \
                 the run unfinished",
                pause.as_secs()
            ));
            if self.interrupt.wait(*pause) {
                break;
            }
            tried = self.save(&snapshot);
        }
        self.conclude(tried)
    }

    /// Keeps all plugin states and says that a checkpoint is begun. All that it rests on is on disk before
    /// it is: no log ends before a checkpoint of its own. The run's state that belongs to it, as bytes.
    fn begin_checkpoint(&mut self) -> Result<Vec<u8>> {
        let kept = self.mentor.keep_states();
        self.record(kept)?;
        let state = self.mentor.state();
        let (step, snapshot) = (state.next_step, state.snapshot());
        let event = Event::CheckpointBegun(CheckpointBegun { step, state: Digest::of(&snapshot) });
        self.commit(Decided { events: vec![event], states: Vec::new() })?;
        Ok(snapshot)
    }

    /// Logs what came of the checkpoint that was begun.
    fn conclude(
        &mut self,
        tried: Result<SavedCheckpoint, TrainError>,
    ) -> Result<Option<TrainError>> {
        let begun = self.mentor.state().begun.expect("what is saved was begun");
        let (step, begun) = (begun.step, begun.seq);
        match tried {
            Ok(SavedCheckpoint { digest, folder, bytes }) => {
                let saved = made::checkpoint(self.mentor.state(), (begun, step), (digest, bytes));
                debug_assert_eq!(saved.folder, folder);
                let event = Event::CheckpointSaved(saved.clone());
                self.commit(Decided { events: vec![event], states: Vec::new() })?;
                self.anchor(Some(&self.checkpoints.folder().join(&saved.folder)));
                self.checkpoints.note_whole(saved);
                self.prune();
                Ok(None)
            }
            Err(error) => {
                self.progress.say(&format!("checkpoint at step {step} failed: {error}"));
                let reason = error.to_string();
                let event = Event::CheckpointFailed(CheckpointFailed { step, reason });
                self.commit(Decided { events: vec![event], states: Vec::new() })?;
                Ok(Some(error))
            }
        }
    }

    /// How a run ends whose weights are such that none will ever be saved again. A full disk is told and
    /// logged, and the run goes on.
    fn broken(&self, error: &TrainError) -> Option<Due> {
        let is_broken = matches!(error, TrainError::WeightsNotFinite { .. });
        is_broken.then(|| self.mentor.state().failed_end()).flatten()
    }

    /// One try. A disk that is full is given the room of older checkpoints, all but the newest.
    fn save(&mut self, snapshot: &[u8]) -> Result<SavedCheckpoint, TrainError> {
        let tried = self.save_here(snapshot);
        let Err(error) = tried else { return tried };
        if !has_no_room(&error) || !self.make_room(&error) {
            return Err(error);
        }
        self.save_here(snapshot)
    }

    /// The weights as they are, with the run's state beside them.
    fn save_here(&self, snapshot: &[u8]) -> Result<SavedCheckpoint, TrainError> {
        let folder = self.checkpoints.folder();
        let saved = self.trainer.save(folder, &self.mentor.state().checkpoint_state())?;
        run_states::keep(&folder.join(&saved.folder), snapshot)?;
        Ok(saved)
    }

    /// Deletes older checkpoints, all but the newest and milestones, for one that had no room. Whether
    /// there is more of it now.
    fn make_room(&mut self, error: &TrainError) -> bool {
        let state = self.mentor.state();
        let (of, proven) = (&state.spec.checkpoint, state.proven.as_ref());
        match self.checkpoints.make_room(of, proven, &self.trainer) {
            Ok(deleted) if deleted.is_empty() => false,
            Ok(deleted) => {
                let steps = deleted.iter().map(|saved| saved.step.to_string()).collect::<Vec<_>>();
                let steps = steps.join(", ");
                self.progress
                    .say(&format!("{error}: older checkpoints make room, of step {steps}"));
                true
            }
            Err(stays) => {
                self.progress.say(&format!("an old checkpoint stays: {stays:#}"));
                false
            }
        }
    }

    /// Deletes what workers left that died between a checkpoint and its event: of steps from the `newest`
    /// that the log names to its end. Later ones are of another log, such as that of a database which was
    /// restored since.
    pub(crate) fn remove_strays(&mut self, newest: u64) {
        let state = self.mentor.state();
        match self.checkpoints.remove_strays(state.attempt, newest..=state.next_step) {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => self.progress.say(&format!(
                "deleted what a worker left that died as it saved, which no event names: {}",
                removed.join(", ")
            )),
            Err(error) => {
                self.progress.say(&format!("a checkpoint that no event names stays: {error:#}"))
            }
        }
    }

    /// Deletes older checkpoints: after a newer one is on record, or is known to give numbers.
    pub(crate) fn prune(&mut self) {
        let state = self.mentor.state();
        let (of, proven) = (&state.spec.checkpoint, state.proven.as_ref());
        if let Err(error) = self.checkpoints.prune(of, proven, &self.trainer) {
            self.progress.say(&format!("an old checkpoint stays: {error:#}"));
        }
    }
}
