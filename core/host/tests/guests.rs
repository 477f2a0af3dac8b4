//! Real components behind the port: our own plugins, hostile ones, and bytes that are none.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use hm_domain::id::Digest;
use hm_domain::plugin::*;
use hm_domain::step::{LossSums, PreStep, Verdict};
use hm_host::{Host, pack};

/// Builds all plugins, once, and gives one as a component.
fn component(name: &str) -> Vec<u8> {
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
    pack(&std::fs::read(folder.join(format!("{name}.wasm"))).unwrap()).unwrap()
}

/// A host with small limits, so that misbehaviour ends soon.
fn host() -> Host {
    Host::new(Limits { fuel: 20_000_000, memory_bytes_max: 16 << 20, ..Limits::default() }).unwrap()
}

fn init(config: &str) -> Request {
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
fn observations(step: u64) -> Observations {
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
        columns: vec![column("loss_sum", [64.0, 32.0]), column("loss_tokens", [32.0, 32.0])],
    };
    Observations { dropped: 0, entries: vec![entry] }
}

fn state_of(host: &Host, plugin: &Digest, config: &str) -> Vec<u8> {
    host.call(plugin, &init(config)).value.expect("init is ok").0
}

fn hostile_step(how: &str) -> Reply {
    let host = host();
    let loaded = host.load(&component("hostile")).unwrap();
    let state = state_of(&host, &loaded.digest, &format!(r#"{{"how":"{how}"}}"#));
    host.call(&loaded.digest, &Request::Step { state, observations: observations(0) })
}

#[test]
fn odm_decides_by_its_formula_and_twice_the_same() {
    let host = host();
    let loaded = host.load(&component("odm")).unwrap();
    assert_eq!((loaded.world, loaded.description.name.as_str()), (World::Policy, "odm"));
    let state = state_of(&host, &loaded.digest, "{}");
    let warm = Request::Step { state: state.clone(), observations: observations(0) };
    assert_eq!(host.call(&loaded.digest, &warm).value.unwrap().1, Output::Actions(vec![]));
    let request = Request::Step { state, observations: observations(49) };
    let reply = host.call(&loaded.digest, &request);
    assert!(reply.fuel > 0);
    assert_eq!(host.call(&loaded.digest, &request), reply);
    // Another host compiles anew and comes to the same, fuel included.
    let other = self::host();
    other.load(&component("odm")).unwrap();
    assert_eq!(other.call(&loaded.digest, &request), reply);
    let Output::Actions(actions) = reply.value.unwrap().1 else { panic!("no actions") };
    let Change::SetMixture(shares) = &actions[0].change else { panic!("no mixture") };
    // R = (e^2, e), eps = sqrt(ln 2 / 100): (1 - 2 eps) e / (e + 1) + eps, by hand.
    assert!((shares[0] - 0.692_584_8).abs() < 1e-6, "{shares:?}");
}

#[test]
fn outlier_gates_a_spike_and_tells_it() {
    let host = host();
    let plugin = host.load(&component("outlier")).unwrap().digest;
    let mut state = state_of(&host, &plugin, "{}");
    let gate = |state: Vec<u8>, loss: f64| {
        let losses = vec![LossSums { loss_sum: loss, loss_square_sum: loss, tokens: 1 }; 2];
        let pre_step = PreStep { loss, gradient_norm: 1.0, nonfinite_count: 0, losses };
        let reply = host.call(&plugin, &Request::Gate { state, step: 0, pre_step });
        let (state, output) = reply.value.expect("gate is ok");
        let Output::Verdict(verdict) = output else { panic!("no verdict") };
        (state, verdict)
    };
    for step in 0..64 {
        let (after, verdict) = gate(state, if step % 2 == 0 { 1.9 } else { 2.1 });
        assert_eq!(verdict, Verdict::Proceed);
        state = after;
    }
    let (state, verdict) = gate(state, 9.0);
    assert_eq!(verdict, Verdict::Skip);
    let watch = Request::Watch { state, observations: observations(64), timings: None };
    let (_, output) = host.call(&plugin, &watch).value.unwrap();
    let Output::Findings(findings) = output else { panic!("no findings") };
    assert_eq!((findings[0].kind.as_str(), findings[0].score), ("loss-outlier", 9.0));
}

#[test]
fn endless_loop_runs_out_of_fuel_and_says_so_twice() {
    let reply = hostile_step("loop");
    assert_eq!((&reply.outcome, &reply.value), (&Outcome::OutOfFuel, &None));
    assert_eq!(hostile_step("loop").fuel, reply.fuel);
}

#[test]
fn hoarded_memory_ends_at_the_limit() {
    let outcome = hostile_step("hoard").outcome;
    assert!(matches!(&outcome, Outcome::Trap(_)), "{outcome:?}");
}

#[test]
fn trap_costs_the_call_and_nothing_else() {
    let host = host();
    let plugin = host.load(&component("hostile")).unwrap().digest;
    let state = state_of(&host, &plugin, r#"{"how":"trap"}"#);
    let request = Request::Step { state, observations: observations(0) };
    assert!(matches!(host.call(&plugin, &request).outcome, Outcome::Trap(_)));
    assert_eq!(host.call(&plugin, &init(r#"{"how":"x"}"#)).outcome, Outcome::Ok);
}

#[test]
fn nonsense_comes_back_as_it_is_and_large_state_is_refused() {
    let (_, output) = hostile_step("nan").value.unwrap();
    let Output::Actions(actions) = output else { panic!("no actions") };
    let Change::SetMixture(shares) = &actions[0].change else { panic!("no mixture") };
    assert!(shares.iter().all(|share| share.is_nan()));
    assert!(matches!(hostile_step("large").outcome, Outcome::TooLarge(_)));
    assert_eq!(hostile_step("sulk").outcome, Outcome::GuestError("failed: sulk".to_owned()));
    let host = host();
    let plugin = host.load(&component("hostile")).unwrap().digest;
    let refused = host.call(&plugin, &init("{}")).outcome;
    assert_eq!(refused, Outcome::GuestError("config.how is missing".to_owned()));
}

#[test]
fn what_is_no_plugin_is_refused_with_the_remedy() {
    let refusal = |bytes: &[u8]| host().load(bytes).err().unwrap().to_string();
    assert_eq!(refusal(b"hello, world"), "not a WebAssembly component");
    assert!(refusal(&wat::parse_str("(module)").unwrap()).contains("hm plugin build"));
    let wasi = r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance)))"#;
    let text = refusal(&wat::parse_str(wasi).unwrap());
    assert!(text.contains("wasi:clocks") && text.contains("without WASI"), "{text}");
    let empty = refusal(&wat::parse_str("(component)").unwrap());
    assert!(empty.contains("neither a policy nor a detector"), "{empty}");
    let small = Host::new(Limits { upload_bytes_max: 10, ..Limits::default() }).unwrap();
    assert!(small.load(&component("odm")).err().unwrap().to_string().contains("10 allowed"));
}
