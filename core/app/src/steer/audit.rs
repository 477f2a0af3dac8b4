//! `hm audit`: the chain re-hashed, every event made again from the facts in it, every plugin call
//! executed again in parallel.

mod execute;
mod noted;
mod report;
pub(crate) mod source;

use anyhow::Result;
use hm_domain::audit::{DecisionAudit, Divergence, Proofs};
use hm_domain::chain::{Envelope, Walk};
use hm_domain::event::Event;
use hm_store::{StoreError, StoredEvent};

use self::execute::Executor;
use self::noted::Noted;
pub(crate) use self::report::Report;
use self::source::{Logged, Source};
use crate::cli::AuditArgs;
use crate::prove::held::Anchors;
use crate::work::registry::Registry;
use crate::workplace::Workplace;

/// How deep an audit goes. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Level {
    /// Re-hash every stored event.
    Chain,
    /// Execute every plugin call and every host rule again.
    Decisions,
}

pub(crate) fn run(workplace: &Workplace, args: &AuditArgs) -> Result<u8> {
    let store = workplace.store()?;
    let run = workplace.find_run(&store, &args.run)?.run_id;
    let registry = workplace.registry(&store)?;
    let source = Logged::new(&store, workplace.runtime.handle(), run);
    let AuditArgs { heads, anchors: files, key, .. } = args;
    let anchors = Anchors::gather(&workplace.data_dir, run, heads, files, *key)?;
    let report = held_against(&anchors, &source, registry, args.level)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.print();
    }
    Ok(report.exit_code(args.strict))
}

/// Audits one run, and holds its chain against heads that were kept elsewhere.
pub(crate) fn held_against(
    anchors: &Anchors,
    source: &dyn Source,
    registry: Registry,
    level: Level,
) -> Result<Report> {
    let noted = Noted::new(source, anchors.seqs());
    let mut report = audit(&noted, registry, level)?;
    let (hashes, last) = noted.found();
    report.head = last;
    report.hold(anchors.hold(&hashes));
    Ok(report)
}

/// Audits one run, as far as its head stands when this begins.
fn audit(source: &dyn Source, registry: Registry, level: Level) -> Result<Report> {
    let head = source.head()?;
    let mut executor = Executor::new(source, registry);
    let mut decisions = (level >= Level::Decisions).then(DecisionAudit::default);
    let (mut walk, mut proofs, mut steps) = (Walk::default(), Proofs::default(), 0);
    let mut unbroken = true;
    'log: while walk.next_seq < head.next_seq {
        let page = source.page(walk.next_seq)?;
        if page.is_empty() {
            proofs.diverge(broken(walk.next_seq, "the event is missing"));
            unbroken = false;
            break;
        }
        for stored in page.iter().take((head.next_seq - walk.next_seq) as usize) {
            let hashes = (&stored.prev_hash, &stored.hash);
            if let Err(why) = walk.past(&stored.envelope, &stored.payload, hashes) {
                proofs.diverge(broken(walk.next_seq, why));
                unbroken = false;
                break 'log;
            }
            let Some(audit) = &mut decisions else { continue };
            let recorded = match stored.decode() {
                Ok(recorded) => recorded,
                Err(error) => {
                    // Of what follows nothing can be told without it.
                    proofs.diverge(unreadable(stored, &error));
                    decisions = None;
                    continue;
                }
            };
            steps += u64::from(matches!(recorded.event, Event::StepRecorded(_)));
            let (divergences, complete) = audit.fold(&recorded);
            divergences.into_iter().for_each(|divergence| proofs.diverge(divergence));
            executor.take(complete);
        }
        executor.execute_what_waits(&mut proofs)?;
    }
    if unbroken {
        if let Err(why) = walk.at_head(&head.chain, head.sealed) {
            proofs.diverge(broken(walk.next_seq, why));
        } else if !source.page(walk.next_seq)?.is_empty()
            // A run that goes on may have grown, and its head with it.
            && source.head()?.next_seq == walk.next_seq
        {
            proofs.diverge(broken(walk.next_seq, "there are events after the head"));
        }
    }
    if let Some(audit) = decisions {
        executor.take(audit.finish());
    }
    executor.execute(&mut proofs)?;
    Ok(Report::new(source.run(), level, (walk.next_seq, steps, head.sealed), proofs))
}

/// A place where the chain does not hold.
fn broken(seq: u64, why: &str) -> Divergence {
    Divergence {
        seq,
        step: None,
        plugin: "log".to_owned(),
        what: "chain".to_owned(),
        logged: why.to_owned(),
        found: "an event that does not follow from the one before it".to_owned(),
    }
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
