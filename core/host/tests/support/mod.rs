//! What the tests of the host share: built plugins, a strict host, small requests.
#![allow(dead_code, reason = "every test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use hm_domain::id::Digest;
use hm_domain::plugin::*;
use hm_domain::step::{LossSums, PreStep};
use hm_host::{Host, pack};

/// Builds all plugins, once, and gives one's core module.
fn module(name: &str) -> Vec<u8> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/build-plugins.sh");
        let built = Command::new(&script).env_remove("RUSTC").status().unwrap();
        assert!(built.success(), "{} failed", script.display());
        let target = std::env::var_os("HM_WASM_TARGET").map_or_else(
            || Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/heurimentor/plugins"),
            PathBuf::from,
        );
        target.join("wasm32-unknown-unknown/release")
    });
    std::fs::read(folder.join(format!("{name}.wasm"))).unwrap()
}

/// A plugin as a component.
pub(crate) fn component(name: &str) -> Vec<u8> {
    pack(&module(name)).unwrap()
}

/// A hostile plugin whose `describe` misbehaves so: the behaviour is written over the built bytes.
pub(crate) fn describing(name: &str, how: &str) -> Vec<u8> {
    let mut module = module(name);
    let switch = b"describe=honest         ";
    let places: Vec<usize> = (0..module.len() - switch.len())
        .filter(|&at| &module[at..at + switch.len()] == switch)
        .collect();
    let [at] = places[..] else { panic!("the switch is there {} times", places.len()) };
    let text = format!("describe={how:<15}");
    module[at..at + switch.len()].copy_from_slice(text.as_bytes());
    pack(&module).unwrap()
}

/// Small limits, so that misbehaviour ends soon; but fuel and time enough that each kind meets its own
/// limit first, whatever compiler built the guests and however slow the machine is.
pub(crate) fn limits() -> Limits {
    Limits {
        memory_bytes_max: 16 << 20,
        stack_bytes_max: 128 << 10,
        output_bytes_max: 128 << 10,
        deadline_ms: 120_000,
        ..Limits::default()
    }
}

pub(crate) fn host() -> Host {
    Host::new(limits()).unwrap()
}

pub(crate) fn init(config: &str) -> Request {
    let domain = |name: &str| DomainFacts {
        name: name.to_owned(),
        content: Digest::of(name.as_bytes()),
        tokens: 1000,
        documents: 10,
        bytes_per_token: 4.0,
        prior: 0.5,
        floor: 0.0,
        cap: 1.0,
        max_epochs: None,
    };
    Request::Init {
        facts: RunFacts {
            seed: 1,
            steps: 300,
            bound_at_step: 0,
            tokens_per_step: 64,
            sequence_length: 8,
            sequences_per_step: 8,
            parameters: 100,
            learning_rate_peak: 1e-3,
            warmup_steps: 10,
        },
        domains: vec![domain("a"), domain("b")],
        config: config.to_owned(),
        artefacts: Vec::new(),
    }
}

/// One observation of `step` with mean losses 2 and 1.
pub(crate) fn observations(step: u64) -> Observations {
    let column = |name: &str, values: [f64; 2]| Column {
        name: name.to_owned(),
        values: values.map(Some).to_vec(),
    };
    let entry = Observation {
        kind: ObservationKind::Step,
        attempt: 0,
        step,
        tokens: 64,
        learning_rate: 1e-3,
        loss: 1.5,
        gradient_norm: 1.0,
        mixture_version: 0,
        shares: vec![0.5, 0.5],
        columns: vec![
            column("loss_sum", [64.0, 32.0]),
            column("loss_tokens", [32.0, 32.0]),
            column("loss_weight", [1.0, 1.0]),
        ],
    };
    Observations { dropped: 0, entries: vec![entry] }
}

pub(crate) fn pre_step(loss: f64) -> PreStep {
    let losses = vec![LossSums { loss_sum: loss, loss_square_sum: loss, tokens: 1 }; 2];
    PreStep { loss, gradient_norm: 1.0, nonfinite_count: 0, losses }
}

pub(crate) fn state_of(host: &Host, plugin: &Digest, config: &str) -> Vec<u8> {
    let reply = host.call(plugin, &init(config));
    reply.value.unwrap_or_else(|| panic!("init: {:?}", reply.outcome)).0
}

pub(crate) fn step(state: Vec<u8>, at: u64) -> Request {
    Request::Step { state, observations: observations(at) }
}
