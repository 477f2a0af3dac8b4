//! Weights by what people call them, and the tokenizer that goes with them.

pub(crate) mod chat;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod import;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use hm_data::{Manifest, Tokenizer};
use hm_domain::id::{Digest, RunId};
use hm_domain::spec::RunSpec;
use hm_store::Store;
use hm_train::{ExportSource, InitialWeights, TrainError};

use crate::run_file::model_choice::to_be_imported;
use crate::workplace::Workplace;

/// Weights that were found by name.
pub(crate) struct Found {
    /// The newest first: a damaged one is passed over. With the step of each that is a checkpoint.
    choices: Vec<(Option<u64>, ExportSource)>,
    /// Their tokenizer's file.
    pub(crate) tokenizer: Option<PathBuf>,
}

impl Found {
    /// Does `work` with the newest weights that are whole, and says which newer ones are not. What came
    /// of it, and the step of the checkpoint, where it is one.
    pub(crate) fn newest_whole<T>(
        &self,
        mut work: impl FnMut(&ExportSource) -> Result<T, TrainError>,
    ) -> Result<(T, Option<u64>)> {
        let last = self.choices.len() - 1;
        for (index, (step, source)) in self.choices.iter().enumerate() {
            match work(source) {
                Ok(done) => return Ok((done, *step)),
                Err(error) if index < last && error.is_of(source.folder()) => {
                    let step = step.unwrap_or_default();
                    eprintln!("the checkpoint of step {step} is passed over: {error}");
                }
                Err(error) if error.is_of(source.folder()) => {
                    let folder = source.folder().display();
                    return Err(anyhow!(
                        "the weights in {folder} are not whole: {error}; name others, such as an older checkpoint"
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
        unreachable!("the last choice returns")
    }
}

/// The weights that `name` names (the folder of imported weights or of a checkpoint; or a run, by name
/// or id: its newest whole checkpoint), and their tokenizer's file: the one given, or their own. A folder that
/// is neither, such as the run's own export or corpus, stands in no run's way.
pub(crate) fn find(workplace: &Workplace, name: &str, tokenizer: Option<&Path>) -> Result<Found> {
    let folder = Path::new(name);
    if InitialWeights::are_in(folder) {
        let weights = InitialWeights::read(folder)?;
        let tokenizer = tokenizer.map(Path::to_owned).or_else(|| weights.tokenizer());
        return Ok(Found { choices: vec![(None, ExportSource::Initial(weights))], tokenizer });
    }
    let store = workplace.store_to_read()?;
    let (id, wanted) = match run_of_checkpoint(folder) {
        Some((id, folder)) => (id, Some(folder)),
        None => (run_called(workplace, &store, name)?, None),
    };
    let spec = workplace.begun_with(&store, id)?;
    let on_record = checkpoints(workplace, &store, id, wanted)?;
    let tokenizer = match tokenizer {
        Some(path) => named_tokenizer(path, spec.tokenizer)?,
        None => prepared_tokenizer(workplace, &spec)?,
    };
    let choices = on_record.into_iter().map(|(step, folder, digest)| {
        (Some(step), ExportSource::Checkpoint { folder, model: spec.model.clone(), digest })
    });
    Ok(Found { choices: choices.collect(), tokenizer: Some(tokenizer) })
}

/// A checkpoint's folder lies in one that has its run's id for a name.
fn run_of_checkpoint(folder: &Path) -> Option<(RunId, PathBuf)> {
    let folder = folder.canonicalize().ok().filter(|folder| folder.is_dir())?;
    let run = folder.parent().and_then(Path::file_name).and_then(|name| name.to_str())?;
    Some((run.parse().map(RunId).ok()?, folder))
}

fn run_called(workplace: &Workplace, store: &Store, name: &str) -> Result<RunId> {
    match workplace.find_run(store, name) {
        Err(_) if Path::new(name).exists() => Err(anyhow!(no_weights(Path::new(name)))),
        found => Ok(found?.run_id),
    }
}

/// Why what lies there is no weights, and what would do.
fn no_weights(path: &Path) -> String {
    let place = path.display();
    if path.is_file() {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        return format!(
            "{place} is a file: name its folder {}",
            folder.unwrap_or(Path::new(".")).display()
        );
    }
    let held = hm_train::checkpoints_in(path).unwrap_or_default();
    if let Some((newest, _)) = held.iter().max_by_key(|(_, state)| (state.attempt, state.next_step))
    {
        let newest = path.join(newest);
        return format!(
            "{place} holds several checkpoints: name one, such as {}",
            newest.display()
        );
    }
    if path.join("model.safetensors").is_file() && path.join("state.json").is_file() {
        return format!(
            "{place} is a checkpoint outside the folder of its run, which vouches for it: name that one, in \
             checkpoints/ID of the data folder, or its run; `hm export` makes weights that may lie anywhere"
        );
    }
    format!(
        "the folder {place} is neither a folder of `hm import` nor a checkpoint in the folder of its run{}",
        to_be_imported(path)
    )
}

/// The wanted checkpoint, or all of the run that are on disk, the newest first: step, folder, and the
/// digest that its event names. At least one.
fn checkpoints(
    workplace: &Workplace,
    store: &Store,
    id: RunId,
    wanted: Option<PathBuf>,
) -> Result<Vec<(u64, PathBuf, Digest)>> {
    let parent = match wanted.as_deref().and_then(Path::parent) {
        Some(parent) => parent.to_owned(),
        None => workplace.checkpoints_of(id),
    };
    let mut found = Vec::new();
    let mut rows = workplace.runtime.block_on(store.checkpoints(id))?;
    if wanted.is_none() {
        pass_over_doubtful(&mut rows);
    }
    for row in rows {
        let missing = || format!("the checkpoint on record is {row}");
        let folder = parent.join(row["folder"].as_str().with_context(missing)?);
        if wanted.as_ref().map_or_else(|| folder.is_dir(), |wanted| *wanted == folder) {
            let digest = row["digest"].as_str().with_context(missing)?;
            let digest = digest.parse().with_context(missing)?;
            found.push((row["step"].as_u64().with_context(missing)?, folder, digest));
        }
    }
    match wanted {
        _ if !found.is_empty() => Ok(found),
        Some(folder) => bail!("the log of run {id} names no checkpoint {}", folder.display()),
        None => bail!("run {id} has no checkpoint in {}", parent.display()),
    }
}

/// Weights that gave no numbers are taken last, unless a person names them.
fn pass_over_doubtful(rows: &mut [serde_json::Value]) {
    let newest_live = rows.iter().find(|row| row["abandoned"] != true).cloned();
    good_first(rows);
    if let Some(newest) = newest_live.filter(|newest| Some(newest) != rows.first()) {
        eprintln!(
            "the checkpoint of step {} is passed over: its weights gave no finite loss; name its folder to \
             take it all the same",
            newest["step"]
        );
    }
}

/// Checkpoints from whose weights a step has given numbers before the others, and those that a rollback has
/// left behind after the rest, each in the order they had.
pub(crate) fn good_first(rows: &mut [serde_json::Value]) {
    rows.sort_by_key(|row| (row["abandoned"] == true, row["doubtful"] == true));
}

fn named_tokenizer(path: &Path, expected: Digest) -> Result<PathBuf> {
    let (_, found) = Tokenizer::read(path)?;
    if found != expected {
        let path = path.display();
        bail!("{path} has digest {found}, the run's tokenizer {expected}: name the run's");
    }
    Ok(path.to_owned())
}

/// The run's tokenizer, in the folder that holds its shards, or else in whatever was prepared with it:
/// there, documents may end with another mark.
fn prepared_tokenizer(workplace: &Workplace, spec: &RunSpec) -> Result<PathBuf> {
    let prepared = workplace.data_dir.join("prepared");
    let folders = std::fs::read_dir(&prepared).into_iter().flatten().flatten();
    let digest = spec.tokenizer;
    let mut found: Vec<PathBuf> = folders
        .map(|folder| folder.path().join("tokenizer.json"))
        .filter(|path| std::fs::read(path).is_ok_and(|bytes| Digest::of(&bytes) == digest))
        .collect();
    found.sort_by_key(|path| !holds_shards(path, spec));
    found.into_iter().next().ok_or_else(|| {
        let prepared = prepared.display();
        anyhow!("no tokenizer with digest {digest} in {prepared}: name it with --tokenizer")
    })
}

/// The manifest of the run's prepared data, where that is here.
pub(crate) fn data_manifest(workplace: &Workplace, spec: &RunSpec) -> Option<Vec<u8>> {
    let tokenizer = prepared_tokenizer(workplace, spec).ok()?;
    let folder = tokenizer.parent().filter(|_| holds_shards(&tokenizer, spec))?;
    std::fs::read(folder.join("manifest.json")).ok()
}

/// Whether the shards beside a tokenizer are the run's.
fn holds_shards(tokenizer: &Path, spec: &RunSpec) -> bool {
    let manifest = tokenizer.parent().and_then(|folder| Manifest::read(folder).ok());
    let Some(manifest) = manifest else { return false };
    let here = manifest.domains.iter().flat_map(|domain| &domain.segments).map(|s| s.digest);
    here.eq(spec.domains.iter().flat_map(|domain| &domain.segments).map(|s| s.digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoint_that_the_run_left_behind_is_taken_after_every_one_of_its_own() {
        let row = |step: u64, doubtful: bool, abandoned: bool| serde_json::json!({ "step": step, "doubtful": doubtful, "abandoned": abandoned });
        let mut rows = vec![
            row(30, true, false),
            row(40, false, true),
            row(20, false, false),
            row(50, true, true),
            row(10, false, false),
        ];
        good_first(&mut rows);
        let steps: Vec<u64> = rows.iter().map(|row| row["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [20, 10, 30, 40, 50]);
    }

    #[test]
    fn what_is_nearly_weights_is_told_which_folder_would_do() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        std::fs::create_dir(&copy).unwrap();
        assert!(no_weights(&copy).contains("is neither a folder of `hm import` nor"));
        for file in ["model.safetensors", "state.json"] {
            std::fs::write(copy.join(file), "").unwrap();
        }
        let said = no_weights(&copy.join("model.safetensors"));
        assert!(
            said.ends_with(&format!("is a file: name its folder {}", copy.display())),
            "{said}"
        );
        assert!(no_weights(&copy).contains("outside the folder of its run"));
    }
}
