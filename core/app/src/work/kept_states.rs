//! What a worker that takes a run up has for its plugins: the states that the log keeps, and the calls
//! since, executed again.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use hm_domain::calls::{self, PlannedCall};
use hm_domain::event::*;
use hm_domain::id::{BindingId, Digest};
use hm_domain::plugin::{Outcome, Plugins as _};
use hm_domain::state::{Binding, RunState};
use hm_store::Store;

use crate::interrupt::{Interrupt, Interrupted};
use crate::work::registry::Registry;
use crate::workplace::Workplace;

/// Plugin states as the log keeps them, with the calls that followed each.
pub(crate) struct KeptStates {
    open: BTreeMap<BindingId, Kept>,
}

/// The last kept state of one binding and its good calls since.
struct Kept {
    state: Digest,
    calls: Vec<(PlannedCall, Receipt)>,
}

impl KeptStates {
    /// Of a state whose live bindings are all kept: one that a checkpoint was begun with.
    pub(crate) fn of(state: &RunState) -> KeptStates {
        let live = state.bindings.iter().filter(|(_, binding)| binding.live);
        let kept = |binding: &Binding| Kept { state: binding.state, calls: Vec::new() };
        KeptStates { open: live.map(|(&id, binding)| (id, kept(binding))).collect() }
    }

    /// Notes what an event keeps or calls; `state` is the run's before that event.
    pub(crate) fn fold(&mut self, state: &RunState, event: &Event) {
        match event {
            Event::PluginStateSaved(saved) => {
                let kept = Kept { state: saved.state, calls: Vec::new() };
                self.open.insert(saved.binding, kept);
            }
            Event::StepRecorded(step) => {
                let mut planned = calls::gates(state, step.step, &step.pre_step);
                planned.extend(calls::folds(state, step));
                for (call, receipt) in planned.into_iter().zip(&step.receipts) {
                    if receipt.outcome == Outcome::Ok
                        && let Some(kept) = self.open.get_mut(&receipt.binding)
                    {
                        kept.calls.push((call, receipt.clone()));
                    }
                }
            }
            _ => {}
        }
    }

    /// States of live bindings at the end of the log: each last kept one, and what follows executed.
    pub(crate) fn execute(
        mut self,
        state: &RunState,
        store: &Store,
        registry: &Registry,
        workplace: &Workplace,
        interrupt: &Interrupt,
    ) -> Result<BTreeMap<BindingId, Vec<u8>>> {
        let mut states = BTreeMap::new();
        for (id, binding) in state.bindings.iter().filter(|(_, binding)| binding.live) {
            let plugin = &binding.facts.plugin;
            registry.load_as_bound(&binding.facts)?;
            let kept = self.open.remove(id);
            let Kept { state, calls } =
                kept.with_context(|| format!("binding {id} has no kept state"))?;
            let mut bytes = workplace
                .runtime
                .block_on(store.blob(state))?
                .with_context(|| format!("kept plugin state {state} is not in the database"))?;
            for (call, receipt) in calls {
                if interrupt.raised() {
                    bail!(Interrupted("while it called plugins again; the log is as it was"));
                }
                let reply = registry.host.call(plugin, &call.request(bytes));
                bytes = match reply.value {
                    Some((after, _)) if Digest::of(&after) == receipt.state_after => after,
                    _ => bail!(
                        "plugin {} does not repeat its logged call of event {}: audit the run",
                        binding.facts.description.name,
                        receipt.to_seq
                    ),
                };
            }
            states.insert(*id, bytes);
        }
        Ok(states)
    }
}
