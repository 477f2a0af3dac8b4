//! Catch-up: from the last checkpoint the log is trained again, under the logged verdicts and
//! decisions, and compared with what was logged. Nothing is appended twice and no plugin decides.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use hm_data::Sampler;
use hm_domain::calls::{self, PlannedCall};
use hm_domain::event::*;
use hm_domain::id::{BindingId, Digest};
use hm_domain::plugin::{Outcome, Plugins};
use hm_domain::state::RunState;
use hm_domain::step::Knobs;
use hm_train::Trainer;

/// How catch-up went.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CaughtUp {
    /// Checkpoint it started from.
    pub(crate) checkpoint: Option<Digest>,
    /// Step of that checkpoint.
    pub(crate) checkpoint_step: u64,
    /// Steps trained again.
    pub(crate) steps: u64,
    /// Largest relative difference of a loss or norm.
    pub(crate) difference_max: f64,
    /// First disagreement, in a sentence.
    pub(crate) disagreement: Option<String>,
}

/// Folds `log` and brings trainer and sampler to its end.
pub(crate) fn catch_up(
    log: &[Recorded],
    trainer: &mut Trainer,
    sampler: &mut Sampler,
    checkpoints: &Path,
    say: &mut dyn FnMut(&str),
) -> Result<(RunState, CaughtUp)> {
    let first = log.first().context("the run has no events")?;
    let mut state = RunState::start(&first.event)?;
    let mut caught_up = CaughtUp::default();
    let resume_from = last_usable_checkpoint(log, checkpoints, say);
    for recorded in &log[1..] {
        let trains = resume_from.is_none_or(|seq| recorded.seq > seq);
        if let (true, Event::StepRecorded(step)) = (trains, &recorded.event) {
            train_again(&state, step, trainer, sampler, &mut caught_up)?;
        }
        state.apply(&recorded.event);
        if Some(recorded.seq) == resume_from
            && let Event::CheckpointSaved(saved) = &recorded.event
        {
            let content = trainer
                .load(&checkpoints.join(&saved.folder), saved.digest)
                .with_context(|| format!("checkpoint {} cannot be loaded", saved.folder))?;
            if content.next_step != state.next_step {
                let (held, logged) = (content.next_step, state.next_step);
                bail!("checkpoint {} is of step {held}, the log of step {logged}", saved.folder);
            }
            sampler.restore(&content.cursors, &content.carries)?;
            caught_up.checkpoint = Some(saved.digest);
            caught_up.checkpoint_step = saved.step;
        }
    }
    Ok((state, caught_up))
}

/// The newest checkpoint on record whose folder is on disk.
fn last_usable_checkpoint(
    log: &[Recorded],
    checkpoints: &Path,
    say: &mut dyn FnMut(&str),
) -> Option<u64> {
    for recorded in log.iter().rev() {
        if let Event::CheckpointSaved(saved) = &recorded.event {
            if checkpoints.join(&saved.folder).is_dir() {
                return Some(recorded.seq);
            }
            say(&format!("checkpoint {} is on record but not on disk", saved.folder));
        }
    }
    None
}

fn train_again(
    state: &RunState,
    step: &StepRecorded,
    trainer: &mut Trainer,
    sampler: &mut Sampler,
    caught_up: &mut CaughtUp,
) -> Result<()> {
    let batch = sampler.draw(&state.mixture)?;
    if batch.digest() != step.batch || batch.draws != step.draws {
        bail!(
            "step {} drew batch {} now and {} then: the shards are not those of the run",
            step.step,
            batch.digest().short(),
            step.batch.short()
        );
    }
    let knobs = Knobs {
        learning_rate: step.learning_rate,
        clip_norm: state.spec.optimizer.clip_norm,
        loss_weights: state.loss_weights.clone(),
    };
    let report = trainer.step(&batch, &knobs, &mut |_| step.verdict)?;
    let (now, then) = (&report.pre_step, &step.pre_step);
    caught_up.steps += 1;
    if now != then {
        let relative = |a: f64, b: f64| (a - b).abs() / b.abs().max(f64::MIN_POSITIVE);
        let difference =
            relative(now.loss, then.loss).max(relative(now.gradient_norm, then.gradient_norm));
        caught_up.difference_max = caught_up.difference_max.max(difference);
        caught_up.disagreement.get_or_insert_with(|| {
            format!(
                "step {}: loss {} now, {} in the log; gradient norm {} now, {} in the log",
                step.step, now.loss, then.loss, now.gradient_norm, then.gradient_norm
            )
        });
    }
    Ok(())
}

/// States of live bindings at the end of `log`: from the last kept one, by executing what follows.
pub(crate) fn plugin_states(
    log: &[Recorded],
    plugins: &dyn Plugins,
    kept: &mut dyn FnMut(Digest) -> Result<Vec<u8>>,
) -> Result<BTreeMap<BindingId, Vec<u8>>> {
    struct Open {
        digest: Digest,
        calls: Vec<(PlannedCall, Receipt)>,
    }
    let first = log.first().context("the run has no events")?;
    let mut state = RunState::start(&first.event)?;
    let mut open: BTreeMap<BindingId, Open> = BTreeMap::new();
    for recorded in &log[1..] {
        match &recorded.event {
            Event::PluginStateSaved(saved) => {
                open.insert(saved.binding, Open { digest: saved.state, calls: Vec::new() });
            }
            Event::StepRecorded(step) => {
                let mut planned = calls::gates(&state, step.step, &step.pre_step);
                planned.extend(calls::folds(&state, step));
                for (call, receipt) in planned.into_iter().zip(&step.receipts) {
                    if receipt.outcome == Outcome::Ok
                        && let Some(open) = open.get_mut(&receipt.binding)
                    {
                        open.calls.push((call, receipt.clone()));
                    }
                }
            }
            _ => {}
        }
        state.apply(&recorded.event);
    }
    let mut states = BTreeMap::new();
    for (id, binding) in state.bindings.iter().filter(|(_, binding)| binding.live) {
        let open = open.remove(id).with_context(|| format!("binding {id} has no kept state"))?;
        let mut bytes = kept(open.digest)?;
        for (call, receipt) in open.calls {
            let reply = plugins.call(&binding.facts.plugin, &call.request(bytes));
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
