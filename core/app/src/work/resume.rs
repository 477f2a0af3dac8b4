//! Catch-up: from the last checkpoint the log is trained again, under the logged verdicts and
//! decisions, and compared with what was logged. Nothing is appended twice and no plugin decides. What a
//! rollback has left behind is folded and not trained. Where it begins is found by `anchor`.

use std::path::Path;

use anyhow::{Result, bail};
use hm_data::Sampler;
use hm_domain::event::*;
use hm_domain::id::{Digest, RunId};
use hm_domain::spec::CheckpointSpec;
use hm_domain::state::RunState;
use hm_domain::step::Knobs;
use hm_store::Store;
use hm_train::Trainer;

use crate::interrupt::{Interrupt, Interrupted};
use crate::progress::Steady;
use crate::work::anchor::{Anchor, OnRecord};
use crate::work::checkpoints::{Checkpoints, TakenUp};
use crate::work::kept_states::KeptStates;
use crate::work::run_states;
use crate::workplace::Workplace;

/// Events read at once: what memory holds of the log.
const PAGE_EVENTS: u64 = 1024;

/// How catch-up went.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CaughtUp {
    /// Checkpoint it started from.
    pub(crate) checkpoint: Option<Digest>,
    /// Step of that checkpoint.
    pub(crate) checkpoint_step: u64,
    /// Newer ones that are not whole.
    pub(crate) passed_over: Vec<PassedOver>,
    /// First event that was read.
    pub(crate) folded_from: u64,
    /// Steps trained again.
    pub(crate) steps: u64,
    /// Largest relative difference of a loss, a norm or a weight state.
    pub(crate) difference_max: f64,
    /// First disagreement, in a sentence.
    pub(crate) disagreement: Option<String>,
}

/// Folds the run's log from `anchor` on, page by page, and brings trainer and sampler to its end.
pub(crate) fn catch_up(
    workplace: &Workplace,
    store: &Store,
    id: RunId,
    (mut anchor, trainer, sampler): (Anchor, &mut Trainer, &mut Sampler),
    checkpoints: &mut Checkpoints,
    interrupt: &Interrupt,
) -> Result<(RunState, KeptStates, CaughtUp)> {
    let runtime = &workplace.runtime;
    let mut state = anchor.state.clone();
    let mut kept = KeptStates::of(&state);
    let passed_over = std::mem::take(&mut anchor.passed_over);
    let mut believed = Believed::of(anchor.taken_up.as_ref(), &passed_over);
    let folded_from = state.next_seq;
    let mut caught_up = CaughtUp { passed_over, folded_from, ..CaughtUp::default() };
    let trained_from = match &anchor.taken_up {
        Some(taken_up) => taken_up.saved.begun,
        None => {
            sampler.restore(&state.cursors, &state.carries)?;
            0
        }
    };
    let done = runtime.block_on(store.run(id))?.map_or(0, |row| row.next_step.max(0) as u64);
    let mut progress = Steady::new(done, "catching up with the log");
    loop {
        let page = runtime.block_on(store.read(id, state.next_seq, PAGE_EVENTS))?;
        if page.is_empty() {
            break;
        }
        for recorded in &page {
            if interrupt.raised() {
                bail!(Interrupted("while it caught up with the log, which is as it was"));
            }
            let seq = recorded.seq;
            let is_lived = seq > trained_from && anchor.is_on_the_way(seq);
            match &recorded.event {
                Event::StepRecorded(step) if is_lived => {
                    train_again(&state, step, trainer, sampler, &mut caught_up)?;
                    progress.at(step.step + 1);
                }
                Event::CheckpointBegun(begun) => {
                    let snapshot = state.snapshot();
                    if let Some(taken_up) = anchor.taken_up.as_ref().filter(|_| seq == trained_from)
                    {
                        begin_from(taken_up, &state, sampler, &mut caught_up)?;
                        let folder = checkpoints.folder().join(&taken_up.saved.folder);
                        restore_state(&folder, begun, &snapshot);
                    }
                    if caught_up.steps > 0
                        && is_lived
                        && let Some(saved) = checkpoints.begun_at(seq)
                    {
                        let at = (&state, &snapshot[..]);
                        checkpoints.save_again(&saved, at, trainer, &mut caught_up);
                    }
                }
                Event::CheckpointSaved(saved) => believed.hold(seq, saved)?,
                _ => {}
            }
            kept.fold(&state, &recorded.event);
            state.apply(&recorded.event);
            if let Event::RolledBack(_) = &recorded.event {
                kept = KeptStates::of(&state);
                if is_lived {
                    sampler.restore(&state.cursors, &state.carries)?;
                }
            }
        }
    }
    progress.finish();
    believed.must_be_met(caught_up.checkpoint)?;
    Ok((state, kept, caught_up))
}

/// Whether a checkpoint is due as soon as a run is taken up: it would be there, had the worker before not
/// died, or it spares the next one as many steps as lie between two.
pub(crate) fn is_worth_saving(resumed: &RunResumed, spec: &CheckpointSpec) -> bool {
    let RunResumed { step, caught_up_steps: steps, .. } = *resumed;
    steps > 0 && (steps >= spec.every_steps || step.is_multiple_of(spec.every_steps))
}

