//! Our own plugins behind the port.

mod support;

use hm_domain::plugin::*;
use hm_domain::step::Verdict;
use support::*;

#[test]
fn odm_decides_by_its_formula_and_twice_the_same() {
    let host = host();
    let loaded = host.load(&component("odm")).unwrap();
    assert_eq!((loaded.world, loaded.description.name.as_str()), (World::Policy, "odm"));
    let state = state_of(&host, &loaded.digest, "{}");
    let warm = step(state.clone(), 0);
    assert_eq!(host.call(&loaded.digest, &warm).value.unwrap().1, Output::Actions(vec![]));
    let request = step(state, 49);
    let reply = host.call(&loaded.digest, &request);
    assert!(reply.fuel > 0);
    assert_eq!(host.call(&loaded.digest, &request), reply);
    // Another host compiles anew and comes to the same, fuel included.
    let other = support::host();
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
        let reply = host.call(&plugin, &Request::Gate { state, step: 0, pre_step: pre_step(loss) });
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
fn weight_trajectory_tells_the_kind_that_leaps() {
    let host = host();
    let plugin = host.load(&component("weight_trajectory")).unwrap().digest;
    let config = r#"{"factor": 2, "armed_after": 2}"#;
    let mut state = state_of(&host, &plugin, config);
    let mut told = Vec::new();
    // A billion tokens a look: v_proj's second layer moves 0.25 each time and then 0.75.
    for (look, std) in (0u64..).zip([1.0, 1.25, 1.5, 1.75, 2.5]) {
        let mut observations = observations(look * 100 + 99);
        let entry = &mut observations.entries[0];
        entry.tokens = (look + 1) * 1_000_000_000;
        let column = |name: &str, values: [f64; 2]| Column {
            name: name.to_owned(),
            values: values.map(Some).to_vec(),
        };
        entry.columns =
            vec![column("weight_std.q_proj", [0.5, 0.5]), column("weight_std.v_proj", [0.5, std])];
        // A step that was seen and not measured is passed by.
        let unmeasured = Observation { columns: vec![], ..entry.clone() };
        observations.entries.insert(0, unmeasured);
        let watch = Request::Watch { state, observations, timings: None };
        let (after, output) = host.call(&plugin, &watch).value.unwrap();
        let Output::Findings(findings) = output else { panic!("no findings") };
        told.extend(findings);
        state = after;
    }
    let [finding] = &told[..] else { panic!("{told:?}") };
    assert_eq!(finding.kind, "weight-trajectory.v_proj");
    assert_eq!((finding.score, finding.threshold), (0.75, 0.5));
    assert!(finding.evidence.contains("from step 399 to 499"), "{}", finding.evidence);
}

#[test]
fn static_asks_for_its_shares_once_and_refuses_what_is_no_mixture_by_name() {
    let host = host();
    let plugin = host.load(&component("static")).unwrap().digest;
    let state = state_of(&host, &plugin, r#"{"shares": {"a": 1, "b": 3}}"#);
    let (state, output) = host.call(&plugin, &step(state, 0)).value.unwrap();
    let Output::Actions(actions) = output else { panic!("no actions") };
    assert_eq!(actions[0].change, Change::SetMixture(vec![0.25, 0.75]));
    // Without shares the prior is wanted, which is what the observation shows.
    let prior = state_of(&host, &plugin, "{}");
    let (prior, first) = host.call(&plugin, &step(prior, 0)).value.unwrap();
    assert!(matches!(&first, Output::Actions(actions) if actions.len() == 1), "{first:?}");
    assert_eq!(host.call(&plugin, &step(prior, 1)).value.unwrap().1, Output::Actions(vec![]));
    // The other mixture has not come into force yet: nothing moved, so it waits.
    assert_eq!(host.call(&plugin, &step(state, 1)).value.unwrap().1, Output::Actions(vec![]));
    for (config, word) in [
        (r#"{"shares": {"a": 1, "c": 3}}"#, "`c`"),
        (r#"{"shares": {"a": -1, "b": 3}}"#, "`a` has -1"),
        (r#"{"shares": {"a": 0, "b": 0}}"#, "a, b sum to 0"),
    ] {
        let Outcome::GuestError(text) = host.call(&plugin, &init(config)).outcome else { panic!() };
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn the_example_policy_follows_the_loss() {
    let host = host();
    let plugin = host.load(&component("loss_power")).unwrap().digest;
    let state = state_of(&host, &plugin, r#"{"power": 2}"#);
    let (_, output) = host.call(&plugin, &step(state, 0)).value.unwrap();
    let Output::Actions(actions) = output else { panic!("no actions") };
    assert_eq!(actions[0].change, Change::SetMixture(vec![4.0, 1.0]));
}

#[test]
fn a_state_of_another_plugin_is_an_error_of_the_guest() {
    let host = host();
    for name in ["odm", "static", "loss_power"] {
        let plugin = host.load(&component(name)).unwrap().digest;
        for state in [vec![], vec![0xff; 40]] {
            let outcome = host.call(&plugin, &step(state, 0)).outcome;
            let Outcome::GuestError(text) = &outcome else { panic!("{name}: {outcome:?}") };
            assert!(text.contains("is not one of this plugin"), "{text}");
        }
    }
}

#[test]
fn what_cannot_be_called_is_no_fault_of_the_plugin() {
    let host = host();
    let digest = hm_domain::id::Digest::of(b"nobody");
    let reply = host.call(&digest, &init("{}"));
    assert!(matches!(&reply.outcome, Outcome::NotCalled(text) if text.contains("not loaded here")));
    let plugin = host.load(&component("odm")).unwrap().digest;
    let gate = Request::Gate { state: vec![], step: 0, pre_step: pre_step(1.0) };
    let outcome = host.call(&plugin, &gate).outcome;
    assert!(matches!(&outcome, Outcome::NotCalled(text) if text.contains("no such function")));
    assert!(!outcome.provable(true));
}
