//! How the spec of a run file differs from that of its unfinished run: every setting under the key that
//! a person types, with both values, and what only follows from another setting told after it.

use std::collections::{BTreeMap, BTreeSet};

use hm_domain::spec::{DomainSpec, PluginSpec, RunSpec, SegmentSpec};
use serde_json::Value;

/// Differences told one by one: more of them say that it is another run altogether.
const TOLD_MAX: usize = 12;

/// Where a part of the spec is typed. What is not here is typed as it stands.
const TYPED: [(&str, &str); 6] = [
    ("schedule.peak", "training.learning_rate"),
    ("schedule.minimum", "training.learning_rate_minimum"),
    ("schedule.shape.", "training.schedule."),
    ("schedule.", "training."),
    ("tokenizer", "data.tokenizer"),
    ("initial_weights", "model.from"),
];

/// What a key's value follows from, unless it is typed itself: keys that begin so.
const FOLLOWS: [(&str, &[&str]); 4] = [
    ("training.micro_batch_sequences", &["training.sequences_per_step"]),
    ("training.warmup_", &["training.steps"]),
    ("training.learning_rate_minimum", &["training.learning_rate"]),
    ("model.vocabulary", &["data.tokenizer", DATA, HELD_OUT]),
];

const MIXTURE: &str = "mixture.";
const DATA: &str = "data of domain ";
const HELD_OUT: &str = "held-out data of domain ";

/// What is another in `now` than `then`, in a sentence; none where all is the same. Of the mixture what is
/// `named` comes first, as a person typed it: what the other domains share then follows from it. Where the
/// data is another, nothing is told that follows from that.
pub(crate) fn difference(
    then: &RunSpec,
    now: &RunSpec,
    named: &BTreeMap<String, f64>,
) -> Option<String> {
    let now = &naming_the_same(then, now);
    let causes = causes(then, now);
    let (then, now) = (typed(then), typed(now));
    let keys: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let differs = |key: &str| then.get(key) != now.get(key);
    let mut differ: Vec<&String> = keys
        .into_iter()
        .filter(|key| differs(key) && !named_above(key).is_some_and(|named| differs(&named)))
        .filter(|key| !is_of_data(key) || causes.contains(*key))
        .collect();
    let is_named =
        |key: &str| key.strip_prefix(MIXTURE).is_some_and(|domain| named.contains_key(domain));
    if differ.iter().any(|key| is_named(key)) {
        differ.retain(|key| !key.starts_with(MIXTURE) || is_named(key));
    }
    if !causes.is_empty() {
        differ.retain(|key| !key.starts_with(MIXTURE));
    }
    let follows = |key: &&String| {
        let causes = FOLLOWS.iter().filter(|(begins, _)| key.starts_with(begins));
        causes
            .flat_map(|(_, causes)| *causes)
            .any(|cause| differ.iter().any(|other| other != key && other.starts_with(cause)))
    };
    let (following, first): (Vec<&String>, Vec<&String>) =
        differ.iter().copied().partition(follows);
    let tell = |keys: &[&String]| {
        let value = |of: &BTreeMap<String, String>, key: &String| {
            of.get(key).cloned().unwrap_or_else(|| "not set".to_owned())
        };
        let one = |key: &&String| {
            let (then, now) = (value(&then, key), value(&now, key));
            let (then, now) =
                if key.starts_with(MIXTURE) { shares(then, now) } else { (then, now) };
            format!("{key} was {then}, is {now}")
        };
        let mut told: Vec<String> = keys.iter().take(TOLD_MAX).map(one).collect();
        if keys.len() > TOLD_MAX {
            told.push(format!("and {} more", keys.len() - TOLD_MAX));
        }
        told.join("; ")
    };
    match (&first[..], &following[..]) {
        ([], []) => None,
        (first, []) => Some(tell(first)),
        (first, following) => Some(format!("{}; and with that {}", tell(first), tell(following))),
    }
}

/// Shares to as many places as tell them apart, four if that will do.
fn shares(then: String, now: String) -> (String, String) {
    let rounded = |share: &str| share.parse().map(|share: f64| (share * 1e4).round() / 1e4);
    match (rounded(&then), rounded(&now)) {
        (Ok(before), Ok(after)) if before != after => (before.to_string(), after.to_string()),
        _ => (then, now),
    }
}

