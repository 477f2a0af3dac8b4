//! `hm import`: a Hugging Face folder into weights that a run starts from.

use anyhow::Result;
use hm_data::{Tokenizer, tokenizer_of_vocabulary_files};

use crate::cli::ImportArgs;
use crate::progress;

pub(crate) fn import(args: &ImportArgs) -> Result<u8> {
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
