//! `hm prepare`: corpora to a tokenizer and token shards.

use std::path::PathBuf;

use anyhow::Result;
use hm_data::Manifest;
use hm_domain::id::Digest;

use crate::cli::RunFileArgs;
use crate::progress;
use crate::run_file::RunFile;
use crate::workplace::Workplace;

pub(crate) fn prepare(workplace: &Workplace, args: &RunFileArgs) -> Result<u8> {
    let file = RunFile::read(&args.config, &args.sets)?;
    let (manifest, folder) = prepared(workplace, &file)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&manifest)?);
        return Ok(0);
    }
    println!("prepared in {}: vocabulary {}", folder.display(), manifest.vocabulary);
    for domain in &manifest.domains {
        let documents: u64 = domain.segments.iter().map(|segment| segment.documents).sum();
        let tokens: u64 = domain.segments.iter().map(|segment| segment.tokens).sum();
        let held_out = domain.validation.as_ref().map_or(0, |segment| segment.documents);
        println!(
            "  {:20} {documents:8} documents {tokens:10} tokens, {held_out} held out",
            domain.name
        );
    }
    for file in manifest.files.iter().filter(|file| file.bad > 0) {
        let first = file.first_bad.as_deref().unwrap_or_default();
        println!("  {}: {} bad lines, first: {first}", file.path.display(), file.bad);
    }
    Ok(0)
}

/// The prepared data of a run file, prepared now if need be.
pub(crate) fn prepared(workplace: &Workplace, file: &RunFile) -> Result<(Manifest, PathBuf)> {
    let key = Digest::of(serde_json::to_string(&file.data)?.as_bytes());
    let folder = workplace.data_dir.join("prepared").join(key.short());
    let bar = progress::bytes();
    let mut phase = "";
    let manifest = hm_data::prepare(&file.data, &folder, &mut |progress| {
        if progress.phase != phase {
            phase = progress.phase;
            bar.set_message(phase);
            if bar.is_hidden() {
                eprintln!("{phase}: {} files", progress.files_total);
            }
        }
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes);
    })?;
    bar.finish_and_clear();
    Ok((manifest, folder))
}
