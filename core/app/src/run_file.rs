//! The run file: what a person writes. It becomes a `RunSpec` once, and nothing later reads it.
//!
//! How it is read from text is in `typed`, and what is wrong with its values in `settings`.

pub(crate) mod model_choice;
pub(crate) mod resolve;
pub(crate) mod settings;
pub(crate) mod shares;
pub(crate) mod spec_change;
pub(crate) mod training_choice;
pub(crate) mod typed;
pub(crate) mod typed_again;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use hm_data::PrepareSpec;
use hm_domain::event::{FailurePolicy, Role};
use hm_domain::spec::{CheckpointSpec, Limits, OptimizerSpec, RulesSpec, ValidationSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::run_file::model_choice::ModelChoice;
use crate::run_file::training_choice::TrainingChoice;

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
        let mut value = typed::parse(path, &text)?;
        for set in sets {
            typed::apply_set(&mut value, set)?;
        }
        let folder = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        let also = |file: &RunFile| settings::faults(&file.clone().in_folder(&folder));
        let file = typed::read::<RunFile>(value)
            .checked(also)
            .map_err(|faults| anyhow!("run file {}{}", path.display(), typed::sentence(&faults)))?;
        let mut file = file.in_folder(&folder);
        file.take_tokenizer_of_weights()?;
        Ok(file)
    }

    /// Its paths are relative to where it lies.
    fn in_folder(mut self, folder: &Path) -> RunFile {
        self.data.resolve_paths(folder);
        self.model.from = self.model.from.take().map(|path| folder.join(path));
        self
    }

    /// Weights mean nothing under another tokenizer than their own: it is the default.
    fn take_tokenizer_of_weights(&mut self) -> Result<()> {
        if let Some(folder) = &self.model.from
            && self.data.tokenizer.is_none()
        {
            let tokenizer = self.model.initial_weights()?.and_then(|weights| weights.tokenizer());
            let folder = folder.display();
            self.data.tokenizer = Some(tokenizer.ok_or_else(|| {
                anyhow!(
                    "the weights in {folder} came without a tokenizer: name it as data.tokenizer"
                )
            })?);
        }
        Ok(())
    }

    pub(crate) fn rules_spec(&self) -> RulesSpec {
        RulesSpec {
            version: hm_domain::rules::RULES_VERSION,
            rate_limit: self.rules.rate_limit,
            freeze_steps: self.rules.freeze_steps,
        }
    }
}
