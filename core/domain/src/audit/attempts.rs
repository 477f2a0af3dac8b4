//! Checkpoints and the ways back to them, derived again: the state that a checkpoint was begun with, the
//! begin that it came of, and the checkpoint and the wish that a rollback obeys.

use std::collections::BTreeMap;

use super::Divergence;
use super::host::host;
use crate::attempt::ReturnPoint;
use crate::command::Command;
use crate::event::*;
use crate::id::Digest;
use crate::state::RunState;

/// What the log has said of checkpoints so far.
#[derive(Default)]
pub(super) struct Attempts {
    /// By seq of their begin: step, and digest of the run's state there.
    begun: BTreeMap<u64, (u64, Digest)>,
    /// By seq of the event that they were saved by.
    saved: BTreeMap<u64, (CheckpointSaved, Digest)>,
    /// The wish to go back that has just been obeyed.
    asked: Option<CommandAnswered>,
}

impl Attempts {
    /// Folds the next event. Whether what follows can be judged: not after a rollback to no checkpoint.
    pub(super) fn fold(
        &mut self,
        state: &RunState,
        recorded: &Recorded,
        found: &mut Vec<Divergence>,
    ) -> bool {
        let asked = self.asked.take();
        match &recorded.event {
            Event::CheckpointBegun(begun) => {
                let due = state.digest();
                if begun.state != due {
                    let (logged, due) = (begun.state.to_string(), due.to_string());
                    found.push(host(recorded, "state at a checkpoint", logged, due));
                }
                if let Some(other) = state.begun {
                    let logged = "another, while one is written".to_owned();
                    let due = format!("what becomes of the one of step {}", other.step);
                    found.push(host(recorded, "begin of a checkpoint", logged, due));
                }
                self.begun.insert(recorded.seq, (begun.step, due));
            }
            Event::CheckpointSaved(saved) => match self.begun.get(&saved.begun) {
                Some((step, digest))
                    if *step == saved.step
                        && state.begun.is_some_and(|begun| begun.seq == saved.begun) =>
                {
                    self.saved.insert(recorded.seq, (saved.clone(), *digest));
                }
                _ => {
                    let logged = format!("begun at {}", saved.begun);
                    let due = format!("a checkpoint of step {} that was begun", saved.step);
                    found.push(host(recorded, "begin of a checkpoint", logged, due));
                }
            },
            Event::CommandAnswered(answered) if answered.refusal.is_none() => {
                if let Ok(Command::Rollback { .. }) = serde_json::from_str(&answered.asked) {
                    self.asked = Some(answered.clone());
                }
            }
            Event::RolledBack(rolled) => {
                let due = self.due(state, asked, rolled);
                if due.as_ref() == Ok(&**rolled) {
                    return true;
                }
                let due = due.map_or_else(|refused| refused, |due| told(&due));
                found.push(host(recorded, "rollback", told(rolled), due));
                return self.saved.get(&rolled.seq).is_some_and(|(_, digest)| {
                    *digest == Digest::of(&rolled.state) && rolled.attempt < u32::MAX
                });
            }
            _ => {}
        }
        if let (Some(asked), false) = (asked, matches!(recorded.event, Event::RolledBack(_))) {
            let logged = format!("{:?}", recorded.event.kind());
            found.push(host(recorded, "rollback", logged, asked.asked));
        }
        true
    }

    /// The rollback that the wish must have led to, to the checkpoint that the event names.
    fn due(
        &self,
        state: &RunState,
        asked: Option<CommandAnswered>,
        rolled: &RolledBack,
    ) -> Result<RolledBack, String> {
        let CommandAnswered { asked, by, .. } = asked.ok_or("nothing was asked")?;
        let command = serde_json::from_str::<Command>(&asked).map_err(|error| error.to_string())?;
        let Command::Rollback { to, skip_data, reason } = &command else { return Err(asked) };
        let (saved, digest) =
            self.saved.get(&rolled.seq).ok_or(format!("a checkpoint saved at {}", rolled.seq))?;
        let point = ReturnPoint {
            seq: rolled.seq,
            saved: saved.clone(),
            digest: *digest,
            state: rolled.state.clone(),
        };
        state.rolled_back((*to, *skip_data), (&by, reason), &point)
    }
}

/// A rollback in words, without the bytes of its state.
fn told(rolled: &RolledBack) -> String {
    let state = Digest::of(&rolled.state);
    format!("{:?} with state {state}", RolledBack { state: Vec::new(), ..rolled.clone() })
}
