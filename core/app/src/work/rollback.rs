//! A run goes back to a checkpoint of its own: looked for and read before anything is promised, on record
//! before anything is undone. A worker that dies in between leaves the rest to the next one, which comes
//! to the same from the log.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use hm_domain::attempt::ReturnPoint;
use hm_domain::command::{Asked, Command};
use hm_domain::event::*;
use hm_domain::id::{BindingId, Digest};
use hm_domain::state::RunState;

use crate::runtime::wait_for;
use crate::work::anchor::{OnRecord, Vouched, on_record, return_point};
use crate::work::run_loop::Run;

impl Run {
    /// Answers a wish to go back, and goes back if it can be obeyed; why not, if it is refused.
    pub(crate) fn go_back(&mut self, asked: &Asked) -> Result<Option<String>> {
        // It may be the one that is asked for. If it is of no use, going back is what helps: the run ends
        // for it only where it cannot.
        let broken = self.wait_for_checkpoint()?.or(self.broken.take());
        let point = match &asked.command {
            Command::Rollback { to, .. } => self.point_of(*to)?,
            _ => Err("it names no checkpoint".to_owned()),
        };
        let decided = self.mentor.answer_rollback(asked, point);
        let (refusal, rolled) = match &decided.events[..] {
            [Event::CommandAnswered(answered)] => (answered.refusal.clone(), None),
            [_, Event::RolledBack(rolled)] => (None, Some((**rolled).clone())),
            _ => (None, None),
        };
        self.commit(decided)?;
        match rolled {
            Some(rolled) => self.obey_rollback(&rolled)?,
            None => self.broken = broken,
        }
        Ok(refusal)
    }

    /// The newest whole checkpoint of a step, with all that is needed to go on from it; why there is none.
    fn point_of(&mut self, step: u64) -> Result<Result<ReturnPoint, String>> {
        let on_record = on_record(&self.runtime, &self.store, self.id)?;
        let mut refused =
            format!("no checkpoint of step {step} is on record{}", others(&on_record));
        for (seq, saved) in on_record.iter().filter(|(_, saved)| saved.step == step) {
            let folder = self.checkpoints.folder().join(&saved.folder);
            let point = match self.trainer.verify(&folder, saved.digest) {
                Ok(()) => {
                    return_point(&self.runtime, &self.store, self.id, (*seq, saved), &folder)?
                }
                Err(error) => Err(error.to_string()),
            };
            let point = match point {
                Ok(Vouched { point, .. }) => self.can_go_on(&point)?.map(|()| point),
                Err(reason) => Err(reason),
            };
            match point {
                Ok(point) => return Ok(Ok(point)),
                Err(reason) => {
                    refused =
                        format!("the checkpoint of step {step} cannot be gone back to: {reason}");
                }
            }
        }
        Ok(Err(refused))
    }

    /// Whether the plugins that were bound there are at hand, and their states.
    fn can_go_on(&self, point: &ReturnPoint) -> Result<Result<(), String>> {
        let state = RunState::from_snapshot(&point.state)?;
        for (id, binding) in state.bindings.iter().filter(|(_, binding)| binding.live) {
            if let Err(error) = self.registry.load_as_bound(&binding.facts) {
                return Ok(Err(format!("{error:#}")));
            }
            if self.kept_state(binding.state)?.is_none() {
                return Ok(Err(format!("the kept state of binding {id} is not in the database")));
            }
        }
        Ok(Ok(()))
    }

    /// Brings trainer, sampler and plugins to where the log says that the run is.
    fn obey_rollback(&mut self, rolled: &RolledBack) -> Result<()> {
        let folder: PathBuf = self.checkpoints.folder().join(&rolled.checkpoint.folder);
        self.trainer.load(&folder, rolled.checkpoint.digest)?;
        self.checkpoints.return_to(&rolled.checkpoint.folder);
        let state = self.mentor.state();
        self.sampler.restore(&state.cursors, &state.carries)?;
        let live = state.bindings.iter().filter(|(_, binding)| binding.live);
        let wanted: Vec<(BindingId, Digest)> =
            live.map(|(&id, binding)| (id, binding.state)).collect();
        for (id, digest) in wanted {
            let bytes = self.kept_state(digest)?;
            let bytes = bytes.with_context(|| format!("plugin state {digest} is gone"))?;
            self.mentor.restore(id, bytes);
        }
        self.checkpoint_due = false;
        self.progress.go_back(rolled.to_step);
        Ok(())
    }

    fn kept_state(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        Ok(wait_for(&self.runtime, self.store.blob(digest))?)
    }
}

/// The steps that can be gone back to, for people.
pub(crate) fn others(on_record: &[OnRecord]) -> String {
    let mut steps: Vec<u64> = on_record.iter().map(|(_, saved)| saved.step).collect();
    steps.sort_unstable();
    steps.dedup();
    let newest: Vec<String> = steps.iter().rev().take(8).rev().map(u64::to_string).collect();
    match newest.is_empty() {
        true => ": there is none at all".to_owned(),
        false => format!("; the newest are of step {}", newest.join(", ")),
    }
}
