//! `hm demo` as it runs where nobody sits before it.

use crate::place::{Place, components};

#[test]
fn demo_trains_on_this_machines_text_and_ends_with_a_passed_audit() {
    let place = Place::new();
    let folder = components().to_str().unwrap();
    let text = place.ok(&["demo", "--preset", "nano", "--steps", "60", "--plugins", folder]);
    assert!(text.contains("Watch it at http://127.0.0.1:"), "{text}");
    assert!(text.contains("at level decisions: proved"), "{text}");
    for heading in ["validation loss", "share of the mixture", "What to try next"] {
        assert!(text.contains(heading), "{text}");
    }
    assert_eq!(place.audit("demo-nano-60", &["--strict"], 0)["steps"], 60);
}

#[test]
fn demo_without_its_plugins_says_how_to_get_them() {
    let place = Place::new();
    let text = place.refused(&["demo", "--preset", "nano"], 2);
    assert!(text.contains("make demo") && text.contains("--plugins"), "{text}");
}
