//! One step with the plugin calls that it causes.

use std::collections::BTreeMap;

use super::sums_of;
use crate::batch::{Batch, Cursor, DomainDraw};
use crate::calls::{self, PlannedCall};
use crate::effects::{effects, gate_verdict};
use crate::event::*;
use crate::id::{BindingId, Digest};
use crate::mixture::quotas;
use crate::plugin::{Outcome, Output};
use crate::state::RunState;
use crate::step::{LossSums, PreStep, TrainReport, Verdict, canonical, weighted_loss};

/// What the sampler, the trainer and the clock say of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepFacts<'a> {
    /// Where each domain's stream stands after it.
    pub cursors: Vec<Cursor>,
    /// What was drawn.
    pub batch: Digest,
    /// Sums of losses per domain. Their tokens follow from the quotas.
    pub sums: &'a [LossSums],
    /// Global norm of the gradients.
    pub gradient_norm: f64,
    /// Elements that are no numbers.
    pub nonfinite_count: u64,
    /// How long it took.
    pub step_us: u64,
}

impl<'a> StepFacts<'a> {
    /// Of a step just trained.
    pub fn of(batch: &Batch, report: &'a TrainReport) -> StepFacts<'a> {
        StepFacts {
            cursors: batch.draws.iter().map(|draw| draw.to).collect(),
            batch: batch.digest(),
            step_us: report.step_us,
            ..StepFacts::of_pre_step(&report.pre_step)
        }
    }

    /// Of a step on record.
    pub fn of_recorded(step: &'a StepRecorded) -> StepFacts<'a> {
        StepFacts {
            cursors: step.draws.iter().map(|draw| draw.to).collect(),
            batch: step.batch,
            step_us: step.step_us,
            ..StepFacts::of_pre_step(&step.pre_step)
        }
    }

    fn of_pre_step(pre_step: &'a PreStep) -> StepFacts<'a> {
        let PreStep { gradient_norm, nonfinite_count, losses: sums, .. } = pre_step;
        StepFacts {
            cursors: Vec::new(),
            batch: Digest::ZERO,
            sums,
            gradient_norm: *gradient_norm,
            nonfinite_count: *nonfinite_count,
            step_us: 0,
        }
    }
}

/// What a plugin answered, as far as the host takes it: nothing and its old state unless it ended well.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// How the call ended.
    pub outcome: Outcome,
    /// Fuel used.
    pub fuel: u64,
    /// What it answered.
    pub output: Output,
    /// State coming out.
    pub state_after: Digest,
}

impl Answer {
    /// Of a call on record.
    pub fn of_recorded(receipt: &Receipt) -> Answer {
        let Receipt { outcome, fuel, output, state_after, .. } = receipt;
        let (outcome, output) = (outcome.clone(), output.clone());
        Answer { outcome, fuel: *fuel, output, state_after: *state_after }
    }
}

/// A step, and the calls that its receipts are of, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct StepMade {
    /// The event.
    pub recorded: StepRecorded,
    /// One per receipt.
    pub calls: Vec<PlannedCall>,
}

/// The next step. `answer` gives what a plugin answers: the gates first, then those that fold.
pub fn step(
    state: &RunState,
    facts: &StepFacts<'_>,
    mut answer: impl FnMut(&PlannedCall) -> Answer,
) -> StepMade {
    let mut recorded = drawn_and_trained(state, facts);
    let mut after: BTreeMap<BindingId, Digest> = BTreeMap::new();
    let mut receipt = |call: &PlannedCall| {
        let before = after.get(&call.binding).copied();
        let before = before.unwrap_or_else(|| state.bindings[&call.binding].state);
        let receipt = receipt(call, before, answer(call));
        after.insert(call.binding, receipt.state_after);
        receipt
    };
    let mut calls = calls::gates(state, recorded.step, &recorded.pre_step);
    recorded.receipts = calls.iter().map(&mut receipt).collect();
    let asked = recorded.receipts.iter().map(|receipt| (receipt.binding, &receipt.output));
    let asked = gate_verdict(state, asked);
    // The host's own rule: what is not finite never reaches the weights.
    let finite = recorded.pre_step.is_finite();
    recorded.verdict = if finite { asked } else { asked.and(Verdict::Skip) };
    if let Verdict::ClipTo(norm) = recorded.verdict {
        recorded.effective_clip = norm.min(recorded.effective_clip);
    }
    let folds = calls::folds(state, &recorded);
    recorded.receipts.extend(folds.iter().map(&mut receipt));
    calls.extend(folds);
    let mut receipts = std::mem::take(&mut recorded.receipts);
    for receipt in &mut receipts {
        receipt.effects = effects(state, &recorded, receipt);
    }
    recorded.receipts = receipts;
    StepMade { recorded, calls }
}

/// A step before any plugin has been asked.
fn drawn_and_trained(state: &RunState, facts: &StepFacts<'_>) -> StepRecorded {
    let mut carries = state.carries.clone();
    let counts = quotas(&state.mixture, state.next_sequences(), &mut carries);
    let draw = |index: usize| {
        let (from, carry) = (state.cursors[index], carries[index]);
        let to = facts.cursors.get(index).copied().unwrap_or(from);
        DomainDraw { sequences: counts[index], from, to, carry }
    };
    let length = u64::from(state.spec.model.sequence_length);
    let sums = |(index, &count): (usize, &u32)| {
        let said = facts.sums.get(index).copied().unwrap_or_default();
        sums_of(&said, u64::from(count) * length)
    };
    let losses: Vec<LossSums> = counts.iter().enumerate().map(sums).collect();
    let tokens: u64 = losses.iter().map(|sums| sums.tokens).sum();
    StepRecorded {
        step: state.next_step,
        tokens: state.tokens + tokens,
        learning_rate: state.learning_rate(),
        mixture_version: state.mixture.version,
        draws: (0..counts.len()).map(draw).collect(),
        batch: facts.batch,
        pre_step: PreStep {
            loss: weighted_loss(&losses, &state.loss_weights, tokens as f64),
            gradient_norm: canonical(facts.gradient_norm),
            nonfinite_count: facts.nonfinite_count,
            losses,
        },
        verdict: Verdict::Proceed,
        effective_clip: state.spec.optimizer.clip_norm,
        step_us: facts.step_us,
        receipts: Vec::new(),
    }
}

fn receipt(call: &PlannedCall, before: Digest, answer: Answer) -> Receipt {
    let Answer { outcome, fuel, output, state_after } = answer;
    let (output, state_after) = match outcome {
        Outcome::Ok => (output, state_after),
        _ => (Output::Nothing, before),
    };
    Receipt {
        binding: call.binding,
        hook: call.hook,
        from_seq: call.from_seq,
        to_seq: call.to_seq,
        dropped: call.dropped,
        state_before: before,
        state_after,
        outcome,
        fuel,
        output,
        effects: Vec::new(),
    }
}
