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

use anyhow::{Result, anyhow, bail};
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

/// A run file's text.
fn text_of(path: &Path) -> Result<String> {
    let place = path.display();
    if path.is_dir() {
        bail!("run file {place} is a folder: name a file{}", run_files_in(path));
    }
    typed::refuse_other_files(path)?;
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            anyhow!(
                "there is no run file {place}{}",
                run_files_in(folder.unwrap_or(Path::new(".")))
            )
        }
        _ => anyhow!("run file {place} cannot be read: {error}"),
    })?;
    let not_text = |_| anyhow!("run file {place} is not UTF-8 text: save it as that");
    String::from_utf8(bytes).map_err(not_text)
}

/// Run files that are named in a sentence.
const RUN_FILES_TOLD_MAX: usize = 5;

/// What a folder has that may be meant, as the end of a sentence.
fn run_files_in(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<String> = entries
        .filter(|entry| typed::refuse_other_files(&entry.path()).is_ok())
        .map(|entry| entry.file_name().to_string_lossy().escape_debug().to_string())
        .collect();
    files.sort();
    let more = match files.len().saturating_sub(RUN_FILES_TOLD_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    files.truncate(RUN_FILES_TOLD_MAX);
    match (&files[..], folder.is_dir()) {
        ([], true) => format!("; {} has no .yaml or .toml file", folder.display()),
        ([], false) => format!("; there is no folder {}", folder.display()),
        (files, _) => format!("; in {} there is {}{more}", folder.display(), files.join(", ")),
    }
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
        let text = text_of(path)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_file_that_is_none_is_told_with_those_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let said = |path: &Path| RunFile::read(path, &[]).unwrap_err().to_string();
        let here = folder.path().display().to_string();
        let none = format!("; {here} has no .yaml or .toml file");
        assert!(said(&place("nofile.yaml")).ends_with(&none), "{}", said(&place("nofile.yaml")));
        std::fs::write(place("live.yaml"), "").unwrap();
        std::fs::write(place("a.jsonl.gz"), [0x1f, 0x8b, 0xff]).unwrap();
        let there = format!("; in {here} there is live.yaml");
        for missing in [place("nofile.yaml"), place("nofile"), folder.path().to_owned()] {
            let text = said(&missing);
            assert!(text.contains(&there) || text.contains("ends in neither"), "{text}");
            assert!(!text.contains("os error"), "{text}");
        }
        assert!(said(folder.path()).contains("is a folder: name a file; in "));
        assert!(said(&place("a.jsonl.gz")).contains("ends in neither .yaml, .yml nor .toml"));
        std::fs::write(place("b.yaml"), [b'a', 0xff]).unwrap();
        assert!(said(&place("b.yaml")).contains("is not UTF-8 text"));
    }
}
