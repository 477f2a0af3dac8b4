//! What the host decides alone, decided again from the log: every part of a step that no plugin and no
//! trainer has a say in, and the knobs that commands turn.

use super::Divergence;
use crate::calls;
use crate::effects::gate_verdict;
use crate::ending::Due;
use crate::event::*;
use crate::knobs;
use crate::limits;
use crate::mixture::quotas;
use crate::parameter_kind::kinds;
use crate::state::{Phase, RunState};
use crate::step::Verdict;

/// A place where the host did otherwise than it must.
pub(super) fn host(recorded: &Recorded, what: &str, logged: String, found: String) -> Divergence {
    Divergence {
        seq: recorded.seq,
        step: recorded.event.step(),
        plugin: "host".to_owned(),
        what: what.to_owned(),
        logged,
        found,
    }
}

/// Knobs turned by hand: one is turned where a wish was obeyed, as the wish says, and nowhere else.
pub(super) fn check_turned(
    state: &RunState,
    due: &mut Option<Event>,
    recorded: &Recorded,
    found: &mut Vec<Divergence>,
) {
    let event = &recorded.event;
    let due_now = due.take();
    let turns =
        matches!(event, Event::LearningRateSet(_) | Event::BatchSizeSet(_) | Event::MixtureSet(_));
    if (turns || due_now.is_some()) && due_now.as_ref() != Some(event) {
        let wanted = due_now.map_or("nothing was asked".to_owned(), |event| format!("{event:?}"));
        found.push(host(recorded, "what a command did", format!("{event:?}"), wanted));
    }
    let Event::CommandAnswered(answered) = event else { return };
    // Wishes of other kinds, and of later versions, are not for here.
    let Ok(command) = serde_json::from_str(&answered.asked) else { return };
    let Some(turned) = knobs::turned(state, &command, &answered.by) else { return };
    let refusal = turned.as_ref().err();
    if answered.refusal.as_ref() != refusal {
        let (logged, wanted) = (format!("{:?}", answered.refusal), format!("{refusal:?}"));
        found.push(host(recorded, "answer to a command", logged, wanted));
    } else {
        *due = turned.ok();
    }
}

/// What happens between steps happens before the next one, and nothing after the end of the run.
pub(super) fn check_place(state: &RunState, recorded: &Recorded, found: &mut Vec<Divergence>) {
    if let Phase::Finished(ending) = state.phase {
        let logged = format!("{:?}", recorded.event);
        let due = format!("nothing, since the run has ended: {ending:?}");
        found.push(host(recorded, "after the end of the run", logged, due));
    }
    let due = match (&recorded.event, state.begun) {
        // Training goes on while a checkpoint is written.
        (Event::CheckpointSaved(_) | Event::CheckpointFailed(_), Some(begun)) => begun.step,
        _ => state.next_step,
    };
    let Some(step) = recorded.event.step() else { return };
    if step != due {
        let what = match recorded.event {
            Event::StepRecorded(_) => "step",
            Event::RunFinished(_) => "steps at the end of the run",
            _ => "step of the event",
        };
        found.push(host(recorded, what, step.to_string(), due.to_string()));
    }
}

/// The first mixture is what the spec asks for, within its limits.
pub(super) fn check_start(state: &RunState, recorded: &Recorded, found: &mut Vec<Divergence>) {
    let due = match limits::first_mixture(&state.spec) {
        Ok(first) => format!("{:?}", first.mixture),
        Err(refused) => refused.to_string(),
    };
    let logged = format!("{:?}", state.prior);
    if logged != due {
        found.push(host(recorded, "first mixture", logged, due));
    }
}

/// The mixture is held to the limits where a domain's epochs run out, and nowhere else.
pub(super) fn check_held(state: &RunState, recorded: &Recorded, found: &mut Vec<Divergence>) {
    let logged = match &recorded.event {
        Event::MixtureLimited(limited) => Some(limited.clone()),
        Event::StepRecorded(_) => None,
        _ => return,
    };
    let due = limits::held(state);
    if logged != due {
        let (logged, due) = (format!("{logged:?}"), format!("{due:?}"));
        found.push(host(recorded, "limits of the mixture", logged, due));
    }
}

