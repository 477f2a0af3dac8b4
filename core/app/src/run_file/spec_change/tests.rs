//! What a person is told of a changed run file.

use hm_domain::event::{FailurePolicy, Role};
use hm_domain::id::Digest;

use super::*;

/// As `RunStarted` holds it: 20 steps over two domains.
const SPEC: &str = r#"{
    "name": "t", "seed": 3, "decision_lag": 0, "tokenizer": "TOKENIZER",
    "model": {"layers": 2, "hidden_size": 64, "ffn_size": 128, "heads": 4, "kv_heads": 2,
        "vocabulary": 320, "sequence_length": 64, "rope_base": 10000.0, "norm_epsilon": 1e-5,
        "norm_init": 1.0, "init_std": 0.02},
    "training": {"steps": 4000, "sequences_per_step": 4, "micro_batch_sequences": 4},
    "optimizer": {"beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "weight_decay": 0.1, "clip_norm": 1.0},
    "schedule": {"peak": 0.001, "minimum": 0.0001, "warmup_steps": 80},
    "domains": [DOMAIN_A, DOMAIN_B],
    "rules": {"version": 1, "rate_limit": 0.2, "freeze_steps": 0},
    "validation": {"every_steps": 0, "sequences_per_domain": 2},
    "checkpoint": {"every_steps": 10, "keep": 2}
}"#;

fn spec() -> RunSpec {
    let digest = Digest::of(b"of then").to_string();
    let segment =
        format!(r#"{{"digest": "{digest}", "documents": 180, "tokens": 9000, "bytes": 1}}"#);
    let domain = |name: &str| {
        format!(
            r#"{{"name": "{name}", "prior": 0.5, "floor": 0.0, "cap": 1.0, "max_epochs": null,
                "segments": [{segment}], "validation": {segment}}}"#
        )
    };
    let text = SPEC
        .replace("TOKENIZER", &digest)
        .replace("DOMAIN_A", &domain("plain"))
        .replace("DOMAIN_B", &domain("numbers"));
    serde_json::from_str(&text).unwrap()
}

/// What is told of one change.
fn told(change: impl Fn(&mut RunSpec)) -> String {
    let mut now = spec();
    change(&mut now);
    difference(&spec(), &now, &BTreeMap::new()).expect("something is another")
}

#[test]
fn same_spec_differs_in_nothing() {
    assert_eq!(difference(&spec(), &spec(), &BTreeMap::new()), None);
}

#[test]
fn what_was_typed_is_told_before_what_follows_from_it() {
    let batch = told(|spec| {
        spec.training.sequences_per_step = 8;
        spec.training.micro_batch_sequences = 8;
    });
    let due = "training.sequences_per_step was 4, is 8; and with that \
        training.micro_batch_sequences was 4, is 8";
    assert_eq!(batch, due);
    let steps = told(|spec| {
        spec.training.steps = 8000;
        spec.schedule.warmup = hm_domain::schedule::Warmup::Steps(160);
    });
    let due =
        "training.steps was 4000, is 8000; and with that training.warmup_steps was 80, is 160";
    assert_eq!(steps, due);
    let rate = told(|spec| {
        spec.schedule.peak = 1e-4;
        spec.schedule.minimum = 1e-5;
    });
    let due = "training.learning_rate was 0.001, is 0.0001; and with that \
        training.learning_rate_minimum was 0.0001, is 0.00001";
    assert_eq!(rate, due);
}

#[test]
fn what_follows_is_told_by_itself_where_nothing_else_changed() {
    let text = told(|spec| spec.training.micro_batch_sequences = 2);
    assert_eq!(text, "training.micro_batch_sequences was 4, is 2");
    let text = told(|spec| spec.schedule.warmup = hm_domain::schedule::Warmup::Tokens(500));
    assert_eq!(
        text,
        "training.warmup_steps was 80, is not set; training.warmup_tokens was not set, is 500"
    );
}

#[test]
fn corpus_that_grew_is_told_by_its_documents() {
    let text = told(|spec| {
        let grown = &mut spec.domains[0];
        grown.segments[0].digest = Digest::of(b"of now");
        grown.segments[0].documents = 181;
        // What follows of it: a tokenizer, and with that every shard.
        spec.tokenizer = Digest::of(b"of now");
        spec.model.vocabulary = 384;
        spec.domains[1].segments[0].digest = Digest::of(b"of now, too");
        spec.domains[0].prior = 0.51;
        spec.domains[1].prior = 0.49;
    });
    let (then, now) = (Digest::of(b"of then").short(), Digest::of(b"of now").short());
    assert_eq!(
        text,
        format!(
            "data of domain plain was 180 documents of 9000 tokens ({then}), is 181 documents of \
             9000 tokens ({now}); and with that model.vocabulary was 320, is 384"
        )
    );
}