/// The log has come to the begin of the checkpoint that the trainer has taken up: both must be of the
/// same step.
fn begin_from(
    taken_up: &TakenUp,
    state: &RunState,
    sampler: &mut Sampler,
    caught_up: &mut CaughtUp,
) -> Result<()> {
    let TakenUp { saved, content, .. } = taken_up;
    if *content != state.checkpoint_state() {
        let (held, logged) = (content.next_step, state.next_step);
        bail!(
            "checkpoint {} is not what the log says of it: it is of step {held}, the log of step {logged}",
            saved.folder
        );
    }
    sampler.restore(&content.cursors, &content.carries)?;
    caught_up.checkpoint = Some(saved.digest);
    caught_up.checkpoint_step = saved.step;
    Ok(())
}

/// Keeps the state of a whole checkpoint once more that has lost it, where it comes out the same.
fn restore_state(folder: &Path, begun: &CheckpointBegun, state: &[u8]) {
    if run_states::kept(folder, begun.state).is_ok() || Digest::of(state) != begun.state {
        return;
    }
    if let Err(error) = run_states::keep(folder, state) {
        eprintln!("the run state of step {} cannot be kept again: {error}", begun.step);
    }
}

/// What was believed of the checkpoints on record before the log was read: a row can be changed.
struct Believed {
    /// The one that was taken up, with its seq.
    taken_up: Option<OnRecord>,
    /// Whether the log has named that.
    is_met: bool,
    /// Those passed over that the log has not named yet.
    unmet: Vec<PassedOver>,
}

impl Believed {
    fn of(taken_up: Option<&TakenUp>, passed_over: &[PassedOver]) -> Believed {
        let taken_up = taken_up.map(|TakenUp { seq, saved, .. }| (*seq, saved.clone()));
        Believed { is_met: taken_up.is_none(), taken_up, unmet: passed_over.to_vec() }
    }

    /// What the log says must be what was believed, at its place or of what was begun there.
    fn hold(&mut self, seq: u64, saved: &CheckpointSaved) -> Result<()> {
        self.unmet.retain(|over| (over.step, over.checkpoint) != (saved.step, saved.digest));
        let Some((at, believed)) = &self.taken_up else { return Ok(()) };
        if *at != seq && believed.begun != saved.begun {
            return Ok(());
        }
        if (*at, believed) != (seq, saved) {
            bail!(
                "event {seq} saves another checkpoint than {} on record: rebuild it with `hm db rebuild`",
                believed.folder
            );
        }
        self.is_met = true;
        Ok(())
    }

    /// The log is read: all that was believed must stand in it. `begun` is the checkpoint whose begin it
    /// came to.
    fn must_be_met(&self, begun: Option<Digest>) -> Result<()> {
        let rebuild = "rebuild what is on record with `hm db rebuild`";
        match (&self.taken_up, self.unmet.first()) {
            (Some((_, saved)), _) if begun.is_none() => {
                bail!("the log does not begin checkpoint {}: {rebuild}", saved.folder)
            }
            (Some((seq, saved)), _) if !self.is_met => {
                bail!("no event {seq} of the log saves checkpoint {}: {rebuild}", saved.folder)
            }
            (_, Some(PassedOver { step, checkpoint, .. })) => {
                bail!(
                    "the log saves no checkpoint {} of step {step}: {rebuild}",
                    checkpoint.short()
                )
            }
            _ => Ok(()),
        }
    }
}

/// Trains a step of the log once more, and notes by how much that differs from it.
///
/// # Errors
/// When another batch is drawn than then, or the device fails.
pub(crate) fn train_again(
    state: &RunState,
    step: &StepRecorded,
    trainer: &mut Trainer,
    sampler: &mut Sampler,
    caught_up: &mut CaughtUp,
) -> Result<()> {
    let batch = sampler.draw(&state.mixture, state.next_sequences())?;
    if batch.digest() != step.batch || batch.draws != step.draws {
        bail!(
            "step {} drew batch {} now and {} then: the shards are not those of the run",
            step.step,
            batch.digest().short(),
            step.batch.short()
        );
    }
    let knobs = Knobs { learning_rate: step.learning_rate, ..state.knobs() };
    let report = trainer.step(&batch, &knobs, &mut |_| step.verdict)?;
    let (now, then) = (&report.pre_step, &step.pre_step);
    caught_up.steps += 1;
    if !now.has_bits_of(then) {
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
    if let Some(logged) = &state.measured {
        compare_weights(logged, trainer, caught_up)?;
    }
    Ok(())
}

/// By how much a number differs from the log's.
pub(crate) fn relative(now: f64, then: f64) -> f64 {
    let difference = (now - then).abs() / then.abs().max(f64::MIN_POSITIVE);
    match (now.is_nan(), then.is_nan()) {
        (true, true) => 0.0,
        (false, false) if !difference.is_nan() => difference,
        _ => f64::INFINITY,
    }
}

/// Weights that were measured then are measured again.
fn compare_weights(
    logged: &WeightsMeasured,
    trainer: &Trainer,
    caught_up: &mut CaughtUp,
) -> Result<()> {
    let now = WeightsMeasured { step: logged.step, kinds: trainer.weight_state()? };
    if now.has_bits_of(logged) {
        return Ok(());
    }
    let difference = now.difference(logged);
    caught_up.difference_max = caught_up.difference_max.max(difference);
    caught_up.disagreement.get_or_insert_with(|| {
        format!("step {}: a weight state is off the log's by {difference:e}", logged.step)
    });
    Ok(())
}
