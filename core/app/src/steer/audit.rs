//! `hm audit`: the chain re-hashed, every decision re-executed in parallel, three verdicts.

use anyhow::{Context, Result};
use hm_domain::audit::{DecisionAudit, Divergence, Proofs, Segment, Start};
use hm_domain::chain::Envelope;
use hm_domain::event::Event;
use hm_domain::id::RunId;
use hm_domain::plugin::Plugins;
use hm_store::{Store, StoreError, StoredEvent};
use rayon::prelude::*;
use serde::Serialize;

use crate::cli::AuditArgs;
use crate::steer::{audit_system, audit_views};
use crate::terminal;
use crate::work::registry::Registry;
use crate::workplace::Workplace;

/// How deep an audit goes. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Level {
    /// Re-hash every stored event.
    Chain,
    /// Execute every plugin call and every host rule again.
    Decisions,
    /// Hold every row that people read against the log.
    Views,
}

/// Events read at once.
const PAGE_EVENTS: u64 = 2048;
/// Segments executed together: bounds what is held in memory.
const SEGMENTS_AT_ONCE: usize = 64;

/// What an audit found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) run: String,
    /// What its log calls it.
    pub(crate) name: String,
    pub(crate) level: String,
    pub(crate) verdict: &'static str,
    pub(crate) events: u64,
    pub(crate) steps: u64,
    /// Whether the log is all of its run; one that is not may have been cut.
    pub(crate) ended: bool,
    #[serde(flatten)]
    pub(crate) proofs: Proofs,
}

impl Report {
    /// 0 when nothing diverged (with `strict`: and nothing was unprovable), else 1.
    pub(crate) fn exit_code(&self, strict: bool) -> u8 {
        u8::from(self.proofs.diverged > 0 || (strict && self.proofs.not_provable > 0))
    }

    pub(crate) fn print(&self) {
        let (name, run) = (terminal::line(&self.name), &self.run);
        println!("audit of {name} ({run}) at level {}: {}", self.level, self.verdict);
        println!("  {} events, {} steps", self.events, self.steps);
        if !self.ended {
            println!(
                "  not ended: the run may go on, and nothing here says where its log must end"
            );
        }
        let Proofs { proved, not_provable, diverged, first } = &self.proofs;
        println!(
            "  {proved} plugin calls proved, {not_provable} not provable, {diverged} diverged"
        );
        if let Some(Divergence { seq, step, plugin, what, logged, found }) = first {
            let step = step.map(|step| format!(" (step {step})")).unwrap_or_default();
            println!("  first divergence at seq {seq}{step}, {plugin}: {what}");
            println!("    logged: {logged}");
            println!("    found:  {found}");
        }
    }
}

pub(crate) fn run(workplace: &Workplace, args: &AuditArgs) -> Result<u8> {
    let store = workplace.store_to_read()?;
    if audit_system::is_meant(&args.run) {
        return workplace.runtime.block_on(audit_system::audit(&store))?.tell(args.json);
    }
    let run = workplace.find_run(&store, &args.run)?.run_id;
    let registry = workplace.registry(&store)?;
    let report = workplace.runtime.block_on(audit(&store, registry, run, args.level))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.print();
    }
    Ok(report.exit_code(args.strict))
}

