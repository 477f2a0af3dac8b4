//! Tables as they are typed, for who has written one word in place of one.

use serde_json::Value;

/// What stands for the word that was typed.
const WORD: &str = "WORD";

/// Keys, with their positions as 0, and a table that fits there.
const TABLES: [(&str, &str, &str); 13] = [
    ("data", "data: { sources: [{ path: WORD, format: jsonl }] }", "corpus/*.jsonl"),
    ("data.sources.0", "- { path: WORD, format: jsonl }", "corpus/*.jsonl"),
    ("data.validation", "validation: { fraction: WORD }", "0.02"),
    ("mixture", "mixture: { web: 0.7, code: 0.3 }", ""),
    ("limits", "limits: { web: { cap: 0.5 } }", ""),
    ("model", "model: { preset: WORD }", "tiny"),
    ("training", "training: { steps: WORD, sequences_per_step: 16 }", "1000"),
    ("training.schedule", "schedule: { kind: WORD }", "cosine"),
    ("training.batch_ramp", "batch_ramp: { from: 4, by: 4, over_sequences: 2000 }", ""),
    ("optimizer", "optimizer: { beta1: 0.9, beta2: 0.95 } (AdamW is the only one)", ""),
    ("validation", "validation: { every_steps: WORD }", "100"),
    ("checkpoint", "checkpoint: { every_steps: WORD }", "100"),
    ("plugins.0", "- plugin: WORD", "odm"),
];

/// An example of the table that `key` wants, with what was `typed` where it seems meant; nothing where
/// none is known.
pub(in crate::run_file::typed) fn table_of(key: &str, typed: &Value) -> String {
    let is_number = |step: &str| !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
    let steps = key.split('.').map(|step| if is_number(step) { "0" } else { step });
    let place = steps.collect::<Vec<_>>().join(".");
    let Some((_, example, usual)) = TABLES.iter().find(|(key, ..)| *key == place) else {
        return String::new();
    };
    let word = match typed {
        Value::String(word) if usual.parse::<f64>().is_err() => word.clone(),
        Value::Number(number) if usual.parse::<f64>().is_ok() => number.to_string(),
        _ => (*usual).to_owned(),
    };
    format!(", such as `{}`", example.replace(WORD, &word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn word_in_place_of_a_table_is_shown_in_one() {
        for (key, typed, due) in [
            ("training.schedule", json!("linear"), ", such as `schedule: { kind: linear }`"),
            ("plugins.2", json!("static"), ", such as `- plugin: static`"),
            (
                "data.sources.1",
                json!("web.jsonl"),
                ", such as `- { path: web.jsonl, format: jsonl }`",
            ),
            ("checkpoint", json!(50), ", such as `checkpoint: { every_steps: 50 }`"),
            ("checkpoint", json!("often"), ", such as `checkpoint: { every_steps: 100 }`"),
            ("model", json!(["tiny"]), ", such as `model: { preset: tiny }`"),
            ("plugins.0.config", json!("x"), ""),
        ] {
            assert_eq!(table_of(key, &typed), due, "{key}");
        }
        assert!(table_of("optimizer", &json!("adamw")).contains("beta1: 0.9"));
    }
}
