//! `hm export`: a checkpoint or imported weights as a Hugging Face folder, with the tokenizer.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use hm_data::{BEGIN_OF_TEXT, END_OF_DOCUMENT, END_OF_TEXT, Tokenizer};
use hm_domain::event::Event;
use hm_domain::id::{Digest, RunId};
use hm_domain::spec::RunSpec;
use hm_store::Store;
use hm_train::{ExportChoice, ExportSource, InitialWeights, TokenizerFiles};

use crate::cli::ExportArgs;
use crate::progress;
use crate::workplace::Workplace;

pub(crate) fn export(workplace: &Workplace, args: &ExportArgs) -> Result<u8> {
    let choice = ExportChoice { element: args.dtype.parse()?, shard_bytes: args.shard_bytes };
    let (source, tokenizer) = find(workplace, args)?;
    let files = tokenizer.as_deref().map(tokenizer_files).transpose()?;
    let bar = progress::bar(0, "exporting weights");
    let exported =
        hm_train::export(&source, &args.output, choice, files.as_ref(), &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        })?;
    bar.finish_and_clear();
    let folder = args.output.display();
    let (parameters, bytes, shards) = (exported.parameters, exported.bytes, exported.shards);
    if args.json {
        let shown = serde_json::json!({
            "folder": args.output, "parameters": parameters, "bytes": bytes, "shards": shards,
            "tokenizer": tokenizer,
        });
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(0);
    }
    println!("exported {parameters} weights into {folder}: {bytes} bytes in {shards} files");
    if tokenizer.is_none() {
        println!("there is no tokenizer to go with them: name one with --tokenizer");
    }
    Ok(0)
}

/// What is to be exported, and its tokenizer's file.
fn find(workplace: &Workplace, args: &ExportArgs) -> Result<(ExportSource, Option<PathBuf>)> {
    let folder = Path::new(&args.source);
    if InitialWeights::are_in(folder) {
        let weights = InitialWeights::read(folder)?;
        let tokenizer = args.tokenizer.clone().or_else(|| weights.tokenizer());
        return Ok((ExportSource::Initial(weights), tokenizer));
    }
    let store = workplace.store()?;
    let (id, wanted) = match folder.is_dir() {
        true => run_of_checkpoint(folder)?,
        false => (workplace.find_run(&store, &args.source)?, None),
    };
    let spec = spec_of(workplace, &store, id)?;
    let (folder, digest) = checkpoint(workplace, &store, id, wanted)?;
    let tokenizer = match &args.tokenizer {
        Some(path) => named_tokenizer(path, spec.tokenizer)?,
        None => prepared_tokenizer(workplace, spec.tokenizer)?,
    };
    Ok((ExportSource::Checkpoint { folder, model: spec.model, digest }, Some(tokenizer)))
}

/// A checkpoint's folder lies in one that has its run's id for a name.
fn run_of_checkpoint(folder: &Path) -> Result<(RunId, Option<PathBuf>)> {
    let context = || format!("cannot find {}", folder.display());
    let folder = folder.canonicalize().with_context(context)?;
    let run = folder.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let id = run.and_then(|name| name.parse().ok()).ok_or_else(|| {
        anyhow!(
            "{} is neither a folder of `hm import` nor a checkpoint in the folder of its run: name the run",
            folder.display()
        )
    })?;
    Ok((id, Some(folder)))
}

fn spec_of(workplace: &Workplace, store: &Store, id: RunId) -> Result<RunSpec> {
    let first = workplace.runtime.block_on(store.read(id, 0, 1))?.into_iter().next();
    let Some(Event::RunStarted(started)) = first.map(|recorded| recorded.event) else {
        bail!("the log of run {id} does not begin with run-started");
    };
    Ok(serde_json::from_str(&started.spec)?)
}

/// The wanted checkpoint's folder, or the newest on disk, and the digest that its event names.
fn checkpoint(
    workplace: &Workplace,
    store: &Store,
    id: RunId,
    wanted: Option<PathBuf>,
) -> Result<(PathBuf, Digest)> {
    let parent = match wanted.as_deref().and_then(Path::parent) {
        Some(parent) => parent.to_owned(),
        None => workplace.data_dir.join("checkpoints").join(id.to_string()),
    };
    for row in workplace.runtime.block_on(store.checkpoints(id))? {
        let folder = parent.join(row["folder"].as_str().unwrap_or_default());
        if wanted.as_ref().map_or_else(|| folder.is_dir(), |wanted| *wanted == folder) {
            let digest = row["digest"].as_str().unwrap_or_default();
            return Ok((folder, digest.parse().context("the checkpoint on record")?));
        }
    }
    match wanted {
        Some(folder) => bail!("the log of run {id} names no checkpoint {}", folder.display()),
        None => bail!("run {id} has no checkpoint in {}", parent.display()),
    }
}

fn named_tokenizer(path: &Path, expected: Digest) -> Result<PathBuf> {
    let (_, found) = Tokenizer::read(path)?;
    if found != expected {
        let path = path.display();
        bail!("{path} has digest {found}, the run's tokenizer {expected}: name the run's");
    }
    Ok(path.to_owned())
}

/// The tokenizer of this digest, in whatever was prepared with it.
fn prepared_tokenizer(workplace: &Workplace, digest: Digest) -> Result<PathBuf> {
    let prepared = workplace.data_dir.join("prepared");
    let folders = std::fs::read_dir(&prepared).into_iter().flatten().flatten();
    folders
        .map(|folder| folder.path().join("tokenizer.json"))
        .find(|path| std::fs::read(path).is_ok_and(|bytes| Digest::of(&bytes) == digest))
        .ok_or_else(|| {
            let prepared = prepared.display();
            anyhow!("no tokenizer with digest {digest} in {prepared}: name it with --tokenizer")
        })
}

fn tokenizer_files(path: &Path) -> Result<TokenizerFiles> {
    let (tokenizer, _) = Tokenizer::read(path)?;
    let token = |name: &str| tokenizer.token_id(name).map(|id| (name.to_owned(), id));
    let json = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(TokenizerFiles {
        json,
        vocabulary: tokenizer.vocabulary(),
        begin: token(BEGIN_OF_TEXT),
        end: token(END_OF_DOCUMENT),
        padding: token(END_OF_TEXT),
    })
}
