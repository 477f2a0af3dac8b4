//! Weights of a checkpoint, or imported ones, into a Hugging Face folder.
//!
//! The digest on record is checked while the copy is made: one of damaged weights never gets its name.

use std::path::Path;

use hm_domain::spec::ModelSpec;

use super::element::ElementType;
use super::source::ExportSource;
use super::tokenizer_files::{TokenizerFiles, generation_text, pretty};
use super::{CONFIG_FILE, INDEX_FILE, MODEL_FILE, TOKENIZER_FILE, config};
use crate::error::{Result, TrainError};
use crate::parameters;
use crate::tensor_file::{Planned, TensorWriter};
use crate::whole_folder::WholeFolder;

/// How to export.
#[derive(Clone, Copy, Debug)]
pub struct ExportChoice {
    /// What one weight becomes.
    pub element: ElementType,
    /// Most bytes of weights in a file; a tensor that is larger has a file of its own.
    pub shard_bytes: u64,
}

/// An exported folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Files of weights.
    pub shards: usize,
    /// Weights.
    pub parameters: u64,
    /// Bytes of the files of weights.
    pub bytes: u64,
}

/// Exports into the new folder `output`. `progress` is told weights done and in all.
///
/// # Errors
/// When the source is damaged or is not what is on record, when the model has parts that the layout
/// does not know, when a weight is too large for its type, or
/// when `output` is not empty. `output` is then as it was.
pub fn export(
    source: &ExportSource,
    output: &Path,
    choice: ExportChoice,
    tokenizer: Option<&TokenizerFiles>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Exported> {
    let mut reader = source.open()?;
    let model = source.model();
    refuse_larger_vocabulary(source, tokenizer)?;
    refuse_head_norms(source)?;
    let whole = WholeFolder::begin(output)?;
    let shards = shards(model, choice);
    let total = model.parameter_count();
    let (mut done, mut bytes) = (0, 0);
    for (name, tensors) in &shards {
        let mut writer = TensorWriter::begin(&whole.path(name), choice.element.dtype(), tensors)?;
        for tensor in tensors {
            reader.copy(tensor, &mut |numbers| {
                let narrowed = choice
                    .element
                    .narrow(numbers)
                    .map_err(|number| does_not_fit(source, &tensor.name, number, choice.element))?;
                done += numbers.len() as u64;
                progress(done, total);
                writer.write(&narrowed)
            })?;
        }
        bytes += writer.finish()?;
    }
    reader.finish()?;
    if shards.len() > 1 {
        whole.write(INDEX_FILE, index_text(&shards, total, choice).as_bytes())?;
    }
    whole.write(CONFIG_FILE, config::text(model, choice.element, tokenizer).as_bytes())?;
    whole.write("generation_config.json", generation_text(tokenizer).as_bytes())?;
    if let Some(files) = tokenizer {
        whole.write(TOKENIZER_FILE, &files.json)?;
        for (name, text) in files.texts(model) {
            whole.write(name, text.as_bytes())?;
        }
    }
    whole.finish()?;
    Ok(Exported { shards: shards.len(), parameters: total, bytes })
}

fn refuse_larger_vocabulary(source: &ExportSource, files: Option<&TokenizerFiles>) -> Result<()> {
    let rows = source.model().vocabulary;
    match files {
        Some(files) if files.vocabulary > rows as usize => {
            let tokens = files.vocabulary;
            let reason =
                format!("the tokenizer has {tokens} ids, the model has {rows} rows for them");
            Err(TrainError::Broken { path: source.folder().to_owned(), reason })
        }
        _ => Ok(()),
    }
}

/// The Llama layout has no place for them.
fn refuse_head_norms(source: &ExportSource) -> Result<()> {
    if !source.model().qk_norm {
        return Ok(());
    }
    let reason = "the model normalises its heads (model.qk_norm is true), which transformers' Llama does not: it cannot be exported";
    Err(TrainError::Broken { path: source.folder().to_owned(), reason: reason.to_owned() })
}

fn does_not_fit(
    source: &ExportSource,
    name: &str,
    number: f32,
    element: ElementType,
) -> TrainError {
    let element = element.name();
    let reason =
        format!("{name} holds {number}, which {element} cannot say: export it as a wider type");
    TrainError::Broken { path: source.folder().join(MODEL_FILE), reason }
}

/// Files by name, with their tensors in order of path: as many in each as fit.
fn shards(model: &ModelSpec, choice: ExportChoice) -> Vec<(String, Vec<Planned>)> {
    let mut shards: Vec<Vec<Planned>> = Vec::new();
    let mut filled: u64 = 0;
    for (name, shape) in parameters::shapes(model) {
        let tensor = Planned { name, shape };
        let bytes = tensor.elements() * choice.element.size_bytes();
        match shards.last_mut().filter(|_| filled + bytes <= choice.shard_bytes) {
            Some(shard) => shard.push(tensor),
            None => {
                shards.push(vec![tensor]);
                filled = 0;
            }
        }
        filled += bytes;
    }
    let count = shards.len();
    let name = |index: usize| match count {
        1 => MODEL_FILE.to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    };
    shards.into_iter().enumerate().map(|(index, tensors)| (name(index), tensors)).collect()
}

fn index_text(shards: &[(String, Vec<Planned>)], parameters: u64, choice: ExportChoice) -> String {
    let map: serde_json::Map<String, serde_json::Value> = shards
        .iter()
        .flat_map(|(file, tensors)| {
            tensors.iter().map(|tensor| (tensor.name.clone(), file.clone().into()))
        })
        .collect();
    let total_size = parameters * choice.element.size_bytes();
    pretty(&serde_json::json!({
        "metadata": { "total_parameters": parameters, "total_size": total_size },
        "weight_map": map,
    }))
}
