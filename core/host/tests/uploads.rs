//! What an upload must pass.

mod support;

use hm_domain::plugin::Limits;
use hm_host::{Checked, Host};
use support::*;

const ALL: [&str; 9] =
    ["bytes", "component", "imports", "world", "describe", "schema", "init", "output", "repeat"];

fn names(checked: &Checked) -> Vec<&str> {
    checked.checks.iter().map(|check| check.name).collect()
}

/// The check that failed and what it said; it is the last one.
fn refusal(bytes: &[u8]) -> (&'static str, String) {
    let host = host();
    let checked = host.check(bytes);
    assert!(!checked.accepted() && !host.is_loaded(&checked.digest));
    let (last, before) = checked.checks.split_last().unwrap();
    assert!(before.iter().all(|check| check.passed) && !last.passed);
    // The quick path says the same, as far as it looks.
    if !["schema", "init", "output", "repeat"].contains(&last.name) {
        assert_eq!(host.load(bytes).err().unwrap().to_string(), last.message);
    }
    (last.name, last.message.clone())
}

#[test]
fn our_own_plugins_pass_every_check() {
    for name in ["odm", "static", "outlier", "weight_trajectory", "loss_power"] {
        let host = host();
        let checked = host.check(&component(name));
        assert!(checked.accepted(), "{name}: {:?}", checked.checks);
        assert_eq!(names(&checked), ALL);
        assert!(
            checked.checks.iter().all(|check| check.passed && !check.message.contains("not tried"))
        );
        // A check alone keeps no memory for good.
        assert!(!host.is_loaded(&checked.digest));
        let compiler = &checked.checks[1].message;
        assert!(compiler.starts_with("a component, built by rustc 1."), "{compiler}");
    }
}

#[test]
fn what_is_no_component_is_refused_with_the_remedy() {
    let (name, text) = refusal(b"hello, world");
    assert_eq!(name, "component");
    assert!(text.contains("not a WebAssembly component"), "{text}");
    let (_, text) = refusal(&wat::parse_str("(module)").unwrap());
    assert!(text.contains("hm plugin build"), "{text}");
    let whole = component("odm");
    for part in [whole.len() / 2, whole.len() - 1, 8 + 1] {
        let (name, text) = refusal(&whole[..part]);
        assert_eq!(name, "component", "{text}");
        assert!(text.contains("cut off"), "{text}");
    }
}

#[test]
fn native_code_never_reaches_the_engine() {
    let engine = wasmtime::Engine::default();
    let component = wat::parse_str("(component)").unwrap();
    let module = wat::parse_str("(module)").unwrap();
    for native in [
        engine.precompile_component(&component).unwrap(),
        engine.precompile_module(&module).unwrap(),
    ] {
        let (name, text) = refusal(&native);
        assert_eq!(name, "bytes");
        assert!(text.contains("precompiled native code"), "{text}");
    }
}