/// Keys of the data that is another by itself: texts that came or went, else the tokenizer, of which every
/// shard follows, else shards.
fn causes(then: &RunSpec, now: &RunSpec) -> BTreeSet<String> {
    let sides = |spec: &RunSpec, shown: fn(&SegmentSpec) -> String| {
        let of_one = |domain: &DomainSpec| {
            let DomainSpec { name, segments, validation, .. } = domain;
            let trained_on = segments.iter().map(shown).collect::<Vec<_>>().join(" and ");
            let held_out = validation.as_ref().map(|it| (format!("{HELD_OUT}{name}"), shown(it)));
            std::iter::once((format!("{DATA}{name}"), trained_on))
                .chain(held_out)
                .collect::<Vec<_>>()
        };
        spec.domains.iter().flat_map(of_one).collect::<BTreeMap<String, String>>()
    };
    let another = |shown: fn(&SegmentSpec) -> String| {
        let (then, now) = (sides(then, shown), sides(now, shown));
        let keys = then.keys().chain(now.keys());
        keys.filter(|key| then.get(*key) != now.get(*key)).cloned().collect::<BTreeSet<String>>()
    };
    let texts = another(|segment| format!("{} {}", segment.documents, segment.bytes));
    if !texts.is_empty() {
        // What is held out of a domain that has another text is another with it.
        let trained_on = |key: &String| {
            key.strip_prefix(HELD_OUT).is_some_and(|name| texts.contains(&format!("{DATA}{name}")))
        };
        return texts.iter().filter(|key| !trained_on(key)).cloned().collect();
    }
    if then.tokenizer != now.tokenizer {
        return ["data.tokenizer", "model.vocabulary"].map(str::to_owned).into();
    }
    another(|segment| segment.digest.to_string())
}

/// Whether a key tells of the data, or of what is made of it alone.
fn is_of_data(key: &str) -> bool {
    [DATA, HELD_OUT, "data.tokenizer"].iter().any(|part| key.starts_with(part))
}

/// A plugin that is named as it was is the one that it was, though the name may stand for a newer one by
/// now, and so is one that is named otherwise.
fn naming_the_same(then: &RunSpec, now: &RunSpec) -> RunSpec {
    let mut now = now.clone();
    for (old, new) in then.plugins.iter().zip(&mut now.plugins) {
        if old.plugin == new.plugin || old.digest == new.digest {
            (new.plugin, new.digest) = (old.plugin.clone(), old.digest);
        }
    }
    now
}

/// A spec's settings by the keys that they are typed under.
fn typed(spec: &RunSpec) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut value = serde_json::to_value(spec).expect("a spec is plain data");
    if let Value::Object(fields) = &mut value {
        fields.remove("domains");
        fields.remove("plugins");
    }
    flatten("", &value, &mut settings);
    spec.domains.iter().for_each(|domain| domain_settings(domain, &mut settings));
    for (place, plugin) in spec.plugins.iter().enumerate() {
        plugin_settings(&format!("plugins.{place}"), plugin, &mut settings);
    }
    settings
}

fn flatten(place: &str, value: &Value, settings: &mut BTreeMap<String, String>) {
    if let Value::Object(fields) = value {
        for (key, value) in fields {
            let dot = if place.is_empty() { "" } else { "." };
            flatten(&format!("{place}{dot}{key}"), value, settings);
        }
    } else if !value.is_null() {
        let found = TYPED.iter().find(|(part, _)| place.starts_with(part));
        let key = found.map_or(place.to_owned(), |(part, typed)| place.replacen(part, typed, 1));
        settings.insert(key, value.to_string());
    }
}

fn domain_settings(domain: &DomainSpec, settings: &mut BTreeMap<String, String>) {
    let DomainSpec { name, prior, floor, cap, max_epochs, segments, validation } = domain;
    settings.insert(format!("mixture.{name}"), prior.to_string());
    for (key, value) in [("floor", Some(*floor)), ("cap", Some(*cap)), ("max_epochs", *max_epochs)]
    {
        if let Some(value) = value {
            settings.insert(format!("limits.{name}.{key}"), value.to_string());
        }
    }
    let data = segments.iter().map(shown).collect::<Vec<_>>().join(" and ");
    settings.insert(format!("{DATA}{name}"), data);
    if let Some(held_out) = validation {
        settings.insert(format!("{HELD_OUT}{name}"), shown(held_out));
    }
}

/// The key that names the plugin whose setting this is: of another one nothing else is told.
fn named_above(key: &str) -> Option<String> {
    let (place, setting) = key.strip_prefix("plugins.")?.split_once('.')?;
    (setting != "plugin").then(|| format!("plugins.{place}.plugin"))
}

fn plugin_settings(at: &str, spec: &PluginSpec, settings: &mut BTreeMap<String, String>) {
    let PluginSpec { plugin, digest, config, role, failure } = spec;
    let named = format!("`{plugin}` ({})", digest.short());
    settings.insert(format!("{at}.plugin"), named);
    settings.insert(format!("{at}.config"), config.to_string());
    settings.insert(format!("{at}.role"), word(role));
    settings.insert(format!("{at}.failure"), word(failure));
}

/// As a run file has it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

fn shown(segment: &SegmentSpec) -> String {
    let SegmentSpec { digest, documents, tokens, .. } = segment;
    format!("{documents} documents of {tokens} tokens ({})", digest.short())
}

#[cfg(test)]
mod tests;
