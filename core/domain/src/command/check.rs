//! What a wish must be before anybody puts it into an inbox: the terminal, the API and the worker ask
//! here, so that none accepts what another refuses. What depends on where the run stands (paused or
//! not, bound or not) is for the mentor.

use serde_json::Value;

use super::Command;
use crate::knobs::{check_batch_size, check_peak};
use crate::mixture::check_shares;
use crate::settings::shown;
use crate::spec::RunSpec;

/// Bytes of a wish as JSON. It is kept for ever, twice: in the inbox and, with its answer, in the log.
pub const WISH_BYTES_MAX: usize = 64 << 10;

/// Bytes of a wish's reason.
pub const REASON_BYTES_MAX: usize = 1000;

/// Bytes of what names a plugin: a digest, a name, or name@version.
const PLUGIN_BYTES_MAX: usize = 1000;

impl Command {
    /// Whether a run of this spec can be asked this at all.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn check(&self, spec: &RunSpec) -> Result<(), String> {
        let bytes = serde_json::to_string(self).map_err(|error| error.to_string())?.len();
        if bytes > WISH_BYTES_MAX {
            return Err(format!("a command of {bytes} bytes: at most {WISH_BYTES_MAX} are kept"));
        }
        match self {
            Command::Bind { plugin, config, .. } => check_binding(plugin, config)?,
            Command::SetMixture { shares, .. } => check_mixture(shares, spec)?,
            Command::SetLearningRate { peak, .. } => check_peak(*peak, Some(spec))?,
            Command::SetBatchSize { sequences, .. } => check_batch_size(*sequences)?,
            Command::Rollback { to, .. } if *to >= spec.training.steps => {
                return Err(format!(
                    "a rollback to step {to}: the run has steps 0 to {}",
                    spec.training.steps.saturating_sub(1)
                ));
            }
            Command::Release { .. }
            | Command::Rollback { .. }
            | Command::Pause { .. }
            | Command::Resume { .. }
            | Command::Stop { .. } => {}
        }
        check_reason(self.reason())
    }
}

fn check_mixture(shares: &[f64], spec: &RunSpec) -> Result<(), String> {
    check_shares(shares, spec.domains.len()).map_err(|refused| {
        let names: Vec<&str> = spec.domains.iter().map(|domain| domain.name.as_str()).collect();
        format!("{refused}: give one for each of {}", names.join(", "))
    })
}

fn check_binding(plugin: &str, config: &Value) -> Result<(), String> {
    let bytes = plugin.len();
    if plugin.trim().is_empty() || plugin.chars().any(char::is_control) {
        return Err(format!("no plugin can be called {}; see `hm plugin ls`", shown(plugin)));
    }
    if bytes > PLUGIN_BYTES_MAX {
        return Err(format!("a plugin's name of {bytes} bytes: at most {PLUGIN_BYTES_MAX}"));
    }
    match zero_character(config) {
        None => Ok(()),
        Some(text) => Err(format!(
            "the configuration holds a zero character in {}: leave it out, since none can be kept",
            shown(text)
        )),
    }
}

fn check_reason(reason: &str) -> Result<(), String> {
    let bytes = reason.len();
    if bytes > REASON_BYTES_MAX {
        return Err(format!("a reason of {bytes} bytes: at most {REASON_BYTES_MAX} are kept"));
    }
    if reason.contains('\0') {
        return Err(
            "the reason holds a zero character: leave it out, since none can be kept".to_owned()
        );
    }
    Ok(())
}

