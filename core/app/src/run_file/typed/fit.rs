//! A value read into its type: all that does not fit is told at once, each under its key. In place of
//! what is missing or does not fit something that does stands in, so that the rest can be read on.

use std::collections::BTreeSet;

use hm_domain::settings::{BadValue, Faults, key_of};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

use super::words::{expected, must, quoted, table_of, told, unknown};

/// Most faults of one file that are looked for: more of them say that it is another file altogether.
const ROUNDS_MAX: usize = 1000;

/// What a value came to.
pub(crate) struct Fit<T> {
    /// The value, with what stands in for faulty parts; none where nothing can.
    read: Option<T>,
    faults: Faults,
    /// Keys of what stands in.
    stand_ins: BTreeSet<String>,
}

impl<T> Fit<T> {
    /// The value, if all of it fits; otherwise every fault, those too that `check` finds in what could
    /// be read.
    pub(crate) fn checked(self, check: impl FnOnce(&T) -> Faults) -> Result<T, Faults> {
        let Fit { read, mut faults, stand_ins } = self;
        match read {
            Some(read) if faults.is_empty() => return Ok(read),
            Some(read) => {
                let found = check(&read);
                let real = |fault: &&BadValue| !stand_ins.iter().any(|key| concerns(fault, key));
                for BadValue { key, value, must } in found.all().iter().filter(real) {
                    faults.add(key, value, must);
                }
            }
            None => {}
        }
        Err(faults)
    }
}

/// Whether a fault may come from what stands in for `stand_in`: it is of the same section, or says so.
fn concerns(fault: &BadValue, stand_in: &str) -> bool {
    let section = |key: &str| key.split('.').next().unwrap_or_default().to_owned();
    section(&fault.key) == section(stand_in) || fault.must.contains(stand_in)
}

/// Reads `value` into its type.
pub(crate) fn read<T: DeserializeOwned + Serialize>(mut value: Value) -> Fit<T> {
    let (mut faults, mut stand_ins) = (Faults::default(), BTreeSet::new());
    // What an unknown key was told to be meant for is not missing beside.
    let mut meant = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(read) => {
                let Some(steps) = listed(&value, &read) else {
                    return Fit { read: Some(read), faults, stand_ins };
                };
                let Some(found) = place(&mut value, &steps) else { break };
                let must = format!("must be a table of keys{}", table_of(&key(&steps), found));
                faults.add(key(&steps), told(found), must);
                *found = Value::Object(Map::new());
                stand_ins.insert(key(&steps));
                continue;
            }
            Err(error) => error,
        };
        let message = error.inner().to_string();
        let mut steps = steps(error.path());
        let stands_in = |steps: &[String]| {
            (1..=steps.len()).any(|length| stand_ins.contains(&key(&steps[..length])))
        };
        if let Some(field) = message.strip_prefix("missing field `") {
            let known = stands_in(&steps);
            steps.push(field.trim_end_matches('`').to_owned());
            let Some(Value::Object(fields)) = place(&mut value, &steps[..steps.len() - 1]) else {
                break;
            };
            fields.insert(steps[steps.len() - 1].clone(), Value::Null);
            if !known && !meant.contains(&key(&steps)) {
                faults.add(key(&steps), "missing", "must be given");
            }
            stand_ins.insert(key(&steps));
        } else if message.starts_with("unknown field") {
            let Some((last, above)) = steps.split_last() else { break };
            let Some(Value::Object(fields)) = place(&mut value, above) else { break };
            let Some(found) = fields.remove(last) else { break };
            let known: Vec<&str> = quoted(expected(&message)).collect();
            let (must, keys) = unknown(&steps, &known, key);
            faults.add(key(&steps), told(&found), must);
            meant.extend(keys);
        } else {
            let known = stands_in(&steps);
            let Some(found) = place(&mut value, &steps) else { break };
            let next = stand_in(&message).filter(|next| next != found);
            if !known {
                faults.add(key(&steps), told(found), must(&message, found, &key(&steps)));
            }
            let Some(next) = next else { break };
            *found = next;
            stand_ins.insert(key(&steps));
        }
    }
    Fit { read: None, faults, stand_ins }
}

/// Where a list was read as a table, its items by their places: serde does that, and no person means it.
fn listed(typed: &Value, read: &impl Serialize) -> Option<Vec<String>> {
    fn within(typed: &Value, read: &Value) -> Option<Vec<String>> {
        let (step, mut steps) = match (typed, read) {
            (Value::Array(_), Value::Object(_)) => return Some(Vec::new()),
            (Value::Array(typed), Value::Array(read)) => {
                let mut pairs = typed.iter().zip(read).enumerate();
                pairs
                    .find_map(|(at, (typed, read))| Some((at.to_string(), within(typed, read)?)))?
            }
            (Value::Object(typed), Value::Object(read)) => typed
                .iter()
                .find_map(|(key, typed)| Some((key.clone(), within(typed, read.get(key)?)?)))?,
            _ => return None,
        };
        steps.insert(0, step);
        Some(steps)
    }
    within(typed, &serde_json::to_value(read).ok()?)
}

/// The keys and positions that lead to a place.
fn steps(path: &Path) -> Vec<String> {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(step).collect()
}

/// As a person types it after `--set`.
fn key(steps: &[String]) -> String {
    let Some((first, rest)) = steps.split_first() else { return "the file".to_owned() };
    let word = |step: &String| key_of("", step).trim_start_matches('.').to_owned();
    rest.iter().fold(word(first), |key, step| format!("{key}.{}", word(step)))
}

fn place<'a>(value: &'a mut Value, steps: &[String]) -> Option<&'a mut Value> {
    steps.iter().try_fold(value, |value, step| match value {
        Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
        Value::Object(fields) => fields.get_mut(step),
        _ => None,
    })
}

/// Something that serde would take in the place of what it refuses so.
fn stand_in(message: &str) -> Option<Value> {
    let (_, expected) = message.rsplit_once("expected ")?;
    if message.starts_with("unknown variant") {
        return quoted(expected).next().map(Value::from);
    }
    match expected {
        "u64" | "usize" | "u32" | "f64" => Some(Value::from(1)),
        "a boolean" => Some(Value::Bool(false)),
        "a string" | "path string" | "string or map" => Some(Value::from("-")),
        "a sequence" => Some(Value::Array(Vec::new())),
        "a map" => Some(Value::Object(Map::new())),
        other => other.starts_with("struct ").then(|| Value::Object(Map::new())),
    }
}

#[cfg(test)]
mod tests;
