//! `decision`: everything that was decided about data and knobs, by plugin or by hand.

use std::borrow::Cow;

use hm_domain::event::{Effect, Event, Receipt, Recorded, RunStarted};
use hm_domain::id::RunId;
use hm_domain::mixture::Mixture;
use hm_domain::plugin::Output;
use hm_domain::state::RunState;
use sqlx::postgres::PgConnection;

use super::clean;
use super::lists::Lists;
use crate::error::Result;

const INSERT: &str = "insert into decision (run_id, seq, receipt, effect, attempt, step, binding, kind, \
    version, effective_step, shares, rules, reason, issued_by, value) \
    select $1, u.seq, u.receipt, u.effect, u.attempt, u.step, u.binding, u.kind, u.version, \
    u.effective_step, ($2::float8[])[u.shares_start:u.shares_stop], \
    ($3::text[])[u.rules_start:u.rules_stop], u.reason, u.issued_by, u.value \
    from unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], \
    $10::text[], $11::bigint[], $12::bigint[], $13::integer[], $14::integer[], $15::integer[], \
    $16::integer[], $17::text[], $18::text[], $19::float8[]) as u(seq, receipt, effect, attempt, step, binding, kind, \
    version, effective_step, shares_start, shares_stop, rules_start, rules_stop, reason, issued_by, \
    value)";

/// One row.
struct Decision<'a> {
    recorded: &'a Recorded,
    /// Receipt and effect within the event.
    place: (i64, i64),
    step: u64,
    binding: Option<u32>,
    kind: &'static str,
    mixture: Option<Cow<'a, Mixture>>,
    /// First step under it.
    effective_step: Option<u64>,
    /// A knob's: the peak learning rate, or sequences of a step.
    value: Option<f64>,
    weights: Option<&'a [f64]>,
    rules: &'a [String],
    reason: &'a str,
    by: Option<&'a str>,
}

/// Writes a row for every decision in `events`.
pub(super) async fn insert(
    c: &mut PgConnection,
    run_id: RunId,
    events: &[&Recorded],
) -> Result<()> {
    let decisions: Vec<Decision<'_>> = events.iter().flat_map(|recorded| of(recorded)).collect();
    if decisions.is_empty() {
        return Ok(());
    }
    let (mut shares, mut rules) = (Lists::new(), Lists::new());
    for decision in &decisions {
        match (&decision.mixture, decision.weights) {
            (Some(mixture), _) => shares.push(mixture.shares()),
            (None, Some(weights)) => shares.push(weights.iter().copied()),
            (None, None) => shares.push_none(),
        }
        rules.push(decision.rules.iter().map(|rule| clean(rule)));
    }
    let rows = || decisions.iter();
    sqlx::query(INSERT)
        .bind(run_id.0)
        .bind(shares.values)
        .bind(rules.values)
        .bind(rows().map(|row| row.recorded.seq as i64).collect::<Vec<_>>())
        .bind(rows().map(|row| row.place.0).collect::<Vec<_>>())
        .bind(rows().map(|row| row.place.1).collect::<Vec<_>>())
        .bind(rows().map(|row| i64::from(row.recorded.attempt)).collect::<Vec<_>>())
        .bind(rows().map(|row| row.step as i64).collect::<Vec<_>>())
        .bind(rows().map(|row| row.binding.map(i64::from)).collect::<Vec<_>>())
        .bind(rows().map(|row| row.kind).collect::<Vec<_>>())
        .bind(
            rows()
                .map(|row| row.mixture.as_ref().map(|mixture| mixture.version as i64))
                .collect::<Vec<_>>(),
        )
        .bind(rows().map(|row| row.effective_step.map(|step| step as i64)).collect::<Vec<_>>())
        .bind(shares.starts)
        .bind(shares.stops)
        .bind(rules.starts)
        .bind(rules.stops)
        .bind(rows().map(|row| clean(row.reason)).collect::<Vec<_>>())
        .bind(rows().map(|row| row.by.map(clean)).collect::<Vec<_>>())
        .bind(rows().map(|row| row.value).collect::<Vec<_>>())
        .execute(c)
        .await?;
    Ok(())
}

