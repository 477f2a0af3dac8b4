//! What one policy call costs: a fresh instance, all arguments in, the answer and the new state out.

use std::time::Instant;

use hm_domain::id::Digest;
use hm_domain::plugin::*;
use hm_host::Host;

use crate::figures::median;
use crate::place::component;

const DOMAINS: usize = 16;
const CALLS: u64 = 5000;

/// Prints the median and the 99th percentile of a call of ODM.
pub(crate) fn measure() {
    let host = Host::new(Limits::default()).expect("the engine starts");
    let wasm = std::fs::read(component("odm")).expect("odm is built");
    let plugin = host.load(&wasm).expect("odm loads").digest;
    let mut state = match host.call(&plugin, &init()).value {
        Some((state, _)) => state,
        None => panic!("odm does not start"),
    };
    let mut costs_us = Vec::new();
    for step in 0..CALLS {
        let request = Request::Step { state, observations: seen(step) };
        let start = Instant::now();
        let reply = host.call(&plugin, &request);
        costs_us.push(start.elapsed().as_secs_f64() * 1e6);
        state = reply.value.expect("odm answers").0;
    }
    costs_us.sort_by(f64::total_cmp);
    println!(
        "one policy call, odm with {DOMAINS} domains: {:.1} us (99 %: {:.1} us), {CALLS} calls",
        median(&costs_us),
        costs_us[costs_us.len() * 99 / 100]
    );
}

fn init() -> Request {
    let domain = |index: usize| DomainFacts {
        name: format!("domain-{index}"),
        content: Digest::of(&[index as u8]),
        tokens: 1 << 30,
        documents: 1 << 20,
        bytes_per_token: 4.0,
        prior: 1.0 / DOMAINS as f64,
        floor: 0.0,
        cap: 1.0,
        max_epochs: None,
    };
    Request::Init {
        facts: RunFacts {
            seed: 1,
            steps: 1000,
            bound_at_step: 0,
            tokens_per_step: 1 << 20,
            sequence_length: 2048,
            sequences_per_step: 512,
            parameters: 1 << 30,
            learning_rate_peak: 1e-3,
            warmup_steps: 10,
        },
        domains: (0..DOMAINS).map(domain).collect(),
        config: "{}".to_owned(),
        artefacts: Vec::new(),
    }
}

fn seen(step: u64) -> Observations {
    let column = |name: &str, value: f64| Column {
        name: name.to_owned(),
        values: (0..DOMAINS).map(|domain| Some(value * (1.0 + domain as f64 / 100.0))).collect(),
    };
    let entry = Observation {
        kind: ObservationKind::Step,
        attempt: 0,
        step,
        tokens: step << 20,
        learning_rate: 1e-3,
        loss: 2.0,
        gradient_norm: 1.0,
        mixture_version: step,
        shares: vec![1.0 / DOMAINS as f64; DOMAINS],
        columns: vec![column("loss_sum", 2048.0), column("loss_tokens", 1024.0)],
    };
    Observations { dropped: 0, entries: vec![entry] }
}
