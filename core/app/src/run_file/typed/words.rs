//! What serde says of a value, in the words of who types.

mod elsewhere;
mod tables;

use hm_domain::settings::shown;
use serde_json::Value;

use self::elsewhere::elsewhere;
pub(super) use self::tables::table_of;
use crate::run_file::shares::number_meant;

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

/// How alike two names must be for one to be meant by the other: `over_samples` is `over_sequences`, and
/// `epochs` is not `steps`.
const ALIKE_MIN: f64 = 0.8;

pub(super) fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = |name: &&&str| strsim::jaro_winkler(&typed.to_lowercase(), &name.to_lowercase());
    let best = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(&best) >= ALIKE_MIN).then_some(*best)
}

/// What serde expected.
pub(super) fn expected(message: &str) -> &str {
    message.rsplit_once("expected ").map_or("", |(_, expected)| expected)
}

/// What is said of a key that nothing is called where `steps` lead, of which `known` are there; and the
/// key that is meant, from the top of the file. `key` writes steps as a person does.
pub(super) fn unknown(
    steps: &[String],
    known: &[&str],
    key: impl Fn(&[String]) -> String,
) -> (String, Vec<String>) {
    let (last, above) = steps.split_last().expect("a key has a name");
    let typed = format!("there is no key `{}` here", last.escape_debug());
    if let Some((keys, sentence)) = elsewhere(steps) {
        let meant = keys.iter().map(|&key| key.to_owned()).collect();
        let said = if sentence.is_empty() { asked(&keys) } else { sentence.to_owned() };
        return (format!("{typed}; {said}"), meant);
    }
    match nearest(last, known) {
        Some(best) => {
            let meant = key(&[above, &[best.to_owned()]].concat());
            (format!("{typed}; did you mean `{best}`?"), vec![meant])
        }
        None => (format!("{typed}: there are {}", known.join(", ")), Vec::new()),
    }
}

/// Whether these are meant, by all their names: of two sections, or two of one.
fn asked(keys: &[&str]) -> String {
    let section = |key: &str| key.split('.').next().unwrap_or_default().to_owned();
    let same = keys.iter().all(|key| section(key) == section(keys[0]));
    let names: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    let names = names.join(if same { " and " } else { " or " });
    let top =
        if keys.iter().all(|key| !key.contains('.')) { " at the top of the file" } else { "" };
    format!("did you mean {names}{top}?")
}

/// What serde says of the value of `key`, in the words of who types.
pub(super) fn must(message: &str, found: &Value, key: &str) -> String {
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
            format!("must be a whole number without a sign, written out in digits{digits}")
        }
        "u32" => {
            format!("must be a whole number from 0 to 4294967295, written out in digits{digits}")
        }
        "f64" => {
            let meant = found.as_str().and_then(number_meant);
            format!("must be a number{}", meant.map_or(String::new(), |meant| format!(": {meant}")))
        }
        "a boolean" => "must be true or false".to_owned(),
        "a string" if found.is_array() && key.ends_with(".path") => {
            "must be one text: several files are a pattern, such as \"corpus/*.jsonl\" or \"{a,b}.jsonl\", or \
             each a source of its own"
                .to_owned()
        }
        "a string" if found.is_array() => "must be one text, not a list".to_owned(),
        "a string" => "must be a text: put it in quotes if it looks like something else".to_owned(),
        "string or map" => "must be a word".to_owned(),
        "path string" => "must be a path".to_owned(),
        "a sequence" => {
            "must be a list, each item of which begins with `- ` (in TOML a list is in brackets)"
                .to_owned()
        }
        "a map" => format!("must be a table of keys{}", table_of(key, found)),
        other if other.starts_with("struct ") || other.contains("tagged enum") => {
            format!("must be a table of keys{}", table_of(key, found))
        }
        other => format!("must be {other}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said_of(key: &str, known: &[&str]) -> (String, Vec<String>) {
        let steps: Vec<String> = key.split('.').map(str::to_owned).collect();
        unknown(&steps, known, |steps| steps.join("."))
    }

    #[test]
    fn key_of_another_trainer_or_section_is_told_by_its_whole_name() {
        let known = ["steps", "batch_ramp", "warmup_steps", "beta1", "beta2", "ffn_size"];
        for (typed, meant) in [
            ("training.max_steps", "training.steps"),
            ("training.batch_size", "training.sequences_per_step"),
            ("training.batch", "training.sequences_per_step"),
            ("model.vocab_size", "data.vocabulary"),
            ("training.weight_decay", "optimizer.weight_decay"),
            ("optimizer.lr", "training.learning_rate"),
            ("steps", "training.steps"),
            ("model.context_length", "model.sequence_length"),
            ("training.seq-len", "model.sequence_length"),
            ("validation.fraction", "data.validation.fraction"),
            ("data.vocab_size", "data.vocabulary"),
            ("model.d_model", "model.hidden_size"),
            ("model.num_hidden_layers", "model.layers"),
            ("optimizer.grad_clip", "optimizer.clip_norm"),
        ] {
            let (said, keys) = said_of(typed, &known);
            assert!(said.ends_with(&format!("; did you mean `{meant}`?")), "{typed}: {said}");
            assert_eq!(keys, [meant], "{typed}");
        }
        let (said, _) = said_of("optimizer.betas", &known);
        assert!(said.ends_with("did you mean `optimizer.beta1` and `optimizer.beta2`?"), "{said}");
        let (said, _) = said_of("rules.every_steps", &known);
        let due = "did you mean `validation.every_steps` or `checkpoint.every_steps`?";
        assert!(said.ends_with(due), "{said}");
        let (said, _) = said_of("training.seed", &known);
        assert!(said.ends_with("did you mean `seed` at the top of the file?"), "{said}");
    }

    #[test]
    fn key_that_no_key_of_ours_is_like_is_told_what_does_it() {
        let (said, keys) = said_of("training.epochs", &["steps"]);
        assert!(said.contains("the length of a run is training.steps"), "{said}");
        assert_eq!(keys, ["training.steps"]);
        let (said, _) = said_of("device", &["name", "data"]);
        assert!(said.contains("name it as --device"), "{said}");
        let (said, keys) = said_of("training.horizon", &["steps", "schedule"]);
        assert!(said.ends_with("here: there are steps, schedule"), "{said}");
        assert!(keys.is_empty());
    }

    #[test]
    fn several_paths_in_a_list_are_told_to_be_a_pattern() {
        let message = "invalid type: sequence, expected a string";
        let said = must(message, &json!(["a.jsonl", "b.jsonl"]), "data.sources.0.path");
        assert!(said.starts_with("must be one text: several files are a pattern"), "{said}");
        assert!(!said.contains("quotes"), "{said}");
    }

    #[test]
    fn number_as_people_write_it_is_told_how_it_is_typed() {
        let message = "invalid type: string \"35%\", expected f64";
        let must = |found: Value| must(message, &found, "rate");
        assert_eq!(must(json!("35%")), "must be a number: 35 % is 0.35");
        assert_eq!(must(json!("0,5")), "must be a number: 0.5 with a point");
        assert_eq!(must(json!("much")), "must be a number");
        assert_eq!(must(json!([1])), "must be a number");
    }
}
