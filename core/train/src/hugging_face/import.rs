//! A Hugging Face folder into weights that runs start from.

use std::path::Path;

use safetensors::tensor::Dtype;

use super::element::ElementType;
use super::shards::{Found, Shards};
use super::{TOKENIZER_FILE, config};
use crate::checkpoint_folder::MODEL_FILE;
use crate::content_digest::{ContentDigest, INITIAL_WEIGHTS};
use crate::error::{Result, TrainError, at};
use crate::initial_weights::{Card, InitialWeights, WEIGHTS_FILE};
use crate::tensor_file::{Planned, TensorWriter};
use crate::whole_folder::WholeFolder;

/// Imports `folder` into the new folder `output`. `tokenizer` is the `tokenizer.json` to put there if
/// `folder` has none. `progress` is told weights done and in all.
///
/// # Errors
/// When the folder is damaged or asks for what an Aquila2 decoder does not do: with the file, the key or
/// tensor and both values. `output` is then as it was.
pub fn import(
    folder: &Path,
    output: &Path,
    tokenizer: Option<&str>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<InitialWeights> {
    let model = config::read(folder)?;
    let shards = Shards::open(folder)?;
    let parameters = shards.parameters(&model)?;
    let whole = WholeFolder::begin(output)?;
    let planned = |(name, found): (&String, &Found<'_>)| Planned {
        name: name.clone(),
        shape: found.place.shape.clone(),
    };
    let planned: Vec<Planned> = parameters.iter().map(planned).collect();
    let mut writer = TensorWriter::begin(&whole.path(MODEL_FILE), Dtype::F32, &planned)?;
    let mut digest = ContentDigest::new(INITIAL_WEIGHTS);
    let (mut done, total) = (0, model.parameter_count());
    for (name, found) in &parameters {
        digest.parameter(name, &found.place.shape);
        let mut first = 0;
        found.file.pieces(found.place, &mut |piece| {
            let numbers = found.element.widen(piece);
            refuse_what_is_not_finite(name, found, &numbers, first)?;
            let bytes = ElementType::F32.narrow(&numbers).expect("finite f32 are said by f32");
            digest.bytes(&bytes);
            first += numbers.len() as u64;
            done += numbers.len() as u64;
            progress(done, total);
            writer.write(&bytes)
        })?;
    }
    writer.finish()?;
    let own = folder.join(TOKENIZER_FILE);
    if own.is_file() {
        whole.write(TOKENIZER_FILE, &std::fs::read(&own).map_err(at(&own))?)?;
    } else if let Some(tokenizer) = tokenizer {
        whole.write(TOKENIZER_FILE, tokenizer.as_bytes())?;
    }
    let card = Card { model, digest: digest.finish() };
    let text = serde_json::to_vec_pretty(&card).expect("a card is plain data");
    whole.write(WEIGHTS_FILE, &text)?;
    whole.finish()?;
    InitialWeights::read(output)
}

fn refuse_what_is_not_finite(
    name: &str,
    found: &Found<'_>,
    numbers: &[f32],
    first: u64,
) -> Result<()> {
    let Some(index) = numbers.iter().position(|number| !number.is_finite()) else { return Ok(()) };
    let reason = format!(
        "{name} is {} at element {}: weights must be finite",
        numbers[index],
        first + index as u64
    );
    Err(TrainError::Broken { path: found.file.path().to_owned(), reason })
}