/// Weights are measured for the next step, when a plugin is to see them, and of every kind and layer.
/// What they were is the trainer's word: training again shows that.
pub(super) fn check_measured(
    state: &RunState,
    recorded: &Recorded,
    measured: &WeightsMeasured,
    found: &mut Vec<Divergence>,
) {
    let mut compare = |what: &str, logged: String, due: String| {
        if logged != due {
            found.push(host(recorded, what, logged, due));
        }
    };
    let logged = format!("measured at step {}", measured.step);
    let due = match calls::weights_due(state) {
        true => format!("measured at step {}", state.next_step),
        false => "no plugin is to see them".to_owned(),
    };
    compare("weights", logged, due);
    let layers = |kind: &KindState| (kind.kind.clone(), kind.std.len(), kind.norm.len());
    let logged: Vec<_> = measured.kinds.iter().map(layers).collect();
    let due: Vec<_> =
        kinds(&state.spec.model).map(|(kind, layers)| (kind.to_owned(), layers, layers)).collect();
    compare("kinds of weights", format!("{logged:?}"), format!("{due:?}"));
}

/// What the host decided alone: step, mixture in force, quotas, verdict and clip.
pub(super) fn check_step(
    state: &RunState,
    recorded: &Recorded,
    step: &StepRecorded,
    found: &mut Vec<Divergence>,
) {
    let mut compare = |what: &str, logged: String, due: String| {
        if logged != due {
            found.push(host(recorded, what, logged, due));
        }
    };
    if calls::weights_due(state) {
        compare("weights", "not measured".to_owned(), "measured: a plugin sees them".to_owned());
    }
    let spec = &state.spec;
    compare("mixture version", step.mixture_version.to_string(), state.mixture.version.to_string());
    let rate = state.learning_rate();
    compare("learning rate", step.learning_rate.to_string(), rate.to_string());
    let mut carries = state.carries.clone();
    let counts = quotas(&state.mixture, state.next_sequences(), &mut carries);
    let drawn: Vec<u32> = step.draws.iter().map(|draw| draw.sequences).collect();
    compare("quotas", format!("{drawn:?}"), format!("{counts:?}"));
    let logged: Vec<i64> = step.draws.iter().map(|draw| draw.carry).collect();
    compare("carried error", format!("{logged:?}"), format!("{carries:?}"));
    let from: Vec<_> = step.draws.iter().map(|draw| draw.from).collect();
    compare("cursors", format!("{from:?}"), format!("{:?}", state.cursors));
    let tokens: u64 = step.pre_step.losses.iter().map(|sums| sums.tokens).sum();
    compare("tokens", step.tokens.to_string(), (state.tokens + tokens).to_string());
    let asked = gate_verdict(state, &step.receipts);
    // The host's own rule: what is not finite never reaches the weights.
    let verdict = if step.pre_step.is_finite() { asked } else { asked.and(Verdict::Skip) };
    compare("verdict", format!("{:?}", step.verdict), format!("{verdict:?}"));
    let clip = match verdict {
        Verdict::ClipTo(norm) => norm.min(spec.optimizer.clip_norm),
        _ => spec.optimizer.clip_norm,
    };
    compare("effective clip", step.effective_clip.to_string(), clip.to_string());
}

/// Nothing is trained once a run must end; it ends as it must. Otherwise it can only have failed, for a
/// reason that the log gives right before: a plugin of its file was refused, or weights could not be
/// saved. That these failed is the worker's word.
pub(super) fn check_ending(state: &RunState, recorded: &Recorded, found: &mut Vec<Divergence>) {
    let finished = match &recorded.event {
        Event::StepRecorded(_) => None,
        Event::RunFinished(finished) => Some(finished),
        _ => return,
    };
    let due = state.ending_due();
    let has_failed = finished.is_some_and(|RunFinished { ending, reason, .. }| {
        let told = |why: &String| reason.contains(why.as_str());
        *ending == Ending::Failed && state.failed.as_ref().is_some_and(told)
    });
    let logged =
        finished.map(|finished| Due { ending: finished.ending, reason: finished.reason.clone() });
    if logged != due && !has_failed {
        let text = |due: Option<Due>| match due {
            Some(Due { ending, reason }) => format!("{ending:?}: {reason}"),
            None => "the run goes on".to_owned(),
        };
        found.push(host(recorded, "end of the run", text(logged), text(due)));
    }
}
