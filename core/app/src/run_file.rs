//! The run file: what a person writes. It becomes a `RunSpec` once, and nothing later reads it.
//!
//! YAML or TOML by the file's ending. Unknown keys are refused with the nearest known one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use hm_data::PrepareSpec;
use hm_domain::event::{FailurePolicy, Role};
use hm_domain::spec::{CheckpointSpec, Limits, OptimizerSpec, RulesSpec, ValidationSpec};
use hm_train::InitialWeights;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::training_choice::TrainingChoice;

/// A run as typed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunFile {
    /// Name of the run.
    pub(crate) name: String,
    /// Seed of weights and data order.
    #[serde(default)]
    pub(crate) seed: u64,
    /// Sources and how they become token shards.
    pub(crate) data: PrepareSpec,
    /// Share of each domain in the prior, by name; those not named share what is left by size.
    #[serde(default)]
    pub(crate) mixture: std::collections::BTreeMap<String, f64>,
    /// Limits of each domain, by name.
    #[serde(default)]
    pub(crate) limits: std::collections::BTreeMap<String, Limits>,
    /// Model shape.
    pub(crate) model: ModelChoice,
    /// Length and batching.
    pub(crate) training: TrainingChoice,
    /// AdamW.
    #[serde(default)]
    pub(crate) optimizer: OptimizerSpec,
    /// Host rules.
    #[serde(default)]
    pub(crate) rules: RulesChoice,
    /// Held-out losses.
    #[serde(default)]
    pub(crate) validation: ValidationSpec,
    /// When to save.
    #[serde(default)]
    pub(crate) checkpoint: CheckpointSpec,
    /// Steps between a decision and the first step under it, beside one.
    #[serde(default)]
    pub(crate) decision_lag: u64,
    /// Plugins bound at the start.
    #[serde(default)]
    pub(crate) plugins: Vec<PluginChoice>,
}

/// A preset or imported weights, and what to change in its shape.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelChoice {
    #[serde(default)]
    pub(crate) preset: Option<String>,
    /// Folder that `hm import` made: its shape, its weights and, unless the data names another, its
    /// tokenizer.
    #[serde(default)]
    pub(crate) from: Option<PathBuf>,
    #[serde(default)]
    pub(crate) sequence_length: Option<u32>,
    #[serde(default)]
    pub(crate) qk_norm: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RulesChoice {
    pub(crate) rate_limit: Option<f64>,
    pub(crate) freeze_steps: u64,
}

impl Default for RulesChoice {
    fn default() -> Self {
        RulesChoice { rate_limit: Some(0.2), freeze_steps: 0 }
    }
}

/// A plugin to bind before the first step.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PluginChoice {
    /// Digest, name or name@version.
    pub(crate) plugin: String,
    #[serde(default = "empty_object")]
    pub(crate) config: Value,
    #[serde(default = "active")]
    pub(crate) role: Role,
    #[serde(default)]
    pub(crate) failure: FailurePolicy,
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

fn active() -> Role {
    Role::Active
}

impl RunFile {
    /// Reads a run file, applies `--set a.b=value` in order, and resolves paths against its folder.
    pub(crate) fn read(path: &Path, sets: &[String]) -> Result<RunFile> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read run file {}", path.display()))?;
        let mut value = parse(path, &text)?;
        for set in sets {
            apply_set(&mut value, set)?;
        }
        let mut file: RunFile =
            serde_path_to_error::deserialize(&value).map_err(|error| explain(path, &error))?;
        let folder = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        file.data.resolve_paths(&folder);
        file.model.from = file.model.from.take().map(|path| folder.join(path));
        file.take_tokenizer_of_weights()?;
        Ok(file)
    }

    /// Weights mean nothing under another tokenizer than their own: it is the default.
    fn take_tokenizer_of_weights(&mut self) -> Result<()> {
        if let Some(folder) = &self.model.from
            && self.data.tokenizer.is_none()
        {
            let tokenizer = self.initial_weights()?.and_then(|weights| weights.tokenizer());
            let folder = folder.display();
            self.data.tokenizer = Some(tokenizer.ok_or_else(|| {
                anyhow!(
                    "the weights in {folder} came without a tokenizer: name it as data.tokenizer"
                )
            })?);
        }
        Ok(())
    }

    /// The weights to start from, if any.
    pub(crate) fn initial_weights(&self) -> Result<Option<InitialWeights>> {
        let Some(folder) = &self.model.from else { return Ok(None) };
        let context = || format!("model.from {}: no weights of `hm import`", folder.display());
        InitialWeights::read(folder).map(Some).with_context(context)
    }

    pub(crate) fn rules_spec(&self) -> RulesSpec {
        RulesSpec {
            version: hm_domain::rules::RULES_VERSION,
            rate_limit: self.rules.rate_limit,
            freeze_steps: self.rules.freeze_steps,
        }
    }
}

fn parse(path: &Path, text: &str) -> Result<Value> {
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
fn apply_set(value: &mut Value, set: &str) -> Result<()> {
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
            *place = empty_object();
        }
        let Value::Object(fields) = place else {
            bail!("--set {set}: `{key}` would go below a plain value");
        };
        place = fields.entry(key).or_insert(Value::Null);
    }
    *place = new;
    Ok(())
}

/// serde's message, with the nearest known key where one is unknown.
fn explain(path: &Path, error: &serde_path_to_error::Error<serde_json::Error>) -> anyhow::Error {
    let message = error.inner().to_string();
    let mut quoted = message.split('`').skip(1).step_by(2);
    let mut nearest = String::new();
    if (message.starts_with("unknown field") || message.starts_with("unknown variant"))
        && let Some(unknown) = quoted.next()
        && let Some(best) = quoted.max_by(|a, b| {
            strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b))
        })
    {
        nearest = format!("; did you mean `{best}`?");
    }
    anyhow!("{}: at {}: {message}{nearest}", path.display(), error.path())
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn unknown_key_names_the_nearest() {
        let value = serde_json::json!({"beta3": 0.9});
        let error = serde_path_to_error::deserialize::<_, OptimizerSpec>(&value).unwrap_err();
        let text = explain(Path::new("run.yaml"), &error).to_string();
        assert!(text.contains("`beta3`") && text.contains("did you mean `beta"), "{text}");
    }
}