#[test]
fn tokenizer_is_told_alone_where_the_text_is_the_same() {
    let text = told(|spec| {
        spec.tokenizer = Digest::of(b"of now");
        spec.domains.iter_mut().for_each(|domain| domain.segments[0].digest = Digest::ZERO);
    });
    assert!(text.starts_with("data.tokenizer was ") && !text.contains("data of domain"), "{text}");
}

#[test]
fn mixture_is_told_by_the_shares_that_are_typed() {
    let mut now = spec();
    (now.domains[0].prior, now.domains[1].prior) = (0.123_456_789, 0.876_543_211);
    let typed = BTreeMap::from([("plain".to_owned(), 0.123_456_789)]);
    let due = "mixture.plain was 0.5, is 0.1235";
    assert_eq!(difference(&spec(), &now, &typed).unwrap(), due);
    let due = format!("mixture.numbers was 0.5, is 0.8765; {due}");
    assert_eq!(difference(&spec(), &now, &BTreeMap::new()).unwrap(), due);
}

#[test]
fn domain_that_came_or_went_is_told_by_name() {
    let text = told(|spec| drop(spec.domains.remove(1)));
    assert!(text.starts_with("data of domain numbers was 180 documents"), "{text}");
    assert!(text.contains("is not set") && text.contains("limits.numbers.cap was 1"), "{text}");
}

#[test]
fn every_setting_that_changed_is_told() {
    let text = told(|spec| {
        spec.seed = 4;
        spec.checkpoint.keep = 5;
        spec.domains[0].cap = 0.5;
    });
    let due = "checkpoint.keep was 2, is 5; limits.plain.cap was 1, is 0.5; seed was 3, is 4";
    assert_eq!(text, due);
}

/// What is told of a run that was begun with `then` and is gone on with `now`.
fn plugins(then: &[(&str, &str, &str)], now: &[(&str, &str, &str)]) -> Option<String> {
    let of = |plugins: &[(&str, &str, &str)]| {
        let plugin = |(plugin, digest, config): &(&str, &str, &str)| PluginSpec {
            plugin: (*plugin).to_owned(),
            digest: Digest::of(digest.as_bytes()),
            config: serde_json::from_str(config).unwrap(),
            role: Role::Active,
            failure: FailurePolicy::HoldLast,
        };
        RunSpec { plugins: plugins.iter().map(plugin).collect(), ..spec() }
    };
    difference(&of(then), &of(now), &BTreeMap::new())
}

#[test]
fn plugin_that_came_or_went_or_has_another_configuration_is_told_by_key() {
    let odm = ("odm", "odm 1", r#"{"smoothing": 0.5}"#);
    let static_ = ("static", "static 1", "{}");
    let named = format!("`odm` ({})", Digest::of(b"odm 1").short());
    let due = format!("plugins.0.plugin was not set, is {named}");
    assert_eq!(plugins(&[], &[odm]).unwrap(), due);
    let due = format!("plugins.0.plugin was {named}, is not set");
    assert_eq!(plugins(&[odm], &[]).unwrap(), due);
    let text = plugins(&[odm, static_], &[odm]).unwrap();
    assert!(text.starts_with("plugins.1.plugin was `static`"), "{text}");
    let text = plugins(&[odm], &[("odm", "odm 1", r#"{"smoothing": 0.25}"#)]).unwrap();
    let due = r#"plugins.0.config was {"smoothing":0.5}, is {"smoothing":0.25}"#;
    assert_eq!(text, due);
    let text = plugins(&[odm], &[static_]).unwrap();
    assert!(text.contains("plugins.0.plugin was `odm`"), "{text}");
}

#[test]
fn plugin_of_which_a_newer_one_was_installed_is_the_one_that_it_was() {
    assert_eq!(plugins(&[("odm", "odm 1", "{}")], &[("odm", "odm 2", "{}")]), None);
    // The same by another of its names.
    assert_eq!(plugins(&[("odm", "odm 1", "{}")], &[("odm@0.1.0", "odm 1", "{}")]), None);
}

#[test]
fn role_and_failure_policy_of_a_plugin_are_part_of_the_run() {
    let then = PluginSpec {
        plugin: "odm".to_owned(),
        digest: Digest::of(b"odm 1"),
        config: serde_json::json!({}),
        role: Role::Active,
        failure: FailurePolicy::HoldLast,
    };
    let now = PluginSpec { role: Role::Shadow, failure: FailurePolicy::StopRun, ..then.clone() };
    let of = |plugin| RunSpec { plugins: vec![plugin], ..spec() };
    let text = difference(&of(then), &of(now), &BTreeMap::new()).unwrap();
    let due = "plugins.0.failure was hold-last, is stop-run; plugins.0.role was active, is shadow";
    assert_eq!(text, due);
}
