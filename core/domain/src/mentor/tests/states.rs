//! States that somebody else wrote: a fork or a way back goes on from none that nothing can follow upon, and
//! whatever stands in one, nothing panics.

use serde_json::Value;

use super::attempts::saved_in_the_middle;
use super::mutations::{leaves, others};
use super::*;
use crate::attempt::ReturnPoint;

/// A run that went back once, and where to.
fn gone_back() -> (Run, ReturnPoint) {
    let (mut run, point) = saved_in_the_middle();
    assert_eq!(run.go_back(&point, false), None);
    (0..4).for_each(|_| run.step());
    assert_eq!(run.audit().first, None);
    (run, point)
}

/// The log of a run that went back to a state that is another, and is named so at the checkpoint.
fn back_to(run: &Run, state: &[u8]) -> Vec<Recorded> {
    let mut log = run.log.clone();
    for recorded in &mut log {
        match &mut recorded.event {
            Event::CheckpointBegun(begun) => begun.state = Digest::of(state),
            Event::RolledBack(rolled) => rolled.state = state.to_vec(),
            _ => {}
        }
    }
    log
}

/// Where an audit finds what, and that it comes to an end.
fn found(log: &[Recorded]) -> Vec<(u64, String)> {
    let mut audit = DecisionAudit::default();
    let mut found = Vec::new();
    for recorded in log {
        let (divergences, _) = audit.fold(&envelope(recorded), &recorded.event);
        found.extend(divergences.into_iter().map(|it| (it.seq, it.what)));
    }
    audit.finish();
    found
}

/// What is said of a fork of the run from there, under the same spec.
fn refused(run: &Run, point: &ReturnPoint, state: &[u8]) -> Option<String> {
    let point = ReturnPoint { state: state.to_vec(), ..point.clone() };
    let event = run.fork_started(&point, &run.mentor.state().spec);
    RunState::start(&event).err().map(|refused| refused.to_string())
}

#[test]
fn state_that_nothing_can_follow_upon_is_refused() {
    let (run, point) = gone_back();
    let rolled = run.log.iter().find(|it| matches!(it.event, Event::RolledBack(_))).unwrap().seq;
    let is_named = |what: &str, change: fn(&mut RunState)| {
        let mut state = RunState::from_snapshot(&point.state).unwrap();
        change(&mut state);
        let bytes = state.snapshot();
        let refused = refused(&run, &point, &bytes).unwrap_or_default();
        assert!(refused.contains("the run state cannot be gone on from"), "{what}: {refused}");
        assert!(refused.contains(what), "{what}: {refused}");
        let there = (rolled, "what may come here".to_owned());
        assert_eq!(found(&back_to(&run, &bytes)).last(), Some(&there), "{what}");
    };
    is_named("cursors of 2 domains, not 1", |state| state.cursors.truncate(1));
    is_named("carried errors of 2 domains, not 3", |state| state.carries.push(0));
    is_named("tokens of 2 domains, not 0", |state| state.domain_tokens.clear());
    is_named("loss weights of 2 domains, not 1", |state| state.loss_weights.truncate(1));
    is_named("observed shares of 2 domains, not 0", |state| state.seen[0].full.shares.clear());
    is_named("observed values of 2", |state| state.seen[0].full.columns[0].values.clear());
    is_named("weights of 2 domains, not 1", |state| state.prior.weights.truncate(1));
    is_named("and a version", |state| state.mixture.version = u64::MAX);
    is_named("a carried error", |state| state.carries[0] = i64::MIN);
    is_named("of binding #0", |state| of_first(state).calls = u64::MAX);
    is_named("of binding #0", |state| of_first(state).unseen = u64::MAX);
    is_named("of binding #0", |state| of_first(state).seen_seq = u64::MAX);
    is_named("a past of at most", |state| state.next_step = 1 << 60);
    is_named("a past of at most", |state| state.updates = u64::MAX);
    is_named("a past of at most", |state| state.domain_tokens[1] = u64::MAX);
    is_named("a past of at most", |state| state.loss_scale.good_steps = u32::MAX);
    is_named("a past of at most", |state| state.non_finite.counted = u32::MAX);
    is_named("a batch that can be drawn, not of 0 sequences", |state| {
        state.overrides.sequences_per_step = Some(0);
    });
}

fn of_first(state: &mut RunState) -> &mut crate::state::Binding {
    state.bindings.values_mut().next().expect("one is bound")
}

#[test]
fn way_back_to_the_state_of_another_run_is_named() {
    let (run, point) = gone_back();
    let mut state = RunState::from_snapshot(&point.state).unwrap();
    state.spec.name = "another".to_owned();
    let named = found(&back_to(&run, &state.snapshot()));
    assert_eq!(named.last().unwrap().1, "what may come here");
}

/// Every field of a state, each to some other values: it is refused, or gone on from without a panic.
#[test]
fn state_that_is_changed_anywhere_is_gone_on_from_or_refused() {
    let (run, point) = gone_back();
    let mut forked = run.fork(&point, &run.mentor.state().spec).unwrap();
    (0..6).for_each(|_| forked.step());
    let state = RunState::from_snapshot(&point.state).unwrap();
    let value = serde_json::to_value(&state).unwrap();
    let mut paths = Vec::new();
    leaves("", &value, &mut paths);
    let (mut states, mut taken) = (0, 0);
    for path in paths {
        let old = value.pointer(&path).unwrap();
        for other in others(old, &std::collections::BTreeSet::new()) {
            let Some(state) = changed(&value, &path, other) else { continue };
            states += 1;
            found(&back_to(&run, &state));
            let refused = refused(&run, &point, &state);
            taken += u32::from(refused.is_none());
            let point = ReturnPoint { state, ..point.clone() };
            forked.log[0].event = run.fork_started(&point, &run.mentor.state().spec);
            let named = found(&forked.log);
            assert!(refused.is_none() || named[0].1 == "start of the run", "{path}");
        }
    }
    assert!(states > 300 && taken > 100 && taken < states, "{taken} of {states}");
}

/// The state with something else in one place, as bytes, if it is a state then.
fn changed(value: &Value, path: &str, other: Value) -> Option<Vec<u8>> {
    let mut changed = value.clone();
    *changed.pointer_mut(path)? = other;
    serde_json::from_value::<RunState>(changed).ok().map(|state| state.snapshot())
}
