//! `hm audit --level data`: every batch drawn again from the prepared data and held against the log.
//!
//! Shards, split and tokenizer are first held against the digests in the run's first event. A step stands
//! alone: the state before it says where every domain stood and what was due, so steps are drawn in
//! parallel.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hm_data::{DataError, Manifest, Piece, Sampler};
use hm_domain::audit::Divergence;
use hm_domain::batch::{Batch, Cursor, DomainDraw};
use hm_domain::event::{Event, StepRecorded};
use hm_domain::id::Digest;
use hm_domain::mixture::Mixture;
use hm_domain::spec::RunSpec;
use hm_domain::state::RunState;
use rayon::prelude::*;
use serde::Serialize;

use crate::progress::Steady;
use crate::steer::audit::source::Source;
use crate::steer::fold::fold;

/// Steps that are drawn together: what memory holds of the log beside its page.
const STEPS_AT_ONCE: usize = 512;

/// What was found of the data.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct DataReport {
    /// Where the prepared data lies.
    folder: PathBuf,
    /// Batches that were drawn again.
    batches: u64,
    /// Those of the log.
    batches_logged: u64,
    /// Sequences in them.
    sequences: u64,
    /// Those that are not what the log says, and files that are not.
    pub(crate) diverged: u64,
    first: Option<Divergence>,
    /// What one step drew, where one was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    drew: Vec<Drew>,
}

/// What a step drew of one document.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Drew {
    attempt: u32,
    step: u64,
    /// The domain's name.
    name: String,
    /// The shard's digest.
    shard: String,
    #[serde(flatten)]
    piece: Piece,
}

/// A step and all that its batch depends on.
struct Due {
    seq: u64,
    attempt: u32,
    step: u64,
    /// What the log says of the batch; the rest of its event would only take memory.
    draws: Vec<DomainDraw>,
    batch: Digest,
    mixture: Mixture,
    sequences: u32,
    cursors: Vec<Cursor>,
    carries: Vec<i64>,
}

/// Audits the data of a run, or of one step of it, whose prepared folder is `named` or lies in `root`.
///
/// # Errors
/// When no folder holds the run's data, or it cannot be read.
pub(crate) fn audit(
    source: &dyn Source,
    spec: &RunSpec,
    (root, named): (&Path, Option<&Path>),
    step: Option<u64>,
) -> Result<DataReport> {
    let (folder, manifest) = prepared_for(spec, root, named)?;
    let mut report = DataReport { folder, ..DataReport::default() };
    if let Some(changed) = changed(&manifest, &report.folder)? {
        // What is drawn from other bytes says nothing.
        report.diverge(changed);
        return Ok(report);
    }
    let sampler = Sampler::open(&report.folder, spec.seed, spec.model.sequence_length)?;
    let mut progress = Steady::new(spec.training.steps, "drawing the batches again");
    let mut waiting = Vec::new();
    fold(source, &mut |state, recorded| {
        let Event::StepRecorded(logged) = &recorded.event else { return Ok(()) };
        report.batches_logged += 1;
        if step.is_none_or(|step| step == logged.step) {
            waiting.push(Due::of(state, recorded.seq, logged));
        }
        if waiting.len() >= STEPS_AT_ONCE {
            report.draw(&sampler, spec, &mut waiting, step.is_some())?;
            progress.at(logged.step + 1);
        }
        Ok(())
    })?;
    report.draw(&sampler, spec, &mut waiting, step.is_some())?;
    progress.finish();
    if let Some(step) = step
        && report.batches == 0
    {
        bail!("the log has no step {step}: it counts from 0");
    }
    Ok(report)
}

impl DataReport {
    /// Draws what waits, on all threads.
    fn draw(
        &mut self,
        sampler: &Sampler,
        spec: &RunSpec,
        waiting: &mut Vec<Due>,
        tells: bool,
    ) -> Result<()> {
        let drawn: Vec<(Option<Divergence>, Vec<Piece>)> =
            waiting.par_iter().map(|due| due.drawn(sampler, tells)).collect::<Result<_>>()?;
        for (due, (divergence, pieces)) in waiting.drain(..).zip(drawn) {
            self.batches += 1;
            self.sequences += u64::from(due.sequences);
            if let Some(divergence) = divergence {
                self.diverge(divergence);
            }
            self.drew.extend(pieces.into_iter().map(|piece| due.drew(spec, piece)));
        }
        Ok(())
    }

    fn diverge(&mut self, divergence: Divergence) {
        self.diverged += 1;
        self.first.get_or_insert(divergence);
    }

    /// Whether all of the run was drawn again.
    pub(crate) fn is_whole(&self) -> bool {
        self.batches == self.batches_logged
    }

    pub(crate) fn print(&self) {
        let DataReport { folder, batches, batches_logged, sequences, diverged, first, drew } = self;
        println!("  data in {}: {diverged} diverged", folder.display());
        println!("  {batches} of {batches_logged} batches drawn again, {sequences} sequences");
        if !self.is_whole() {
            println!("  of the other steps, batches are the trainer's word");
        }
        for Drew { attempt, step, name, shard, piece } in drew {
            let Piece { sequence, epoch, segment, document, tokens, .. } = piece;
            println!(
                "  attempt {attempt} step {step} sequence {sequence}: {name}, document {document} of segment \
                 {segment} ({shard}), tokens {} to {}, epoch {epoch}",
                tokens.start, tokens.end
            );
        }
        first.iter().for_each(print_divergence);
    }
}

