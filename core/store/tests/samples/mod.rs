//! Events that look like a run's own, for tests and for the bench.
#![allow(dead_code, reason = "every test file uses a part of it")]

use hm_domain::batch::{Cursor, DomainDraw};
use hm_domain::event::{
    Effect, Environment, Event, Hook, Receipt, RunStarted, StepRecorded, ValidationRecorded,
};
use hm_domain::id::{BindingId, Digest};
use hm_domain::mixture::Mixture;
use hm_domain::plugin::{Action, Change, Outcome, Output};
use hm_domain::step::{LossSums, PreStep, Verdict};

/// A machine.
pub(crate) fn environment() -> Environment {
    Environment {
        build: Digest::ZERO,
        device: "cpu".into(),
        processor: "p".into(),
        instruction_set: "avx2".into(),
        c_library: "glibc".into(),
        threads: 1,
        host: "h".into(),
        process: 1,
    }
}

/// The first event of a run with this many domains.
pub(crate) fn started(domain_count: usize) -> Event {
    let mut spec: serde_json::Value =
        serde_json::from_str(include_str!("../spec.json")).expect("spec.json is JSON");
    let domain = spec["domains"][0].clone();
    let domains = (0..domain_count).map(|index| {
        let mut domain = domain.clone();
        domain["name"] = format!("domain-{index}").into();
        domain["prior"] = (1.0 / domain_count as f64).into();
        domain
    });
    spec["domains"] = domains.collect::<Vec<_>>().into();
    let prior = Mixture::from_shares(0, &vec![1.0; domain_count]).expect("equal shares");
    let spec = spec.to_string();
    Event::RunStarted(RunStarted { spec, prior, environment: environment(), parent: None })
}

/// Step `step` of a run with this many domains: sums per domain and one policy's receipt that moves
/// the mixture, as ODM's does at every step.
pub(crate) fn step(step: u64, domain_count: usize) -> StepRecorded {
    let loss = 2.0 + 8.0 / (1.0 + step as f64).sqrt();
    let domains = || 0..domain_count as u64;
    let cursor = |sequences: u64, domain: u64| Cursor {
        epoch: 0,
        segment: (domain % 3) as u32,
        rank: sequences * 31 + domain,
        token_offset: (sequences * 977 + domain * 131) % 4096,
    };
    let draws = domains().map(|domain| DomainDraw {
        sequences: 4,
        from: cursor(step, domain),
        to: cursor(step + 1, domain),
        carry: (step as i64 * 7919 + domain as i64 * 104_729) % (1 << 31),
    });
    let losses = domains().map(|domain| LossSums {
        loss_sum: 1024.0 * (loss + 0.01 * domain as f64),
        loss_square_sum: 1024.0 * loss * loss,
        tokens: 1024,
    });
    let shares: Vec<f64> =
        domains().map(|domain| 1.0 + ((step + domain) as f64 * 0.37).sin() * 0.5).collect();
    let mixture = Mixture::from_shares(step + 1, &shares).expect("positive shares");
    let action = Action {
        change: Change::SetMixture(shares),
        reason: "reward moved: exploration rate 0.043".into(),
        diagnostics: vec![("exploration".into(), 0.043), ("entropy".into(), 2.7 + loss / 100.0)],
    };
    StepRecorded {
        step,
        tokens: 1024 * domain_count as u64 * (step + 1),
        learning_rate: 3e-4 / (1.0 + step as f64 / 1000.0),
        mixture_version: step,
        draws: draws.collect(),
        batch: Digest::of(&step.to_le_bytes()),
        pre_step: PreStep {
            loss,
            gradient_norm: 0.9 + 1.0 / loss,
            nonfinite_count: 0,
            losses: losses.collect(),
        },
        verdict: Verdict::Proceed,
        effective_clip: 1.0,
        step_us: 100_000 + step % 977,
        receipts: vec![Receipt {
            binding: BindingId(0),
            hook: Hook::Step,
            from_seq: step,
            to_seq: step,
            dropped: 0,
            state_before: Digest::of(&[0, step as u8]),
            state_after: Digest::of(&[1, step as u8]),
            outcome: Outcome::Ok,
            fuel: 41_000 + step % 101,
            output: Output::Actions(vec![action]),
            effects: vec![Effect::Mixture { mixture, effective_step: step + 1, rules: vec![] }],
        }],
    }
}

/// Held-out losses after `step` steps.
pub(crate) fn validation(step: u64, domain_count: usize) -> ValidationRecorded {
    let losses = (0..domain_count).map(|domain| LossSums {
        loss_sum: 100.0 + domain as f64,
        loss_square_sum: 10_000.0,
        tokens: 64,
    });
    ValidationRecorded { step, losses: losses.collect() }
}
