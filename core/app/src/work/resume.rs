//! Catch-up: from the last checkpoint the log is trained again, under the logged verdicts and
//! decisions, and compared with what was logged. Nothing is appended twice and no plugin decides. Where
//! the newest checkpoint is damaged an older one serves, and where none is whole the run's beginning.

use anyhow::{Context, Result, bail};
use hm_data::Sampler;
use hm_domain::event::*;
use hm_domain::id::{Digest, RunId};
use hm_domain::spec::CheckpointSpec;
use hm_domain::state::RunState;
use hm_domain::step::Knobs;
use hm_store::Store;
use hm_train::Trainer;
use serde_json::Value;

use crate::interrupt::{Interrupt, Interrupted};
use crate::progress::Steady;
use crate::work::checkpoints::{Checkpoints, TakenUp};
use crate::work::kept_states::KeptStates;
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
    /// Steps trained again.
    pub(crate) steps: u64,
    /// Largest relative difference of a loss, a norm or a weight state.
    pub(crate) difference_max: f64,
    /// First disagreement, in a sentence.
    pub(crate) disagreement: Option<String>,
}

/// Folds the run's log, page by page, and brings trainer and sampler to its end.
pub(crate) fn catch_up(
    workplace: &Workplace,
    store: &Store,
    id: RunId,
    (trainer, sampler): (&mut Trainer, &mut Sampler),
    checkpoints: &mut Checkpoints,
    interrupt: &Interrupt,
) -> Result<(RunState, KeptStates, CaughtUp)> {
    let runtime = &workplace.runtime;
    let first = runtime.block_on(store.read(id, 0, 1))?;
    let mut state = RunState::start(&first.first().context("the run has no events")?.event)?;
    let on_record = runtime.block_on(store.checkpoints(id))?;
    let on_record = on_record.iter().map(on_record_as).collect::<Result<Vec<_>>>()?;
    let keep = state.spec.checkpoint.keep as usize;
    let (taken_up, passed_over) = checkpoints.take_up(on_record.into_iter(), keep, trainer);
    say_what_is_passed_over(&passed_over, taken_up.as_ref());
    let done = runtime.block_on(store.run(id))?.map_or(0, |row| row.next_step.max(0) as u64);
    let mut progress = Steady::new(done, "catching up with the log");
    let mut kept = KeptStates::default();
    let mut caught_up = CaughtUp { passed_over, ..CaughtUp::default() };
    let from = taken_up.as_ref().map(|taken_up| taken_up.seq);
    loop {
        let page = runtime.block_on(store.read(id, state.next_seq, PAGE_EVENTS))?;
        if page.is_empty() {
            break;
        }
        for recorded in &page {
            if interrupt.raised() {
                bail!(Interrupted("while it caught up with the log, which is as it was"));
            }
            match &recorded.event {
                Event::StepRecorded(step) if from.is_none_or(|seq| recorded.seq > seq) => {
                    train_again(&state, step, trainer, sampler, &mut caught_up)?;
                    progress.at(step.step + 1);
                }
                Event::CheckpointSaved(saved) => {
                    checkpoints.note(saved.clone());
                    if caught_up.steps > 0 {
                        checkpoints.save_again(saved, &state, trainer, &mut caught_up);
                    }
                }
                _ => {}
            }
            kept.fold(&state, &recorded.event);
            state.apply(&recorded.event);
            if let Some(taken_up) = taken_up.as_ref().filter(|it| it.seq == recorded.seq) {
                begin_from(taken_up, &state, sampler, &mut caught_up)?;
            }
        }
    }
    progress.finish();
    Ok((state, kept, caught_up))
}

/// Whether a checkpoint is due as soon as a run is taken up: it would be there, had the worker before not
/// died, or it spares the next one as many steps as lie between two.
pub(crate) fn is_worth_saving(resumed: &RunResumed, spec: &CheckpointSpec) -> bool {
    let RunResumed { step, caught_up_steps: steps, .. } = *resumed;
    steps > 0 && (steps >= spec.every_steps || step.is_multiple_of(spec.every_steps))
}

/// A row of the checkpoints on record: its event's seq, and what that says.
fn on_record_as(row: &Value) -> Result<(u64, CheckpointSaved)> {
    let number = |column: &str| row[column].as_u64().with_context(|| format!("no {column}"));
    let text = |column: &str| row[column].as_str().with_context(|| format!("no {column}"));
    let saved = || -> Result<_> {
        let (step, bytes) = (number("step")?, number("bytes")?);
        let (digest, folder) = (text("digest")?.parse()?, text("folder")?.to_owned());
        Ok((number("seq")?, CheckpointSaved { step, digest, folder, bytes }))
    };
    saved().context("a checkpoint on record cannot be read: rebuild it with `hm db rebuild`")
}

fn say_what_is_passed_over(passed_over: &[PassedOver], taken_up: Option<&TakenUp>) {
    for PassedOver { step, reason, .. } in passed_over {
        eprintln!("the checkpoint of step {step} is passed over: {reason}");
    }
    match taken_up {
        _ if passed_over.is_empty() => {}
        Some(older) => eprintln!("the older one of step {} is whole", older.saved.step),
        None => eprintln!("no older one is whole: the log is trained again from step 0"),
    }
}

/// The log has come to the checkpoint that the trainer has taken up: both must be of the same step.
fn begin_from(
    taken_up: &TakenUp,
    state: &RunState,
    sampler: &mut Sampler,
    caught_up: &mut CaughtUp,
) -> Result<()> {
    let TakenUp { saved, content, .. } = taken_up;
    if state.checkpoint.as_ref() != Some(saved) {
        bail!("the log names no checkpoint here: rebuild it with `hm db rebuild`");
    }
    if content.next_step != state.next_step {
        let (held, logged) = (content.next_step, state.next_step);
        bail!("checkpoint {} is of step {held}, the log of step {logged}", saved.folder);
    }
    sampler.restore(&content.cursors, &content.carries)?;
    caught_up.checkpoint = Some(saved.digest);
    caught_up.checkpoint_step = saved.step;
    Ok(())
}

fn train_again(
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
    if let Some(logged) = &state.measured {
        compare_weights(logged, trainer, caught_up)?;
    }
    Ok(())
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
