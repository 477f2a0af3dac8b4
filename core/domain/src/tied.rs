//! Facts that arithmetic ties to others: what a trainer says cannot be just anything.

use crate::batch::{Cursor, DomainDraw};
use crate::difference::Difference;
use crate::event::*;
use crate::plugin::Outcome;
use crate::record::Record;
use crate::spec::DomainSpec;
use crate::state::RunState;
use crate::step::{LossSums, PreStep};

/// How far a sum of squares may be below what its sum allows, as a part of it: roundings of a few
/// thousand additions.
const ROUNDING: f64 = 1e-9;

/// A fact of `event` that cannot be, given the others and `state` before it. All that is derived holds.
pub(crate) fn untenable(state: &RunState, record: &Record, event: &Event) -> Option<Difference> {
    match event {
        Event::StepRecorded(step) => counts(&step.pre_step)
            .or_else(|| cursors(state, record, step))
            .or_else(|| sums(state, "pre_step.losses", &step.pre_step.losses))
            .or_else(|| fuel(state, step)),
        Event::ValidationRecorded(validation) => sums(state, "losses", &validation.losses),
        Event::RunResumed(resumed) if resumed.difference_max < 0.0 => {
            Some(difference("difference_max", resumed.difference_max, "none below 0"))
        }
        _ => None,
    }
}

fn difference(field: &str, logged: impl ToString, due: impl ToString) -> Difference {
    Difference { field: field.to_owned(), logged: logged.to_string(), due: due.to_string() }
}

/// The norm is no number exactly where an element of the gradients is none; the loss counts as one more.
fn counts(pre_step: &PreStep) -> Option<Difference> {
    let PreStep { loss, gradient_norm, nonfinite_count, .. } = *pre_step;
    let (of_loss, bad_norm) = (u64::from(!loss.is_finite()), !gradient_norm.is_finite());
    if gradient_norm < 0.0 || gradient_norm.is_sign_negative() && gradient_norm == 0.0 {
        return Some(difference("pre_step.gradient_norm", gradient_norm, "none below 0"));
    }
    let of_gradients = nonfinite_count.checked_sub(of_loss);
    let holds = of_gradients.is_some_and(|count| (count > 0) == bad_norm);
    let due = match bad_norm {
        true => format!("at least {}", of_loss + 1),
        false => of_loss.to_string(),
    };
    (!holds).then(|| difference("pre_step.nonfinite_count", nonfinite_count, due))
}

/// A square of sums over tokens is at most the sum of squares (Cauchy and Schwarz), and equal to it for
/// one sequence.
fn sums(state: &RunState, field: &str, losses: &[LossSums]) -> Option<Difference> {
    let length = u64::from(state.spec.model.sequence_length).max(1);
    losses.iter().enumerate().find_map(|(index, sums)| {
        let LossSums { loss_sum, loss_square_sum, tokens } = *sums;
        let least = loss_sum * loss_sum / tokens as f64;
        let holds = match tokens / length {
            0 => true,
            _ if !least.is_finite() => !loss_square_sum.is_finite(),
            1 => loss_square_sum == least,
            _ => loss_square_sum >= least * (1.0 - ROUNDING),
        };
        let field = format!("{field}[{index}].loss_square_sum");
        (!holds).then(|| difference(&field, loss_square_sum, format!("{least} or more")))
    })
}

/// A stream moves on by what was drawn from it: not at all by nothing, and to a place that so many
/// tokens can lead to.
fn cursors(state: &RunState, record: &Record, step: &StepRecorded) -> Option<Difference> {
    step.draws.iter().enumerate().find_map(|(index, draw)| {
        let (domain, tokens) = (&state.spec.domains[index], step.pre_step.losses[index].tokens);
        let drawn = u128::from(state.domain_tokens[index]) + u128::from(tokens);
        let may_be = match tokens {
            0 => draw.to == draw.from,
            // Data that a fork adds lengthens the passes of its parent, too.
            _ if record.is_fork => moves_on(draw),
            _ => moves_on(draw) && is_place(domain, draw.to, drawn),
        };
        let due = format!("a place after {drawn} tokens of the domain");
        let logged = format!("{:?}", draw.to);
        (!may_be).then(|| difference(&format!("draws[{index}].to"), logged, due))
    })
}

fn moves_on(draw: &DomainDraw) -> bool {
    let place = |at: Cursor| (at.epoch, at.segment, at.rank, at.token_offset);
    place(draw.to) > place(draw.from)
}

/// Whether a cursor may stand so after so many tokens: within the segment that they reach.
fn is_place(domain: &DomainSpec, at: Cursor, drawn: u128) -> bool {
    let Some(before) = domain.segments.get(..at.segment as usize) else { return false };
    let behind: u128 = before.iter().map(|segment| u128::from(segment.tokens)).sum();
    let behind = behind + u128::from(at.epoch) * u128::from(domain.tokens());
    let here = domain.segments.get(at.segment as usize);
    let (tokens, documents) = here.map_or((0, 0), |here| (here.tokens, here.documents));
    let least = behind + u128::from(at.token_offset);
    at.rank <= documents && (least..=behind + u128::from(tokens)).contains(&drawn)
}

/// A call uses no more fuel than it may, unless that is how it ended.
fn fuel(state: &RunState, step: &StepRecorded) -> Option<Difference> {
    step.receipts.iter().enumerate().find_map(|(index, receipt)| {
        let most = state.bindings.get(&receipt.binding)?.facts.limits.fuel;
        let holds = match receipt.outcome {
            Outcome::NotCalled(_) => receipt.fuel == 0,
            _ => receipt.fuel <= most,
        };
        let field = format!("receipts[{index}].fuel");
        (!holds).then(|| difference(&field, receipt.fuel, format!("at most {most}")))
    })
}
