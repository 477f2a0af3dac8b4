//! `hm import`: a Hugging Face folder into weights that a run starts from.

use anyhow::Result;
use hm_data::Tokenizer;

use crate::cli::ImportArgs;
use crate::progress;

pub(crate) fn import(args: &ImportArgs) -> Result<u8> {
    let bar = progress::bar(0, "importing weights");
    let weights = hm_train::import(&args.folder, &args.output, &mut |done, total| {
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
        None => println!("there was no tokenizer.json: name one as data.tokenizer"),
        Some(Err(error)) => println!("name another as data.tokenizer: {error}"),
        Some(Ok(_)) => {}
    }
    Ok(0)
}
