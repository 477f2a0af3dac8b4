//! The one function a plugin may call.

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use hm_domain::plugin::*;
use hm_host::Host;
use support::*;

/// Text that a subscriber wrote.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What `work` logs at debug, and what it gives.
fn logged<T>(work: impl FnOnce() -> T) -> (String, T) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let given = tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let ours =
        text.lines().filter(|line| line.contains(" plugin: ")).collect::<Vec<_>>().join("\n");
    (ours, given)
}

fn logging(limits: Limits, how: &str) -> Reply {
    let host = Host::new(limits).unwrap();
    let plugin = host.load(&component("hostile_policy")).unwrap().digest;
    let config = format!(r#"{{"at":"step","how":"{how}"}}"#);
    let state = state_of(&host, &plugin, &config);
    host.call(&plugin, &step(state, 0))
}

#[test]
fn lines_are_told_up_to_the_limit_and_change_nothing() {
    // A hundred lines of five hundred two-byte letters; two and a half thousand bytes are allowed.
    let few = Limits { log_bytes_max: 2_501, ..limits() };
    let (text, reply) = logged(|| logging(few, "log"));
    assert_eq!(text.lines().count(), 3, "{text}");
    assert_eq!(text.matches('ä').count(), 500 + 500 + 249, "cut between letters, never within");
    assert!(text.contains("level=\"warning\""), "{text}");
    // Whether anybody listens, and how much is taken, is nothing to the guest.
    let unheard = logging(Limits { log_bytes_max: 0, ..limits() }, "log");
    assert_eq!(unheard, reply);
    assert_eq!(logged(|| logging(Limits { log_bytes_max: 0, ..limits() }, "log")).0, "");
}

#[test]
fn logging_for_ever_runs_out_of_fuel() {
    let little = Limits { fuel: 20_000_000, ..limits() };
    let (text, reply) = logged(|| logging(little, "log-for-ever"));
    assert_eq!(reply.outcome, Outcome::OutOfFuel);
    assert!(text.lines().count() > 100, "empty lines count a byte each");
}
