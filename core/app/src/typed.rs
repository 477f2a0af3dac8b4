//! Settings as text: YAML or TOML, changed by `--set`, read into their type. What does not fit the type
//! is told all at once, under its key, with the nearest known key or what the value must be.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use hm_domain::settings::{BadValue, Faults, shown};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

/// Reads a file's text by the ending of its name.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Value> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => {
            toml::from_str(text).map_err(|error| anyhow!("{}: {error}", path.display()))
        }
        Some("yaml" | "yml") => {
            serde_saphyr::from_str(text).map_err(|error| anyhow!("{}: {error}", path.display()))
        }
        _ => bail!("run file {} ends in neither .yaml, .yml nor .toml", path.display()),
    }
}

/// Sets one value: as JSON if it reads as JSON, else as text.
pub(crate) fn apply_set(value: &mut Value, set: &str) -> Result<()> {
    let (path, text) =
        set.split_once('=').ok_or_else(|| anyhow!("--set {set}: expected a.b=value"))?;
    let new = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    let mut place = value;
    for key in path.split('.') {
        if let Value::Array(items) = place {
            let count = items.len();
            place =
                key.parse::<usize>().ok().and_then(|index| items.get_mut(index)).ok_or_else(
                    || anyhow!("--set {set}: `{key}` is not one of {count} positions"),
                )?;
            continue;
        }
        if place.is_null() {
            *place = Value::Object(serde_json::Map::new());
        }
        let Value::Object(fields) = place else {
            bail!("--set {set}: `{key}` would go below a plain value");
        };
        place = fields.entry(key).or_insert(Value::Null);
    }
    *place = new;
    Ok(())
}

/// Reads `value` into its type. What does not fit is taken out and the rest read on, so that all of it
/// is told.
pub(crate) fn read<T: DeserializeOwned>(mut value: Value) -> Result<T, Faults> {
    let mut faults = Faults::default();
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(read) => return faults.into_result().map(|()| read),
            Err(error) => error,
        };
        let message = error.inner().to_string();
        let lacking = message.starts_with("missing field");
        if lacking && !faults.is_empty() {
            // It may be what was taken out.
            return Err(faults);
        }
        explain(&mut faults, &value, error.path(), &message);
        let keys: Vec<&Segment> = error.path().iter().collect();
        if lacking || !take_out(&mut value, &keys) {
            return Err(faults);
        }
    }
}

/// What is wrong with a file, as it follows upon the file's name.
pub(crate) fn sentence(faults: &Faults) -> String {
    match faults.all() {
        [BadValue { key, value, must }] => format!(", at {key}: it is {value} and {must}"),
        _ => format!(": {faults}"),
    }
}

/// serde's message as a fault.
fn explain(faults: &mut Faults, value: &Value, path: &serde_path_to_error::Path, message: &str) {
    let keys: Vec<&Segment> = path.iter().collect();
    let found = keys.iter().try_fold(value, |value, key| match key {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    let found = found.map_or("not there".to_owned(), |value| match value {
        Value::String(text) => shown(text),
        Value::Object(_) => "a table".to_owned(),
        Value::Array(items) => format!("a list of {}", items.len()),
        plain => plain.to_string(),
    });
    let key = if keys.is_empty() { "the file".to_owned() } else { path.to_string() };
    faults.add(key, found, must(message));
}

/// What serde says, in the words of who types.
fn must(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let unknown = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        let alike = |name: &str| strsim::jaro_winkler(unknown, name);
        let nearest = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
        let nearest = nearest.map_or(String::new(), |best| format!("; did you mean `{best}`?"));
        return match message.starts_with("unknown field") {
            true => format!("there is no key `{unknown}` here{nearest}"),
            false => format!("must be one of {}{nearest}", known.join(", ")),
        };
    }
    let Some((_, expected)) = message.rsplit_once("expected ") else { return message.to_owned() };
    let expected = match expected {
        "u64" | "usize" => "a whole number of at least 0, written out in digits",
        "u32" => "a whole number from 0 to 4294967295, written out in digits",
        "f64" => "a number",
        "a string" => "a text: put it in quotes if it looks like something else",
        "path string" => "a path",
        other => other.strip_prefix("struct ").map_or(other, |_| "a table of keys"),
    };
    format!("must be {expected}")
}

/// Whether there was something to take out.
fn take_out(value: &mut Value, keys: &[&Segment]) -> bool {
    let Some((last, above)) = keys.split_last() else { return false };
    let place = above.iter().try_fold(value, |value, key| match key {
        Segment::Seq { index } => value.get_mut(index),
        Segment::Map { key } => value.get_mut(key),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    match (place, last) {
        (Some(Value::Object(fields)), Segment::Map { key }) => fields.remove(key).is_some(),
        (Some(Value::Array(items)), Segment::Seq { index }) if *index < items.len() => {
            items.remove(*index);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn set_reaches_into_tables_and_lists() {
        let mut value = serde_json::json!({"training": {"steps": 1}, "plugins": [{"plugin": "a"}]});
        apply_set(&mut value, "training.steps=300").unwrap();
        apply_set(&mut value, "plugins.0.plugin=odm@0.1.0").unwrap();
        apply_set(&mut value, "rules.rate_limit=null").unwrap();
        let expected = serde_json::json!({
            "training": {"steps": 300}, "plugins": [{"plugin": "odm@0.1.0"}],
            "rules": {"rate_limit": null}
        });
        assert_eq!(value, expected);
        assert!(apply_set(&mut value, "training.steps.deep=1").is_err());
        assert!(apply_set(&mut value, "plugins.7.plugin=x").is_err());
        assert!(apply_set(&mut value, "nonsense").is_err());
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Typed {
        steps: u64,
        #[serde(default)]
        rate: f64,
        #[serde(default)]
        name: String,
        #[serde(default)]
        deep: Vec<Deep>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Deep {
        #[serde(default)]
        kind: Kind,
        #[serde(default)]
        count: u32,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        #[default]
        Cosine,
        Linear,
    }

    fn refusal(value: Value) -> String {
        read::<Typed>(value).unwrap_err().to_string()
    }

    #[test]
    fn all_that_does_not_fit_is_told_under_its_key() {
        let text = refusal(serde_json::json!({
            "steps": "1e3", "raet": 1, "name": false, "rate": [1],
            "deep": [{"kind": "cosin", "cuont": 3, "count": -1}],
        }));
        for due in [
            "steps is \"1e3\": must be a whole number of at least 0",
            "raet is 1: there is no key `raet` here; did you mean `rate`?",
            "name is false: must be a text",
            "rate is a list of 1: must be a number",
            "deep[0].kind is \"cosin\": must be one of cosine, linear; did you mean `cosine`?",
            "deep[0].cuont is 3: there is no key `cuont` here; did you mean `count`?",
            "deep[0].count is -1: must be a whole number from 0",
        ] {
            assert!(text.contains(due), "{due}: {text}");
        }
        assert!(text.starts_with("7 settings"), "{text}");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(refusal(serde_json::json!({})).contains("missing field `steps`"));
        assert!(refusal(serde_json::json!(null)).contains("must be a table of keys"));
        let read = read::<Typed>(serde_json::json!({"steps": 3, "deep": [{}]})).unwrap();
        assert_eq!((read.steps, read.rate, read.name.as_str(), read.deep.len()), (3, 0.0, "", 1));
        assert!(matches!((&read.deep[0].kind, read.deep[0].count), (Kind::Cosine, 0)));
    }
}