pub(crate) fn print_divergence(first: &Divergence) {
    let Divergence { seq, step, what, logged, found, .. } = first;
    let step = step.map(|step| format!(" (step {step})")).unwrap_or_default();
    println!("  first divergence at seq {seq}{step}: {what}");
    println!("    logged: {logged}");
    println!("    found:  {found}");
}

impl Due {
    fn of(state: &RunState, seq: u64, logged: &StepRecorded) -> Due {
        Due {
            seq,
            attempt: state.attempt,
            step: logged.step,
            draws: logged.draws.clone(),
            batch: logged.batch,
            mixture: state.mixture.clone(),
            sequences: state.next_sequences(),
            cursors: state.cursors.clone(),
            carries: state.carries.clone(),
        }
    }

    /// Whether the batch differs from the log's, and the pieces of documents in it if it `tells`.
    fn drawn(&self, sampler: &Sampler, tells: bool) -> Result<(Option<Divergence>, Vec<Piece>)> {
        let Due { mixture, sequences, cursors, carries, .. } = self;
        let mut pieces = Vec::new();
        let drawn = sampler.draw_at((cursors, carries), mixture, *sequences, &mut |piece| {
            if tells {
                pieces.push(piece);
            }
        });
        let batch = match drawn {
            Ok(batch) => batch,
            Err(outside @ (DataError::Cursor { .. } | DataError::OtherData { .. })) => {
                let due = format!("{cursors:?}");
                return Ok((Some(self.diverges("cursors", due, outside.to_string())), pieces));
            }
            Err(error) => return Err(error.into()),
        };
        Ok((self.differs(&batch), pieces))
    }

    fn differs(&self, batch: &Batch) -> Option<Divergence> {
        if batch.draws != self.draws {
            let (then, now) = (format!("{:?}", self.draws), format!("{:?}", batch.draws));
            return Some(self.diverges("cursors and quotas of the batch", then, now));
        }
        let now = batch.digest();
        (now != self.batch)
            .then(|| self.diverges("digest of the batch", self.batch.to_string(), now.to_string()))
    }

    fn diverges(&self, what: &str, logged: String, found: String) -> Divergence {
        let (seq, step) = (self.seq, Some(self.step));
        Divergence { seq, step, plugin: "data".to_owned(), what: what.to_owned(), logged, found }
    }

    fn drew(&self, spec: &RunSpec, piece: Piece) -> Drew {
        let domain = &spec.domains[piece.domain.index()];
        let shard = domain.segments[piece.segment as usize].digest.short();
        let (attempt, step, name) = (self.attempt, self.step, domain.name.clone());
        Drew { attempt, step, name, shard, piece }
    }
}

/// A prepared folder with the digests of this spec.
pub(crate) fn prepared_for(
    spec: &RunSpec,
    root: &Path,
    named: Option<&Path>,
) -> Result<(PathBuf, Manifest)> {
    if let Some(folder) = named {
        let manifest = Manifest::read(folder)?;
        if let Some(differs) = other_than(&manifest, spec) {
            bail!("{} was prepared from other data than the run's: {differs}", folder.display());
        }
        return Ok((folder.to_owned(), manifest));
    }
    let folders = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
    folders.sort();
    let holds = |folder: PathBuf| {
        // Whatever else lies there is no prepared data.
        let manifest = Manifest::read(&folder).ok()?;
        other_than(&manifest, spec).is_none().then_some((folder, manifest))
    };
    folders.into_iter().find_map(holds).with_context(|| {
        format!(
            "no folder in {} was prepared from the run's data: prepare it with `hm prepare`, or name one \
             with --data",
            root.display()
        )
    })
}

/// What a manifest names that is not the spec's, with both digests.
fn other_than(manifest: &Manifest, spec: &RunSpec) -> Option<String> {
    let apart = |what: String, found: String, due: String| {
        (found != due).then(|| format!("{what} is {found}, the log's {due}"))
    };
    let tokenizer = (manifest.tokenizer.to_string(), spec.tokenizer.to_string());
    apart("the tokenizer".to_owned(), tokenizer.0, tokenizer.1)
        .or_else(|| {
            let names = |all: Vec<&String>| format!("{all:?}");
            let found = names(manifest.domains.iter().map(|domain| &domain.name).collect());
            let due = names(spec.domains.iter().map(|domain| &domain.name).collect());
            apart("the list of domains".to_owned(), found, due)
        })
        .or_else(|| {
            manifest.domains.iter().zip(&spec.domains).find_map(|(found, due)| {
                let listed = |digests: Vec<String>| digests.join(" ");
                let found_digests = found.segments.iter().chain(&found.validation);
                let due_digests = due.segments.iter().chain(&due.validation);
                apart(
                    format!("what `{}` holds", due.name),
                    listed(found_digests.map(|entry| entry.digest.to_string()).collect()),
                    listed(due_digests.map(|entry| entry.digest.to_string()).collect()),
                )
            })
        })
}

/// A file that has not the digest that the first event names.
fn changed(manifest: &Manifest, folder: &Path) -> Result<Option<Divergence>> {
    match manifest.verify_digests(folder) {
        Ok(()) => Ok(None),
        Err(DataError::Changed { path, found, expected, .. }) => Ok(Some(Divergence {
            seq: 0,
            step: None,
            plugin: "data".to_owned(),
            what: format!("digest of {}", path.display()),
            logged: expected.to_string(),
            found,
        })),
        Err(error) => Err(error.into()),
    }
}
