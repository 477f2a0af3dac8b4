//! The plugins of a run, as far as a fold knows them: how often each was called, and what it has not seen.

use serde::{Deserialize, Serialize};

use crate::calls;
use crate::event::*;
use crate::id::{BindingId, Digest};
use crate::observe::Seen;
use crate::plugin::{OBSERVATIONS_MAX, Outcome};
use crate::state::RunState;

/// A plugin in this run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// As it was bound or last changed.
    pub facts: BindingChanged,
    /// Digest of its state after the last `ok`.
    pub state: Digest,
    /// Last event it has seen through `step` or `watch`.
    pub seen_seq: u64,
    /// Calls so far.
    pub calls: u64,
    /// Steps in a row with a fault, up to the last one it was called in.
    pub faults: u32,
    /// Observations since the event it saw last.
    pub(crate) unseen: u64,
    /// Whether it is still called.
    pub live: bool,
}

impl RunState {
    pub(super) fn apply_receipt(&mut self, receipt: &Receipt) {
        for effect in &receipt.effects {
            match effect {
                Effect::Mixture { mixture, effective_step, .. } => {
                    self.pending.push((*effective_step, mixture.clone()));
                }
                Effect::LossWeights { weights } => self.loss_weights = weights.clone(),
                Effect::Validate => self.validation_due = true,
                Effect::Noted | Effect::Refused { .. } => {}
            }
        }
        let Some(binding) = self.bindings.get_mut(&receipt.binding) else { return };
        binding.calls += 1;
        binding.state = receipt.state_after;
        if receipt.outcome == Outcome::Ok && receipt.hook != Hook::Gate {
            binding.seen_seq = receipt.to_seq;
            binding.unseen = 0;
        }
    }

    pub(super) fn apply_binding(&mut self, seq: u64, changed: &BindingChanged) {
        match changed.change {
            BindingChange::Bound => {
                let binding = Binding {
                    facts: changed.clone(),
                    state: changed.initial_state,
                    seen_seq: seq,
                    calls: 0,
                    faults: 0,
                    unseen: 0,
                    live: true,
                };
                self.bindings.insert(changed.binding, binding);
            }
            BindingChange::RoleChanged => {
                if let Some(binding) = self.bindings.get_mut(&changed.binding) {
                    binding.facts.role = changed.role;
                }
            }
            BindingChange::Released => self.silence(changed.binding),
        }
    }

    pub(super) fn silence(&mut self, id: BindingId) {
        if let Some(binding) = self.bindings.get_mut(&id) {
            binding.live = false;
        }
    }

    pub(super) fn remember(&mut self, seen: Seen) {
        if self.seen.len() == OBSERVATIONS_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(seen);
        self.bindings.values_mut().for_each(|binding| binding.unseen += 1);
    }

    /// What no binding will be shown any more is not kept: one that is bound later sees what comes later.
    pub(super) fn forget_what_all_have_seen(&mut self) {
        let is_shown = |binding: &&Binding| binding.live && calls::hook(binding).is_some();
        let unseen = self.bindings.values().filter(is_shown).map(|binding| binding.unseen).max();
        while self.seen.len() as u64 > unseen.unwrap_or(0) {
            self.seen.pop_front();
        }
    }
}
