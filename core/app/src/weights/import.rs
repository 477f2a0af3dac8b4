//! `hm import`: a Hugging Face folder into weights that a run starts from.

use std::path::Path;

use anyhow::{Result, bail};
use hm_data::{Tokenizer, tokenizer_of_vocabulary_files};
use hm_train::InitialWeights;

use crate::cli::ImportArgs;
use crate::progress;

pub(crate) fn import(args: &ImportArgs) -> Result<u8> {
    if let Some(reason) = not_of_hugging_face(&args.folder) {
        bail!(reason);
    }
    let tokenizer = if args.folder.join("tokenizer.json").is_file() {
        None
    } else {
        tokenizer_of_vocabulary_files(&args.folder)?
    };
    let bar = progress::bar(0, "importing weights");
    let tokenizer = tokenizer.as_deref();
    let weights = hm_train::import(&args.folder, &args.output, tokenizer, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let parameters = weights.model.parameter_count();
    if args.json {
        let shown = serde_json::json!({
            "folder": args.output, "parameters": parameters, "digest": weights.digest,
            "model": weights.model, "tokenizer": weights.tokenizer(),
        });
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(0);
    }
    let folder = args.output.display();
    println!("imported {parameters} weights into {folder}, digest {}", weights.digest);
    println!("start from them with: model: {{ from: {folder} }}");
    match weights.tokenizer().map(|path| Tokenizer::read(&path)) {
        None => println!(
            "there was neither tokenizer.json nor vocab.json and merges.txt: name a tokenizer as data.tokenizer"
        ),
        Some(Err(error)) => println!("name another as data.tokenizer: {error}"),
        Some(Ok(_)) => {}
    }
    Ok(0)
}

/// Why a folder is none of Hugging Face, if nothing in it looks like one, and what to do with what it is.
fn not_of_hugging_face(folder: &Path) -> Option<String> {
    if folder.join("config.json").exists() {
        return None;
    }
    let (is_folder, weights) = (folder.is_dir(), InitialWeights::are_in(folder));
    let folder = folder.display();
    if weights {
        return Some(format!(
            "{folder} holds weights that `hm import` made: a run starts from them as they are, with \
             model: {{ from: {folder} }}"
        ));
    }
    let reason = match is_folder {
        true => format!("{folder} has no config.json"),
        false => format!("there is no folder {folder}"),
    };
    Some(format!(
        "{reason}: a Hugging Face folder is wanted, with config.json and safetensors; of a run or a \
         checkpoint `hm export {folder} --output my-model` makes one"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_folder_of_hugging_face_is_told_what_to_do_with_it() {
        let nobody = not_of_hugging_face(Path::new("no-run-here")).unwrap();
        assert!(nobody.starts_with("there is no folder no-run-here: a Hugging"), "{nobody}");
        assert!(nobody.contains("`hm export no-run-here --output my-model`"), "{nobody}");
        let folder = tempfile::tempdir().unwrap();
        let empty = not_of_hugging_face(folder.path()).unwrap();
        assert!(empty.contains("has no config.json: a Hugging Face folder"), "{empty}");
        std::fs::write(folder.path().join("weights.json"), "{}").unwrap();
        let imported = not_of_hugging_face(folder.path()).unwrap();
        assert!(imported.contains("as they are, with model: { from: "), "{imported}");
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        assert_eq!(not_of_hugging_face(folder.path()), None);
    }
}
