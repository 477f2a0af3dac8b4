//! Plugins that misbehave at every call: each costs its call and nothing else.

mod support;

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use hm_domain::id::Digest;
use hm_domain::plugin::*;
use hm_domain::step::Verdict;
use hm_host::Host;
use support::*;

const POLICY: &str = "hostile_policy";
const DETECTOR: &str = "hostile_detector";
/// Every call of either world, beside `describe`.
const CALLS: [(&str, &str); 5] = [
    (POLICY, "init"),
    (POLICY, "step"),
    (DETECTOR, "init"),
    (DETECTOR, "gate"),
    (DETECTOR, "watch"),
];

/// Calls a plugin that misbehaves `at` this call, and no other.
fn call(host: &Host, plugin: &Digest, at: &str, how: &str) -> Reply {
    let config = format!(r#"{{"at":"{at}","how":"{how}"}}"#);
    if at == "init" {
        return host.call(plugin, &init(&config));
    }
    let state = state_of(host, plugin, &config);
    let request = match at {
        "step" => step(state, 0),
        "gate" => Request::Gate { state, step: 0, pre_step: pre_step(1.0) },
        _ => Request::Watch { state, observations: observations(0), timings: Some(Vec::new()) },
    };
    host.call(plugin, &request)
}

/// The same misbehaviour at every call of both worlds.
fn everywhere(how: &str, expected: impl Fn(&Outcome) -> bool) {
    let host = host();
    for (name, at) in CALLS {
        let plugin = host.load(&component(name)).unwrap().digest;
        let reply = call(&host, &plugin, at, how);
        assert!(expected(&reply.outcome), "{name} {at} {how}: {:?}", reply.outcome);
        assert_eq!(reply.value, None);
        // It costs the call and nothing else, and comes out the same again.
        assert_eq!(call(&host, &plugin, at, "well").outcome, Outcome::Ok);
        if reply.outcome.provable(true) {
            assert_eq!(call(&host, &plugin, at, how), reply);
        }
    }
}

fn trap(kind: &'static str) -> impl Fn(&Outcome) -> bool {
    move |outcome| *outcome == Outcome::Trap(kind.to_owned())
}

#[test]
fn endless_loops_run_out_of_fuel() {
    everywhere("loop", |outcome| *outcome == Outcome::OutOfFuel);
}

#[test]
fn hoarded_memory_ends_at_the_limit_whoever_says_no() {
    everywhere("hoard", trap("memory-limit"));
    // Past four gigabytes not the limits say no but the engine: as provable.
    everywhere("grow", trap("memory-limit"));
}

#[test]
fn traps_and_panics_have_a_kind() {
    everywhere("trap", trap("unreachable"));
    everywhere("panic", trap("unreachable"));
}

#[test]
fn endless_recursion_is_not_provable() {
    everywhere("recurse", |outcome| *outcome == Outcome::StackOverflow && !outcome.provable(true));
}

#[test]
fn answers_that_are_too_large_are_refused() {
    let too_large = |outcome: &Outcome| matches!(outcome, Outcome::TooLarge(_));
    everywhere("large-state", too_large);
    everywhere("complain", too_large);
    let host = host();
    for (name, at) in [(POLICY, "step"), (DETECTOR, "watch")] {
        let plugin = host.load(&component(name)).unwrap().digest;
        let outcome = call(&host, &plugin, at, "novel").outcome;
        assert!(too_large(&outcome), "{outcome:?}");
    }
}

#[test]
fn an_answer_larger_than_memory_is_not_even_read() {
    // A thousand texts of 64 KiB, all the same bytes: small for the guest, not for whoever copies them.
    let host = host();
    let plugin = host.load(&component(POLICY)).unwrap().digest;
    let outcome = call(&host, &plugin, "step", "aliases").outcome;
    assert_eq!(outcome, Outcome::TooLarge("more bytes than any answer may have".to_owned()));
}

#[test]
fn nonsense_comes_back_as_it_is_and_a_no_in_its_own_words() {
    let host = host();
    let [policy, detector] =
        [POLICY, DETECTOR].map(|name| host.load(&component(name)).unwrap().digest);
    let Output::Actions(actions) = call(&host, &policy, "step", "nan").value.unwrap().1 else {
        panic!("no actions")
    };
    let Change::SetMixture(shares) = &actions[0].change else { panic!("no mixture") };
    assert!(shares.iter().all(|share| share.is_nan()));
    let gated = call(&host, &detector, "gate", "nan").value.unwrap().1;
    assert!(matches!(gated, Output::Verdict(Verdict::ClipTo(norm)) if norm.is_nan()));
    everywhere("sulk", |outcome| *outcome == Outcome::GuestError("failed: sulk".to_owned()));
    let refused = host.call(&policy, &init("{}")).outcome;
    assert_eq!(refused, Outcome::GuestError("config.at is missing".to_owned()));
}

#[test]
fn a_misbehaving_describe_is_refused_and_says_what_to_mend() {
    let refusal = |name: &str, how: &str| {
        let checked = host().check(&describing(name, how));
        assert!(!checked.accepted());
        let last = checked.checks.last().unwrap();
        assert!(!last.passed, "{how}: {}", last.message);
        format!("{}: {}", last.name, last.message)
    };
    for name in [POLICY, DETECTOR] {
        for (how, expected) in [
            ("loop", "describe: describe uses up its 100000000 fuel"),
            ("hoard", "describe: describe wants more than 16777216 bytes of memory"),
            ("trap", "describe: describe traps (unreachable)"),
            ("recurse", "describe: describe overflows its"),
            ("novel", "describe: describe answers too much"),
            ("nameless", "describe: describe gives no name"),
            ("never", "describe: describe gives every-steps 0"),
            ("column", "describe: describe asks for what cannot be had: column `weather`"),
            ("schema", "schema: the plugin's config schema is not a JSON Schema"),
        ] {
            let text = refusal(name, how);
            assert!(text.starts_with(expected), "{name} {how}: {text}");
        }
        assert!(host().check(&describing(name, "honest")).accepted());
    }
    let text = refusal(DETECTOR, "idle");
    assert!(text.contains("neither gate nor watch"), "{text}");
}

/// Holds every call that logs in its place, until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Gives up after a minute, so that a fault is a failing test and not one that hangs.
    fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(open, Duration::from_secs(60), |open| !*open).unwrap());
    }
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.pass();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_machine_without_room_is_not_the_plugins_fault() {
    // Many more calls than the pool has places; who has one keeps it until somebody was refused.
    let host = host();
    let plugin = host.load(&component(POLICY)).unwrap().digest;
    let state = state_of(&host, &plugin, r#"{"at":"step","how":"log"}"#);
    let gate = Gate::default();
    let writer = gate.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_writer(move || writer.clone())
        .finish();
    let subscriber = tracing::Dispatch::new(subscriber);
    let call = || {
        let request = step(state.clone(), 0);
        let call = || host.call(&plugin, &request).outcome;
        let outcome = tracing::dispatcher::with_default(&subscriber, call);
        if outcome == Outcome::HostMemory {
            gate.open();
        }
        outcome
    };
    let threads = std::thread::available_parallelism().unwrap().get();
    let count = 2 * (2 * threads).max(16);
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..count).map(|_| scope.spawn(call)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let crowded = outcomes.iter().filter(|outcome| **outcome == Outcome::HostMemory).count();
    let well = outcomes.iter().filter(|outcome| **outcome == Outcome::Ok).count();
    assert!(crowded > 0 && well > 0 && crowded + well == count, "{outcomes:?}");
    assert!(!Outcome::HostMemory.provable(true));
    // Afterwards there is room again.
    let again = call();
    assert_eq!(again, Outcome::Ok);
}