/// What one event decided.
fn of(recorded: &Recorded) -> Vec<Decision<'_>> {
    match &recorded.event {
        Event::StepRecorded(event) => (0..)
            .zip(&event.receipts)
            .flat_map(|(index, receipt)| of_receipt(recorded, event.step, index, receipt))
            .collect(),
        Event::MixtureSet(event) => {
            let row = by_hand(recorded, event.step, "mixture", &event.by);
            let reason = match &event.reason[..] {
                "" => "set by hand",
                reason => reason,
            };
            vec![Decision {
                mixture: Some(Cow::Borrowed(&event.mixture)),
                rules: &event.rules,
                reason,
                ..row
            }]
        }
        Event::MixtureLimited(event) => {
            let row = Decision { by: None, ..by_hand(recorded, event.step, "mixture", "") };
            let reason = "held to the limits";
            vec![Decision {
                mixture: Some(Cow::Borrowed(&event.mixture)),
                rules: &event.rules,
                reason,
                ..row
            }]
        }
        Event::LearningRateSet(event) => {
            let row = by_hand(recorded, event.step, "learning-rate", &event.by);
            vec![Decision { value: Some(event.peak), reason: &event.reason, ..row }]
        }
        Event::BatchSizeSet(event) => {
            let row = by_hand(recorded, event.step, "batch-size", &event.by);
            vec![Decision { value: Some(event.sequences.into()), reason: &event.reason, ..row }]
        }
        Event::RolledBack(event) => {
            // The mixture comes back too, and is the newest that anybody decided.
            let Ok(state) = RunState::from_snapshot(&event.state) else { return Vec::new() };
            let row = by_hand(recorded, event.to_step, "mixture", &event.by);
            vec![Decision { reason: "rolled back", ..newest_of(&state, row) }]
        }
        Event::RunStarted(RunStarted { parent: Some(_), .. }) => {
            // What its parent had decided is in force, and no other row of this run says so.
            let Ok(state) = RunState::start(&recorded.event) else { return Vec::new() };
            let row = by_hand(recorded, state.next_step, "mixture", "");
            vec![Decision { by: None, reason: "begun as a fork", ..newest_of(&state, row) }]
        }
        _ => Vec::new(),
    }
}

/// A row of the newest mixture of a state, which may not be in force yet.
fn newest_of<'a>(state: &RunState, row: Decision<'a>) -> Decision<'a> {
    let begins = state.pending.last().map(|(step, _)| *step).or(row.effective_step);
    let mixture = Some(Cow::Owned(state.newest_mixture().clone()));
    Decision { mixture, effective_step: begins, ..row }
}

fn by_hand<'a>(recorded: &'a Recorded, step: u64, kind: &'static str, by: &'a str) -> Decision<'a> {
    Decision {
        recorded,
        place: (0, 0),
        step,
        binding: None,
        kind,
        mixture: None,
        effective_step: Some(step),
        value: None,
        weights: None,
        rules: &[],
        reason: "",
        by: Some(by),
    }
}

fn of_receipt<'a>(
    recorded: &'a Recorded,
    step: u64,
    index: i64,
    receipt: &'a Receipt,
) -> impl Iterator<Item = Decision<'a>> {
    let actions = match &receipt.output {
        Output::Actions(actions) => &actions[..],
        _ => &[],
    };
    receipt.effects.iter().enumerate().map(move |(position, effect)| {
        let mut row = Decision {
            recorded,
            place: (index, position as i64),
            step,
            binding: Some(receipt.binding.0),
            kind: "noted",
            mixture: None,
            effective_step: None,
            value: None,
            weights: None,
            rules: &[],
            reason: actions.get(position).map_or("", |action| &action.reason),
            by: None,
        };
        match effect {
            Effect::Mixture { mixture, effective_step, rules } => {
                (row.kind, row.rules) = ("mixture", rules);
                (row.mixture, row.effective_step) =
                    (Some(Cow::Borrowed(mixture)), Some(*effective_step));
            }
            Effect::LossWeights { weights } => {
                row.kind = "loss-weights";
                row.weights = Some(weights);
            }
            Effect::Validate => row.kind = "validate",
            Effect::Noted => {}
            Effect::Refused { reason } => (row.kind, row.reason) = ("refused", reason),
        }
        row
    })
}
