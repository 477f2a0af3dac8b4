//! What serde says of a value, in the words of who types.

use hm_domain::settings::shown;
use serde_json::Value;

/// A value on one line.
pub(super) fn told(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::String(text) => shown(text),
        Value::Object(_) => "a table".to_owned(),
        Value::Array(items) => format!("a list of {}", items.len()),
        plain => plain.to_string(),
    }
}

/// The names in backquotes.
pub(super) fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split('`').skip(1).step_by(2)
}

/// How alike two names must be for one to be meant by the other.
const ALIKE_MIN: f64 = 0.7;

pub(super) fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = |name: &&&str| strsim::jaro_winkler(&typed.to_lowercase(), &name.to_lowercase());
    let best = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(&best) >= ALIKE_MIN).then_some(*best)
}

/// What serde expected.
pub(super) fn expected(message: &str) -> &str {
    message.rsplit_once("expected ").map_or("", |(_, expected)| expected)
}

/// A key that nothing is called.
pub(super) fn unknown(typed: &str, best: Option<&str>, known: &[&str]) -> String {
    let typed = typed.escape_debug();
    match best {
        Some(best) => format!("there is no key `{typed}` here; did you mean `{best}`?"),
        None => format!("there is no key `{typed}` here: there are {}", known.join(", ")),
    }
}

/// What serde says, in the words of who types.
pub(super) fn must(message: &str, found: &Value) -> String {
    if message.starts_with("unknown variant") {
        let known: Vec<&str> = quoted(expected(message)).collect();
        let typed = found.as_str().unwrap_or_default();
        let best = nearest(typed, &known);
        let best = best.map_or(String::new(), |best| format!("; did you mean `{best}`?"));
        return format!("must be one of {}{best}", known.join(", "));
    }
    let Some((_, expected)) = message.rsplit_once("expected ") else { return message.to_owned() };
    let digits = match found.as_f64() {
        Some(number) if number.fract() == 0.0 && (0.0..1e18).contains(&number) => {
            format!(": {number}")
        }
        _ => String::new(),
    };
    match expected {
        "u64" | "usize" => {
            format!("must be a whole number of at least 0, written out in digits{digits}")
        }
        "u32" => {
            format!("must be a whole number from 0 to 4294967295, written out in digits{digits}")
        }
        "f64" => "must be a number".to_owned(),
        "a boolean" => "must be true or false".to_owned(),
        "a string" => "must be a text: put it in quotes if it looks like something else".to_owned(),
        "string or map" => "must be a word".to_owned(),
        "path string" => "must be a path".to_owned(),
        "a sequence" => {
            "must be a list, each item of which begins with `- ` (in TOML a list is in brackets)"
                .to_owned()
        }
        "a map" => "must be a table of keys".to_owned(),
        other if other.starts_with("struct ") => "must be a table of keys".to_owned(),
        other => format!("must be {other}"),
    }
}
