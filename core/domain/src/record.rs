//! What is on record for an audit and for no run: which wishes are answered, and of checkpoints all that a
//! later event may name. It grows with the log, so it is no part of the run's state.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::*;
use crate::follow::BY_RUN_FILE;
use crate::id::Digest;
use crate::state::RunState;

/// What the log has said so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    /// Numbers of the wishes that are answered.
    pub(crate) answered: BTreeSet<u64>,
    /// Checkpoints saved, by the seq of that event, each with the digest of the run's state there.
    pub(crate) saved: BTreeMap<u64, (CheckpointSaved, Digest)>,
    /// Steps of all checkpoints that a worker may take up, a parent's among them.
    pub(crate) steps: BTreeMap<Digest, u64>,
    /// The first step that is this log's own.
    pub(crate) first_step: u64,
    /// Whether the past of the run is another's.
    pub(crate) is_fork: bool,
}

impl Record {
    /// After the first event, `state` being the state then.
    pub(crate) fn start(state: &RunState, started: &RunStarted) -> Record {
        let parent = started.parent.as_ref().map(|parent| &parent.checkpoint);
        Record {
            steps: parent.map(|saved| (saved.digest, saved.step)).into_iter().collect(),
            first_step: state.next_step,
            is_fork: parent.is_some(),
            ..Record::default()
        }
    }

    /// Notes the event at `seq`, `state` being the state before it.
    pub(crate) fn note(&mut self, state: &RunState, seq: u64, event: &Event) {
        match event {
            Event::CommandAnswered(answered) if answered.command != BY_RUN_FILE => {
                self.answered.insert(answered.command);
            }
            Event::CheckpointSaved(saved) => {
                if let Some(begun) = state.begun.filter(|begun| begun.seq == saved.begun) {
                    self.saved.insert(seq, (saved.clone(), begun.state));
                }
                self.steps.insert(saved.digest, saved.step);
            }
            _ => {}
        }
    }
}