#[test]
fn imports_beyond_types_and_log_are_refused_by_name() {
    let import = |text: &str| {
        let (name, text) = refusal(&wat::parse_str(format!("(component {text})")).unwrap());
        assert_eq!(name, "imports");
        text
    };
    let text = import(r#"(import "wasi:clocks/wall-clock@0.2.0" (instance))"#);
    assert!(text.contains("`wasi:clocks/wall-clock@0.2.0`") && text.contains("without WASI"));
    let text = import(r#"(import "launch" (func (param "when" u64)))"#);
    assert!(text.contains("`launch`") && text.contains("nothing else"), "{text}");
    let text = import(r#"(import "heurimentor:plugin/spy@0.1.0" (instance))"#);
    assert!(text.contains("plugin/spy"), "{text}");
}

#[test]
fn worlds_and_versions_that_are_not_known_are_refused() {
    let world = |text: &str| {
        let (name, text) = refusal(&wat::parse_str(format!("(component {text})")).unwrap());
        assert_eq!(name, "world");
        text
    };
    assert!(world("").contains("neither a policy nor a detector"));
    let text = world(r#"(import "heurimentor:plugin/types@0.2.0" (instance))"#);
    assert!(text.contains("speaks interface 0.2.0") && text.contains("wit/0.1.0"), "{text}");
    // The right names with the wrong types, and a `log` that is another.
    let exports = |names: &[&str]| {
        let text: String =
            names.iter().map(|name| format!(r#"(export "{name}" (func $f))"#)).collect();
        format!(
            r#"(core module $m (func (export "f"))) (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f"))) {text}"#
        )
    };
    let text = world(&exports(&["describe", "init", "step"]));
    assert!(text.contains("does not fit wit/0.1.0"), "{text}");
    let text = world(&format!(
        r#"(import "log" (func (param "secret" u64))) {}"#,
        exports(&["describe", "init", "gate", "watch"])
    ));
    assert!(text.contains("does not fit wit/0.1.0"), "{text}");
}

#[test]
fn more_bytes_than_allowed_are_refused() {
    let small = Host::new(Limits { upload_bytes_max: 10, ..Limits::default() }).unwrap();
    let checked = small.check(&component("odm"));
    assert_eq!(names(&checked), ["bytes"]);
    assert!(checked.checks[0].message.contains("10 allowed"));
}

/// A hostile plugin whose default configuration makes it misbehave so: written over the built bytes.
fn defaulting(name: &str, at: &str, how: &str) -> Vec<u8> {
    let mut bytes = component(name);
    let from = r#""default": "never"}, "how": {"type": "string", "default": "well""#;
    let to = format!(r#""default": "{at}"}}, "how": {{"type": "string", "default": "{how}""#);
    let to = format!("{to:<0$}", from.len());
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = (0..bytes.len() - from.len())
        .filter(|&at| &bytes[at..at + from.len()] == from.as_bytes())
        .collect();
    let [place] = places[..] else { panic!("the defaults are there {} times", places.len()) };
    bytes[place..place + from.len()].copy_from_slice(to.as_bytes());
    bytes
}

#[test]
fn the_trial_run_refuses_misbehaviour_under_default_configuration() {
    let policy = |at: &str, how: &str| refusal(&defaulting("hostile_policy", at, how));
    let detector = |at: &str, how: &str| refusal(&defaulting("hostile_detector", at, how));
    for (found, name, part) in [
        (policy("init", "loop"), "init", "uses up its"),
        (detector("init", "trap"), "init", "traps (unreachable)"),
        (policy("step", "trap"), "output", "step, call 1 of the trial run, traps"),
        (policy("step", "sulk"), "output", "says no to ordinary observations: failed: sulk"),
        (policy("step", "nan"), "output", "set-mixture with NaN"),
        (detector("gate", "nan"), "output", "clip-to NaN"),
        (detector("watch", "nan"), "output", "finding `nonsense` on domain 99"),
    ] {
        assert!(found.0 == name && found.1.contains(part), "{found:?}");
    }
}

#[test]
fn a_trial_run_that_init_refuses_is_not_held_against_the_plugin() {
    let checked = host().check(&defaulting("hostile_policy", "init", "sulk"));
    assert!(checked.accepted(), "{:?}", checked.checks);
    assert_eq!(names(&checked), ALL);
    let said =
        |name: &str| &checked.checks.iter().find(|check| check.name == name).unwrap().message;
    assert!(said("init").contains("refuses the trial run") && said("init").contains("sulk"));
    assert!(said("output").starts_with("not tried"));
}

#[test]
fn zero_characters_in_what_a_plugin_is_called_are_refused_in_words() {
    let patched = |from: &str, to: &str| {
        let mut bytes = component("loss_power");
        let places: Vec<usize> = bytes
            .windows(from.len())
            .enumerate()
            .filter(|(_, part)| *part == from.as_bytes())
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty() && from.len() == to.len(), "{from}");
        places.iter().for_each(|&at| bytes[at..at + to.len()].copy_from_slice(to.as_bytes()));
        bytes
    };
    let (check, text) = refusal(&patched("loss-power", "loss\0power"));
    assert_eq!(check, "describe");
    assert!(
        text.contains(r#"the name "loss\0power": it must not hold control characters"#),
        "{text}"
    );
    // What it says in passing is kept, without the zeros.
    let checked = host().check(&patched("power of the loss", "power\0of the loss"));
    assert!(checked.accepted(), "{:?}", checked.checks);
    assert!(checked.checks.iter().all(|check| !check.message.contains('\0')));
}

#[test]
fn names_that_read_as_another_way_to_name_a_plugin_are_refused() {
    for (name, part) in [
        ("10aded0e12", "must not read as the digits of a digest"),
        ("loss@power", "must not hold `@`"),
    ] {
        let mut bytes = component("loss_power");
        let from = b"loss-power";
        let places: Vec<usize> = (0..bytes.len() - from.len())
            .filter(|&at| &bytes[at..at + from.len()] == from)
            .collect();
        assert!(!places.is_empty() && name.len() == from.len());
        places.iter().for_each(|&at| bytes[at..at + from.len()].copy_from_slice(name.as_bytes()));
        let (check, text) = refusal(&bytes);
        assert!(check == "describe" && text.contains(part), "{check}: {text}");
    }
}

#[test]
fn what_would_take_too_long_to_compile_is_refused_before_it_is_compiled() {
    let functions = "(func)".repeat(100_000);
    let (check, text) =
        refusal(&wat::parse_str(format!("(component (core module {functions}))")).unwrap());
    assert_eq!(check, "component");
    assert!(text.starts_with("too much to compile: 100000 functions"), "{text}");
    let (check, text) = refusal(b"");
    assert!(check == "bytes" && text.contains("there are none"), "{text}");
}

#[test]
fn the_protocol_can_be_stored() {
    let checked = host().check(b"nothing");
    let text = serde_json::to_string(&checked.checks).unwrap();
    assert!(text.starts_with(r#"[{"name":"bytes","passed":true,"message":"7 bytes"#), "{text}");
}
