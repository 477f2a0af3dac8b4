//! The trial run of the upload checks: three domains, eight steps, one validation. Never change a
//! number: a plugin that was accepted must be accepted again.
//!
//! Weights are measured at the last step of each call, as in a run, and of a model of four layers.

use hm_domain::catalogue::{CATALOGUE, Per, weight_values};
use hm_domain::event::KindState;
use hm_domain::id::Digest;
use hm_domain::parameter_kind::{PARAMETER_KINDS, ParameterKind};
use hm_domain::plugin::{
    Column, Description, DomainFacts, Observation, ObservationKind, Observations, Request,
    RunFacts, Timing, World,
};
use hm_domain::step::{LossSums, PreStep};
use serde_json::Value;

/// Name and prior share.
pub(crate) const DOMAINS: [(&str, f64); 3] = [("web", 0.5), ("code", 0.3), ("books", 0.2)];

/// Spread over the run, so that plugins which warm up decide as well.
const STEPS: u64 = 8_000;
const CALLS: u64 = 8;
const TOKENS_PER_STEP: u64 = 8_192;
const LAYERS: usize = 4;
/// Elements of every parameter.
const ELEMENTS: usize = 1 << 16;

pub(crate) fn init(config: &Value) -> Request {
    let domain = |(name, prior): (&str, f64)| DomainFacts {
        name: name.to_owned(),
        content: Digest::of(name.as_bytes()),
        tokens: 10_000_000,
        documents: 10_000,
        bytes_per_token: 4.0,
        prior,
        floor: 0.0,
        cap: 1.0,
        max_epochs: None,
    };
    Request::Init {
        facts: RunFacts {
            seed: 7,
            steps: STEPS,
            bound_at_step: 0,
            tokens_per_step: TOKENS_PER_STEP,
            sequence_length: 512,
            sequences_per_step: 16,
            parameters: 1_000_000,
            learning_rate_peak: 1e-3,
            warmup_steps: 100,
        },
        domains: DOMAINS.map(domain).to_vec(),
        config: config.to_string(),
        artefacts: Vec::new(),
    }
}

/// A call without its state.
pub(crate) enum Call {
    Step(Observations),
    Gate(u64, PreStep),
    Watch(Observations, Option<Vec<Timing>>),
}

impl Call {
    pub(crate) fn request(self, state: Vec<u8>) -> (&'static str, Request) {
        match self {
            Call::Step(observations) => ("step", Request::Step { state, observations }),
            Call::Gate(step, pre_step) => ("gate", Request::Gate { state, step, pre_step }),
            Call::Watch(observations, timings) => {
                ("watch", Request::Watch { state, observations, timings })
            }
        }
    }
}

/// The calls of the trial run that this plugin asks for, in order.
pub(crate) fn calls(world: World, description: &Description) -> Vec<Call> {
    let mut calls = Vec::new();
    for number in 1..=CALLS {
        let last = number * STEPS / CALLS - 1;
        // As many as its cadence shows it, within reason.
        let shown = u64::from(description.every_steps).min(16);
        let steps = last + 1 - shown..=last;
        let measured = |step| if step == last { weights(step) } else { Vec::new() };
        let mut entries: Vec<_> =
            steps.clone().map(|step| observe(step, &measured(step), description)).collect();
        if number == CALLS {
            entries.push(validation(last, description));
        }
        let observations = Observations { dropped: 0, entries };
        if world == World::Policy {
            calls.push(Call::Step(observations));
            continue;
        }
        if description.gates {
            calls.push(Call::Gate(last, pre_step(last)));
        }
        if description.watches {
            let timing = |step| Timing { step, step_us: 100_000, tokens: TOKENS_PER_STEP };
            let timings = description.wants_timings.then(|| steps.map(timing).collect());
            calls.push(Call::Watch(observations, timings));
        }
    }
    calls
}

/// Losses fall; every third step draws nothing of the last domain.
fn sums(step: u64) -> Vec<LossSums> {
    let mean = |domain: u64| 2.0 + 4.0 / (1.0 + step as f64 / 1_000.0) + domain as f64 * 0.25;
    let tokens = |domain: u64| match (domain, step % 3) {
        (2, 0) => 0,
        (0, 0) => TOKENS_PER_STEP / 2 + TOKENS_PER_STEP / 4,
        (0, _) => TOKENS_PER_STEP / 2,
        _ => TOKENS_PER_STEP / 4,
    };
    (0..DOMAINS.len() as u64)
        .map(|domain| LossSums {
            loss_sum: mean(domain) * tokens(domain) as f64,
            loss_square_sum: mean(domain) * mean(domain) * tokens(domain) as f64,
            tokens: tokens(domain),
        })
        .collect()
}

