//! How an event becomes what a plugin is shown. Live calls and audits both come through here.

use serde::{Deserialize, Serialize};

use crate::catalogue::{CATALOGUE, Per, weight_values};
use crate::event::{KindState, StepRecorded, ValidationRecorded};
use crate::plugin::{Column, Observation, ObservationKind, Observations, Timing};
use crate::state::{Binding, RunState};
use crate::step::{LossSums, canonical};

/// An observation with every column that there is of it, and its place in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) seq: u64,
    pub(crate) full: Observation,
    pub(crate) timing: Option<Timing>,
}

/// What a step shows, `state` being the state before it.
pub(crate) fn step(state: &RunState, seq: u64, step: &StepRecorded) -> Seen {
    let losses = &step.pre_step.losses;
    let cumulative = |index: usize| state.domain_tokens[index] + losses[index].tokens;
    let value = |name: &str, index: usize| -> Option<f64> {
        let sums = &losses[index];
        let drawn = sums.tokens > 0;
        match name {
            "loss_sum" => drawn.then_some(sums.loss_sum),
            "loss_square_sum" => drawn.then_some(sums.loss_square_sum),
            "loss_tokens" => Some(sums.tokens as f64),
            "sequences" => Some(f64::from(step.draws[index].sequences)),
            "cumulative_tokens" => Some(cumulative(index) as f64),
            "epochs" => {
                Some(cumulative(index) as f64 / state.spec.domains[index].tokens().max(1) as f64)
            }
            "loss_weight" => Some(state.loss_weights[index]),
            _ => None,
        }
    };
    let step_tokens: u64 = losses.iter().map(|sums| sums.tokens).sum();
    let full = Observation {
        kind: ObservationKind::Step,
        attempt: state.attempt,
        step: step.step,
        tokens: step.tokens,
        learning_rate: step.learning_rate,
        loss: canonical(mean(losses)),
        gradient_norm: canonical(step.pre_step.gradient_norm),
        mixture_version: step.mixture_version,
        shares: state.mixture.shares(),
        columns: columns(losses.len(), value, state.measured_at(step.step)),
    };
    let timing = Timing { step: step.step, step_us: step.step_us, tokens: step_tokens };
    Seen { seq, full, timing: Some(timing) }
}

/// What a validation shows.
pub(crate) fn validation(state: &RunState, seq: u64, validation: &ValidationRecorded) -> Seen {
    let losses = &validation.losses;
    let value = |name: &str, index: usize| -> Option<f64> {
        let sums = &losses[index];
        match name {
            "validation_loss_sum" => (sums.tokens > 0).then_some(sums.loss_sum),
            "validation_tokens" => Some(sums.tokens as f64),
            _ => None,
        }
    };
    let full = Observation {
        kind: ObservationKind::Validation,
        attempt: state.attempt,
        step: validation.step,
        tokens: state.tokens,
        learning_rate: state.learning_rate(),
        loss: canonical(mean(losses)),
        gradient_norm: 0.0,
        mixture_version: state.mixture.version,
        shares: state.mixture.shares(),
        columns: columns(losses.len(), value, &[]),
    };
    Seen { seq, full, timing: None }
}

fn mean(losses: &[LossSums]) -> f64 {
    let mut all = LossSums::default();
    losses.iter().for_each(|sums| all.add(sums));
    all.mean().unwrap_or(0.0)
}

/// Columns per domain always, columns per layer where they were measured, in catalogue order.
fn columns(
    count: usize,
    value: impl Fn(&str, usize) -> Option<f64>,
    measured: &[KindState],
) -> Vec<Column> {
    let column = |name: &str, values| Column { name: name.to_owned(), values };
    CATALOGUE
        .iter()
        .filter(|entry| entry.filled && (entry.per == Per::Domain || !measured.is_empty()))
        .filter_map(|entry| match entry.per {
            Per::Domain => {
                let values =
                    (0..count).map(|index| value(entry.name, index).map(canonical)).collect();
                Some(column(entry.name, values))
            }
            Per::Layer => {
                let values = weight_values(entry.name, measured)?.iter().copied().map(Some);
                Some(column(entry.name, values.collect()))
            }
        })
        .collect()
}

/// All that `binding` has not seen, `newest` included, with the columns it asked for.
pub(crate) struct Window {
    pub(crate) from_seq: u64,
    pub(crate) to_seq: u64,
    pub(crate) observations: Observations,
    pub(crate) timings: Option<Vec<Timing>>,
}

pub(crate) fn window(state: &RunState, binding: &Binding, newest: &Seen) -> Window {
    let unseen: Vec<&Seen> = state
        .seen
        .iter()
        .chain([newest])
        .rev()
        .take(crate::plugin::OBSERVATIONS_MAX)
        .take(usize::try_from(binding.unseen).map_or(usize::MAX, |unseen| unseen + 1))
        .collect();
    let from_seq = unseen.last().map_or(newest.seq, |seen| seen.seq);
    // Every observation since the last ok has its own event; what is older than the window was dropped.
    let dropped = (binding.unseen + 1).saturating_sub(unseen.len() as u64);
    let wanted = &binding.facts.description.columns;
    let entries = unseen
        .iter()
        .rev()
        .map(|seen| {
            let mut shown = seen.full.clone();
            shown.columns.retain(|column| wanted.contains(&column.name));
            shown
        })
        .collect();
    let timings = binding
        .facts
        .description
        .wants_timings
        .then(|| unseen.iter().rev().filter_map(|seen| seen.timing.clone()).collect());
    Window {
        from_seq,
        to_seq: newest.seq,
        observations: Observations { dropped, entries },
        timings,
    }
}
