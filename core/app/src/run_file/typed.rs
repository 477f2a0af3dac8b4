//! Settings as text: YAML or TOML, changed by `--set`. How they are read into their type is in `fit`.

mod fit;
mod value;
mod words;

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use hm_domain::settings::{BadValue, Faults};
use serde_json::Value;
use serde_saphyr::{NonFiniteFloatPolicy, UserMessageFormatter};

pub(crate) use self::fit::read;
use self::value::Plain;

/// Refuses what has not the name of a run file.
pub(crate) fn refuse_other_files(path: &Path) -> Result<()> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("toml" | "yaml" | "yml") => Ok(()),
        _ => bail!("run file {} ends in neither .yaml, .yml nor .toml", path.display()),
    }
}

/// Reads a file's text by the ending of its name.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Value> {
    refuse_other_files(path)?;
    let place = path.display();
    let is_toml = path.extension().is_some_and(|ending| ending == "toml");
    let plain: Plain = match is_toml {
        true => toml::from_str(text).map_err(|error| anyhow!("{place}: {error}"))?,
        false => yaml(text).map_err(|error| anyhow!("{place}: {error}"))?,
    };
    let value =
        plain.finite().map_err(|faults| anyhow!("run file {place}{}", sentence(&faults)))?;
    let is_empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    if is_empty {
        bail!(
            "run file {place} is empty: it must have at least name, data, model and training; copy \
             one from README or examples/ to begin with"
        );
    }
    if !value.is_object() {
        let found = words::told(&value);
        bail!("run file {place} is {found}: it must be a table of keys, such as `name: my-run`");
    }
    Ok(value)
}

/// The parser's words for people, not those for programmers.
fn yaml(text: &str) -> Result<Plain, String> {
    // Numbers that are none are told by key, which the parser does not know.
    let options = serde_saphyr::options! {
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let said = error.render_with_formatter(&UserMessageFormatter);
        said.replace("duplicate mapping key", "a second key")
    })
}

/// Sets one value: as JSON or as YAML has lists and tables in one line, else as text.
pub(crate) fn apply_set(value: &mut Value, set: &str) -> Result<()> {
    let (path, text) =
        set.split_once('=').ok_or_else(|| anyhow!("--set {set}: expected a.b=value"))?;
    let new = one_line(text).map_err(|faults| anyhow!("--set {set}{}", sentence(&faults)))?;
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

/// Only brackets and braces make YAML of it: a name or a pattern such as `*.jsonl` is the text it is.
fn one_line(text: &str) -> Result<Value, Faults> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    if text.starts_with(['[', '{'])
        && let Ok(plain) = yaml(text)
    {
        return plain.finite();
    }
    let number = text.parse().ok().and_then(serde_json::Number::from_f64);
    Ok(number.map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

/// What is wrong with a file, as it follows upon the file's name.
pub(crate) fn sentence(faults: &Faults) -> String {
    match faults.all() {
        [BadValue { key, value, must }] => format!(", at {key}: it is {value} and {must}"),
        _ => format!(": {faults}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn set_reaches_into_tables_and_lists() {
        let mut value = json!({"training": {"steps": 1}, "plugins": [{"plugin": "a"}]});
        apply_set(&mut value, "training.steps=300").unwrap();
        apply_set(&mut value, "plugins.0.plugin=odm@0.1.0").unwrap();
        apply_set(&mut value, "rules.rate_limit=null").unwrap();
        let expected = json!({
            "training": {"steps": 300}, "plugins": [{"plugin": "odm@0.1.0"}],
            "rules": {"rate_limit": null}
        });
        assert_eq!(value, expected);
        assert!(apply_set(&mut value, "training.steps.deep=1").is_err());
        assert!(apply_set(&mut value, "plugins.7.plugin=x").is_err());
        assert!(apply_set(&mut value, "nonsense").is_err());
    }

    #[test]
    fn set_takes_lists_and_tables_as_a_run_file_has_them() {
        for (text, due) in [
            ("[{plugin: static}]", json!([{"plugin": "static"}])),
            ("{preset: nano, layers: 3}", json!({"preset": "nano", "layers": 3})),
            ("[]", json!([])),
            (".5", json!(0.5)),
            ("1e-3", json!(1e-3)),
            ("true", json!(true)),
            ("*.jsonl", json!("*.jsonl")),
            ("[ab]*.jsonl", json!("[ab]*.jsonl")),
            ("no", json!("no")),
            ("", json!("")),
            ("#1: a", json!("#1: a")),
            ("nan", json!("nan")),
        ] {
            assert_eq!(one_line(text).unwrap(), due, "{text}");
        }
    }

    #[test]
    fn number_that_is_none_is_refused_by_key_wherever_it_is_typed() {
        let said = |name: &str, text: &str| parse(Path::new(name), text).unwrap_err().to_string();
        let toml = "[rules]\nrate_limit = nan\n[training]\nlearning_rate_minimum = -inf\n";
        let text = said("r.toml", toml);
        assert!(text.contains("rules.rate_limit is NaN: must be a finite number"), "{text}");
        assert!(text.contains("training.learning_rate_minimum is -inf: must be"), "{text}");
        let text = said("r.yaml", "limits:\n  a:\n    max_epochs: .inf\n");
        assert!(text.contains("at limits.a.max_epochs: it is inf and must be"), "{text}");
        let text = said("r.yaml", "plugins:\n- config: {a: [1, .nan]}\n");
        assert!(text.contains("at plugins.0.config.a.1: it is NaN and must be"), "{text}");
        let mut value = json!({});
        let text = apply_set(&mut value, "rules={rate_limit: .nan}").unwrap_err().to_string();
        assert!(text.contains("at rate_limit: it is NaN and must be"), "{text}");
        assert_eq!(value, json!({}));
    }

    #[test]
    fn file_that_is_no_table_or_says_a_key_twice_is_told_in_a_persons_words() {
        let said = |text: &str| parse(Path::new("r.yaml"), text).unwrap_err().to_string();
        for empty in ["", "# nothing yet\n", "{}"] {
            assert!(said(empty).starts_with("run file r.yaml is empty: it must have"), "{empty}");
        }
        for (text, due) in
            [("hello", r#"is "hello": it must be a table"#), ("- 1", "is a list of 1")]
        {
            assert!(said(text).contains(due), "{text}: {}", said(text));
        }
        let text = said("training:\n  steps: 1\n  steps: 2\n");
        assert!(text.contains("a second key `steps` is not allowed here"), "{text}");
    }
}