fn pre_step(step: u64) -> PreStep {
    PreStep { loss: loss(step), gradient_norm: 1.0, nonfinite_count: 0, losses: sums(step) }
}

fn loss(step: u64) -> f64 {
    sums(step).iter().map(|sums| sums.loss_sum).sum::<f64>() / TOKENS_PER_STEP as f64
}

/// Deviations grow from 0.02 and settle, later layers' further out; no two kinds are alike.
fn weights(step: u64) -> Vec<KindState> {
    let moved = step as f64 / (step as f64 + 2_000.0);
    let kind = |(number, kind): (usize, &ParameterKind)| {
        let mut state = KindState::new(kind.name);
        for layer in 0..if kind.in_blocks { LAYERS } else { 1 } {
            let scale = 1.0 + number as f64 / 10.0 + layer as f64 / 4.0;
            let std = 0.02 * (1.0 + moved * scale);
            state.push(std * std * ELEMENTS as f64, ELEMENTS);
        }
        state
    };
    PARAMETER_KINDS.iter().enumerate().map(kind).collect()
}

fn observe(step: u64, measured: &[KindState], description: &Description) -> Observation {
    let losses = sums(step);
    let value = |name: &str, domain: usize| {
        let LossSums { loss_sum, loss_square_sum, tokens } = losses[domain];
        let drawn = tokens > 0;
        let cumulative = (step + 1) as f64 * TOKENS_PER_STEP as f64 * DOMAINS[domain].1;
        match name {
            "loss_sum" => drawn.then_some(loss_sum),
            "loss_square_sum" => drawn.then_some(loss_square_sum),
            "loss_tokens" => Some(tokens as f64),
            "sequences" => Some(tokens as f64 / 512.0),
            "cumulative_tokens" => Some(cumulative),
            "epochs" => Some(cumulative / 1e7),
            "loss_weight" => Some(1.0),
            _ => None,
        }
    };
    let tokens = (step + 1) * TOKENS_PER_STEP;
    Observation {
        kind: ObservationKind::Step,
        attempt: 0,
        step,
        tokens,
        learning_rate: 1e-3,
        loss: loss(step),
        gradient_norm: 1.0,
        mixture_version: 1,
        shares: DOMAINS.map(|(_, prior)| prior).to_vec(),
        columns: columns(description, value, measured),
    }
}

fn validation(step: u64, description: &Description) -> Observation {
    let value = |name: &str, domain: usize| match name {
        "validation_loss_sum" => Some((2.5 + domain as f64 * 0.25) * 4_096.0),
        "validation_tokens" => Some(4_096.0),
        _ => None,
    };
    Observation {
        kind: ObservationKind::Validation,
        loss: 2.75,
        gradient_norm: 0.0,
        columns: columns(description, value, &[]),
        ..observe(step, &[], description)
    }
}

/// The columns asked for, in the order of the catalogue; those per layer where they were measured.
fn columns(
    description: &Description,
    value: impl Fn(&str, usize) -> Option<f64>,
    measured: &[KindState],
) -> Vec<Column> {
    let values = |name: &str, per: Per| match per {
        Per::Domain => Some((0..DOMAINS.len()).map(|domain| value(name, domain)).collect()),
        Per::Layer => Some(weight_values(name, measured)?.iter().copied().map(Some).collect()),
    };
    CATALOGUE
        .iter()
        .filter(|entry| description.columns.iter().any(|name| name == entry.name))
        .filter_map(|entry| {
            let values = values(entry.name, entry.per)?;
            Some(Column { name: entry.name.to_owned(), values })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(columns: &[&str]) -> Vec<Observation> {
        let description = Description {
            name: String::new(),
            version: String::new(),
            documentation: String::new(),
            config_schema: "{}".to_owned(),
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            every_steps: 100,
            gates: false,
            watches: true,
            wants_timings: false,
        };
        let entries = |call| match call {
            Call::Watch(observations, _) => observations.entries,
            _ => panic!("only watched"),
        };
        calls(World::Detector, &description).into_iter().flat_map(entries).collect()
    }

    #[test]
    fn weights_are_shown_where_a_run_would_measure_them_and_only_when_asked_for() {
        let seen = shown(&["loss_sum", "weight_std.q_proj", "weight_norm.norm"]);
        let measured: Vec<_> = seen.iter().filter(|seen| seen.columns.len() == 3).collect();
        let steps: Vec<u64> = measured.iter().map(|seen| seen.step).collect();
        assert_eq!(steps, (1..=8).map(|call| call * 1_000 - 1).collect::<Vec<_>>());
        let lengths = measured[0].columns.iter().map(|column| column.values.len());
        assert_eq!(lengths.collect::<Vec<_>>(), [3, 4, 1]);
        assert!(shown(&["loss_sum"]).iter().all(|seen| seen.columns.len() == 1));
    }
}
