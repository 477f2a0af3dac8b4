//! `hm prepare`: corpora to a tokenizer and token shards.

use std::path::PathBuf;

use anyhow::Result;
use hm_data::{DataError, Estimate, Prepared, Progress, Watch};

use crate::cli::PrepareArgs;
use crate::corpora::read_report;
use crate::interrupt::{Interrupt, Interrupted};
use crate::progress;
use crate::run_file::RunFile;
use crate::workplace::Workplace;

pub(crate) fn prepare(workplace: &Workplace, args: &PrepareArgs) -> Result<u8> {
    let file = RunFile::read(&args.file.config, &args.file.sets)?;
    let Prepared { manifest, folder } = prepared(workplace, &file, &Interrupt::install()?)?;
    if args.verify {
        manifest.verify_digests(&folder)?;
    }
    if args.file.json {
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
    for sentence in read_report::sentences(&manifest) {
        println!("  {sentence}");
    }
    if args.verify {
        println!("every shard and the tokenizer were read again: they have their digests");
    }
    Ok(0)
}

pub(super) fn root(workplace: &Workplace) -> PathBuf {
    workplace.data_dir.join("prepared")
}

/// The prepared data of a run file, prepared now if need be, and held against its digests.
pub(crate) fn prepared(
    workplace: &Workplace,
    file: &RunFile,
    interrupt: &Interrupt,
) -> Result<Prepared> {
    workplace.make_data_dir()?;
    let root = root(workplace);
    let stop = || interrupt.raised();
    Ok(watched(&stop, |watch| hm_data::prepare(&file.data, &root, watch))?)
}

/// What preparation would give, and whether that is estimated, which is told on standard error too.
/// Nothing is written.
pub(crate) fn estimate(workplace: &Workplace, file: &RunFile) -> Result<Estimate> {
    let root = root(workplace);
    let estimate = watched(&|| false, |watch| hm_data::estimate(&file.data, &root, watch))?;
    if !estimate.is_prepared {
        eprintln!(
            "estimated from some of the text, since it is not prepared yet: documents, tokens, epochs; digests are zero"
        );
    }
    for sentence in read_report::sentences(&estimate.manifest) {
        eprintln!("{sentence}");
    }
    Ok(estimate)
}

/// Shows how far `work` is.
pub(super) fn watched<T>(
    stop: &dyn Fn() -> bool,
    work: impl FnOnce(Watch<'_>) -> hm_data::Result<T>,
) -> hm_data::Result<T> {
    let bar = progress::bytes();
    let mut phase = "";
    let tell = &mut |progress: Progress| {
        if progress.phase != phase {
            phase = progress.phase;
            bar.set_message(phase);
            if bar.is_hidden() {
                eprintln!("{phase}: {} files", progress.files_total);
            }
        }
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes);
    };
    let done = work(Watch { tell, stop });
    bar.finish_and_clear();
    done
}

/// Work that was interrupted before a run trained is no failure: it says so and exits as interrupted
/// work does.
pub(crate) fn or_interrupted(done: Result<u8>) -> Result<u8> {
    match done {
        Err(error)
            if matches!(error.downcast_ref(), Some(DataError::Stopped))
                || error.is::<Interrupted>() =>
        {
            eprintln!("hm: {error}");
            Ok(130)
        }
        done => done,
    }
}
