//! `hm export`: a checkpoint or imported weights as a Hugging Face folder, with the tokenizer.

use std::path::Path;

use anyhow::{Context, Result};
use hm_data::{BEGIN_OF_TEXT, END_OF_TEXT, Tokenizer};
use hm_train::{ExportChoice, TokenizerFiles, TrainError};

use crate::cli::ExportArgs;
use crate::progress;
use crate::weights::find;
use crate::workplace::Workplace;

pub(crate) fn export(workplace: &Workplace, args: &ExportArgs) -> Result<u8> {
    let choice = ExportChoice { element: args.dtype.parse()?, shard_bytes: args.shard_bytes };
    let found = find(workplace, &args.source, args.tokenizer.as_deref())?;
    let tokenizer = &found.tokenizer;
    let files = tokenizer.as_deref().map(tokenizer_files).transpose()?;
    let bar = progress::bar(0, "exporting weights");
    let exported = found.newest_whole(|source| {
        hm_train::export(source, &args.output, choice, files.as_ref(), &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        })
    });
    let (exported, step) = exported.map_err(|error| match error.downcast_ref() {
        // Of the weights' own files another sentence is said.
        Some(TrainError::File { .. }) => error.context(format!(
            "cannot write into {}: name another new folder with --output",
            args.output.display()
        )),
        _ => error,
    })?;
    bar.finish_and_clear();
    let folder = args.output.display();
    let (parameters, bytes, shards) = (exported.parameters, exported.bytes, exported.shards);
    if args.json {
        let shown = serde_json::json!({
            "folder": args.output, "step": step, "parameters": parameters, "bytes": bytes, "shards": shards,
            "tokenizer": tokenizer,
        });
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(0);
    }
    let of_step = step.map_or(String::new(), |step| format!(" of step {step}"));
    println!(
        "exported {parameters} weights{of_step} into {folder}: {bytes} bytes in {shards} files"
    );
    if tokenizer.is_none() {
        println!("there is no tokenizer to go with them: name one with --tokenizer");
    }
    Ok(0)
}

fn tokenizer_files(path: &Path) -> Result<TokenizerFiles> {
    let (tokenizer, _) = Tokenizer::read(path)?;
    let token = |name: &str| tokenizer.token_id(name).map(|id| (name.to_owned(), id));
    let (end, end_id) = tokenizer.end_of_document();
    let json = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(TokenizerFiles {
        json,
        vocabulary: tokenizer.vocabulary(),
        begin: token(BEGIN_OF_TEXT),
        end: Some((end.to_owned(), end_id)),
        padding: token(END_OF_TEXT),
    })
}
