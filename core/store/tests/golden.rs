//! The stored bytes of every kind of event, as released. They never change: a log written today is
//! read, and hashes to the same chain, for ever.

mod kinds;
mod samples;

use std::collections::{BTreeMap, BTreeSet};

use hm_store::codec::{decode, encode};
use kinds::every_kind;
use proptest::prelude::*;

/// Name, kind, schema version and payload in hexadecimal, one event a line.
const GOLDEN: &str = include_str!("golden.txt");

fn golden() -> BTreeMap<&'static str, (u16, u16, Vec<u8>)> {
    let lines = GOLDEN.lines().map(|line| {
        let mut words = line.split(' ');
        let mut word = || words.next().expect("a line has four words");
        let (name, kind, version, hex) = (word(), word(), word(), word());
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let payload = (0..hex.len()).step_by(2).map(byte).collect();
        (name, (kind.parse().unwrap(), version.parse().unwrap(), payload))
    });
    lines.collect()
}

#[test]
fn stored_bytes_do_not_change_and_give_the_event_back() {
    let golden = golden();
    let mut lacking = String::new();
    for (name, event) in every_kind() {
        let (kind, version, payload) = encode(&event);
        let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        let Some(stored) = golden.get(&name[..]) else {
            lacking += &format!("{name} {kind} {version} {hex}\n");
            continue;
        };
        assert!(*stored == (kind, version, payload), "{name} is stored in other bytes:\n{hex}");
        let back = decode(stored.0, stored.1, &stored.2).unwrap();
        // NaN differs from itself, so compare what people would see.
        assert_eq!(format!("{back:?}"), format!("{event:?}"), "{name}");
        assert_eq!(encode(&back).2, stored.2, "{name}");
    }
    assert!(lacking.is_empty(), "golden.txt lacks:\n{lacking}");
}

#[test]
fn golden_bytes_cover_every_kind_and_name_nothing_else() {
    let names: BTreeSet<String> = every_kind().into_iter().map(|(name, _)| name).collect();
    let golden = golden();
    assert!(golden.keys().all(|name| names.contains(*name)), "golden.txt names unknown events");
    let kinds: BTreeSet<u16> = golden.values().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, (1..=22).collect());
}

#[test]
fn unknown_kinds_and_versions_are_refused_with_a_remedy() {
    let (kind, _, payload) = encode(&samples::started(1));
    for (kind, version) in [(kind, 2), (0, 1), (23, 1), (u16::MAX, u16::MAX)] {
        let refusal = decode(kind, version, &payload).unwrap_err().to_string();
        assert!(refusal.contains("use a newer one"), "{refusal}");
    }
}

/// A text's first bytes can be an event of their own; only the chain knows that it is not the one.
/// What holds a list, a digest or only numbers is refused at every length.
#[test]
fn truncated_bytes_are_refused_or_are_another_event_whole() {
    for (name, (kind, version, payload)) in golden() {
        for length in 0..payload.len() {
            let cut = &payload[..length];
            let Ok(event) = decode(kind, version, cut) else { continue };
            assert_eq!(encode(&event).2, cut, "{name} cut to {length} of {}", payload.len());
            let text_first = [
                "checkpoint-failed",
                "run-interrupted",
                "run-finished",
                "learning-rate-set",
                "batch-size-set",
            ];
            assert!(text_first.iter().any(|kind| name.starts_with(kind)), "{name}: {event:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A number that was changed is another number: the chain shows it. Everything else is refused; no
    /// bytes make the decoder panic.
    #[test]
    fn flipped_bytes_are_refused_or_give_another_event(
        which in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
    ) {
        let golden: Vec<_> = golden().into_values().collect();
        let (kind, version, payload) = which.get(&golden);
        let mut bytes = payload.clone();
        for (at, mask) in &flips {
            bytes[at.index(payload.len())] ^= mask;
        }
        prop_assume!(bytes != *payload);
        if let Ok(event) = decode(*kind, *version, &bytes) {
            prop_assert!(encode(&event).2 == bytes);
        }
    }

    #[test]
    fn bytes_of_any_origin_do_not_panic(kind in 0u16..24, bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode(kind, 1, &bytes);
    }
}