/// Audits one run.
pub(crate) async fn audit(
    store: &Store,
    registry: Registry,
    run: RunId,
    level: Level,
) -> Result<Report> {
    let name = store.find_run(&run.to_string()).await?.map(|found| found.name).unwrap_or_default();
    let chain = store.verify_chain(run).await.context("the chain cannot be read")?;
    let mut proofs = Proofs::default();
    let mut steps = 0;
    if let Some((seq, sentence)) = chain.broken {
        proofs.diverge(Divergence {
            seq,
            step: None,
            plugin: "log".to_owned(),
            what: "chain".to_owned(),
            logged: sentence,
            found: "an event that does not follow from the one before it".to_owned(),
        });
    } else if level >= Level::Decisions {
        steps = decisions(store, &registry, run, &mut proofs).await?;
        // What a log gives that does not hold says nothing of its tables.
        if level >= Level::Views && proofs.diverged == 0 {
            audit_views::views(store, run, &mut proofs).await?;
        }
    }
    let verdict = match (proofs.diverged, proofs.not_provable) {
        (0, 0) => "proved",
        (0, _) => "not provable in part",
        _ => "diverged",
    };
    let level = format!("{level:?}").to_lowercase();
    Ok(Report {
        run: run.to_string(),
        name,
        level,
        verdict,
        events: chain.events,
        steps,
        ended: chain.sealed,
        proofs,
    })
}

async fn decisions(
    store: &Store,
    registry: &Registry,
    run: RunId,
    proofs: &mut Proofs,
) -> Result<u64> {
    let mut audit = DecisionAudit::default();
    let (mut next, mut steps) = (0, 0);
    let mut waiting: Vec<Segment> = Vec::new();
    'log: loop {
        let page = store.read_raw(run, next, PAGE_EVENTS).await?;
        if page.is_empty() {
            break;
        }
        for stored in &page {
            next = stored.envelope.seq + 1;
            let recorded = match stored.decode() {
                Ok(recorded) => recorded,
                Err(error) => {
                    // Of what follows nothing can be told without it.
                    proofs.diverge(unreadable(stored, &error));
                    break 'log;
                }
            };
            steps += u64::from(matches!(recorded.event, Event::StepRecorded(_)));
            let (divergences, complete) = audit.fold(&recorded);
            divergences.into_iter().for_each(|divergence| proofs.diverge(divergence));
            waiting.extend(complete);
        }
        if waiting.len() >= SEGMENTS_AT_ONCE {
            execute(store, registry, std::mem::take(&mut waiting), proofs).await?;
        }
    }
    waiting.extend(audit.finish());
    execute(store, registry, waiting, proofs).await?;
    Ok(steps)
}

/// An event whose bytes say nothing.
fn unreadable(stored: &StoredEvent, error: &StoreError) -> Divergence {
    let Envelope { seq, step, kind, .. } = stored.envelope;
    Divergence {
        seq,
        step,
        plugin: "log".to_owned(),
        what: "an event that cannot be read".to_owned(),
        logged: format!("{} bytes of kind {kind}", stored.payload.len()),
        found: error.to_string(),
    }
}

/// Loads what the segments need, then executes them on all cores.
async fn execute(
    store: &Store,
    registry: &Registry,
    segments: Vec<Segment>,
    proofs: &mut Proofs,
) -> Result<()> {
    let mut work = Vec::with_capacity(segments.len());
    for segment in segments {
        let kept = match segment.start {
            Start::Kept(digest) => store.blob(digest).await?,
            Start::Init(_) => None,
        };
        work.push((segment, kept));
    }
    let registry = registry.clone();
    let found = tokio::task::spawn_blocking(move || -> Result<Proofs> {
        let mut all = Proofs::default();
        let mut loaded = Vec::with_capacity(work.len());
        for (segment, kept) in work {
            match registry.load(&segment.plugin) {
                Ok(()) => loaded.push((segment, kept)),
                Err(error) if error.is::<StoreError>() => return Err(error),
                // Nothing that was installed is ever deleted: no run has called what is not there.
                Err(error) => all.diverge(segment.not_loaded(&format!("{error:#}"))),
            }
        }
        let host = &registry.host;
        let engine = host.fingerprint();
        let parts: Vec<Proofs> = loaded
            .into_par_iter()
            .map(|(segment, kept)| segment.execute(host as &dyn Plugins, kept, engine))
            .collect();
        parts.into_iter().for_each(|part| all.add(part));
        Ok(all)
    })
    .await??;
    proofs.add(found);
    Ok(())
}