/// The first key or text in a JSON value that holds a zero character: Postgres keeps none.
pub fn zero_character(value: &Value) -> Option<&str> {
    let bad = |text: &str| text.contains('\0');
    match value {
        Value::String(text) => bad(text).then_some(text),
        Value::Array(values) => values.iter().find_map(zero_character),
        Value::Object(values) => values.iter().find_map(|(key, value)| {
            if bad(key) { Some(key.as_str()) } else { zero_character(value) }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::spec;

    /// Why a run of two domains cannot be asked this, or an empty text.
    fn refusal(command: Value) -> String {
        let command: Command = serde_json::from_value(command).unwrap();
        command.check(&spec(2)).err().unwrap_or_default()
    }

    fn mixture(shares: Vec<f64>) -> String {
        let command = Command::SetMixture { shares, reason: String::new() };
        command.check(&spec(2)).err().unwrap_or_default()
    }

    #[test]
    fn mixture_that_cannot_be_is_refused_by_value() {
        assert_eq!(mixture(vec![2.0, 1.0]), "");
        assert_eq!(mixture(vec![0.0, 1e300]), "");
        let three = mixture(vec![1.0, 1.0, 1.0]);
        assert_eq!(three, "3 weights for 2 domains: give one for each of domain-0, domain-1");
        assert!(mixture(vec![f64::NAN, 1.0]).contains("weight 0 is NaN"));
        assert!(mixture(vec![1.0, f64::INFINITY]).contains("weight 1 is inf"));
        assert!(mixture(vec![1.0, -0.5]).contains("weight 1 is -0.5"));
        assert!(mixture(vec![0.0, 0.0]).contains("all weights are zero"));
        assert!(mixture(vec![1e308, 1e308]).contains("too large"));
        assert!(mixture(vec![1.0; 600_001]).contains("bytes: at most 65536"));
    }

    #[test]
    fn knob_beyond_its_bound_is_refused() {
        assert_eq!(refusal(json!({"command": "set-batch-size", "sequences": 1})), "");
        assert!(refusal(json!({"command": "set-batch-size", "sequences": 0})).contains("of 0"));
        assert_eq!(refusal(json!({"command": "set-learning-rate", "peak": 1e-2})), "");
        let rate = |peak: f64| refusal(json!({"command": "set-learning-rate", "peak": peak}));
        assert!(rate(-5.0).contains("of -5: it must be at least 1e-8"));
        // The spec's own peak is 0.001.
        assert!(rate(0.011).contains("more than 10 times"));
        // Nothing in single precision.
        assert!(rate(1e-320).starts_with("a learning rate of 1e-320: it must be at least 1e-8"));
    }

    #[test]
    fn text_that_cannot_be_kept_is_refused() {
        let bind = |plugin: &str, config: Value| {
            refusal(
                json!({"command": "bind", "plugin": plugin, "config": config, "role": "active"}),
            )
        };
        assert_eq!(bind("odm@0.1.0", json!({"smoothing": 0.5})), "");
        assert!(bind("o\0dm", json!({})).contains(r#""o\0dm""#));
        assert!(bind("  ", json!({})).contains("no plugin can be called"));
        assert!(bind(&"x".repeat(1 << 16), json!({})).contains("bytes: at most"));
        assert!(bind("odm", json!({"a": ["plain", "pla\0in"]})).contains(r#""pla\0in""#));
        assert!(bind("odm", json!({"a": {"k\0": 1}})).contains(r#""k\0""#));
        for kind in ["pause", "resume", "stop"] {
            assert_eq!(refusal(json!({"command": kind})), "");
            assert_eq!(refusal(json!({"command": kind, "reason": "x".repeat(1000)})), "");
            let long = refusal(json!({"command": kind, "reason": "x".repeat(1001)}));
            assert_eq!(long, "a reason of 1001 bytes: at most 1000 are kept");
            assert!(refusal(json!({"command": kind, "reason": "\0"})).contains("zero character"));
        }
    }

    #[test]
    fn unknown_fields_are_refused_in_every_wish() {
        for wish in [
            json!({"command": "pause", "extra": 1}),
            json!({"command": "resume", "extra": 1}),
            json!({"command": "stop", "extra": null}),
            json!({"command": "set-mixture", "shares": [1.0], "extra": 1}),
            json!({"command": "set-batch-size", "sequences": 1, "extra": 1}),
        ] {
            let refused = serde_json::from_value::<Command>(wish.clone()).unwrap_err();
            assert!(refused.to_string().contains("unknown field `extra`"), "{wish}: {refused}");
        }
    }
}
