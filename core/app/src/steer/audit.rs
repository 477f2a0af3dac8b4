//! `hm audit`: the chain re-hashed, every event made again from the facts in it, every plugin call
//! executed again in parallel.

mod execute;
mod noted;
mod report;
pub(crate) mod source;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use hm_domain::audit::{DecisionAudit, Divergence, Proofs};
use hm_domain::chain::{Envelope, Walk};
use hm_domain::event::{Event, Recorded};
use hm_domain::id::Digest;
use hm_domain::plugin::Limits;
use hm_host::Host;
use hm_store::{StoreError, StoredEvent};

use self::execute::Executor;
use self::noted::{Found, Noted};
pub(crate) use self::report::Report;
use self::source::{Logged, Source};
use crate::cli::{AuditArgs, HeldArgs};
use crate::prove::anchors::Anchor;
use crate::prove::archive::{self, Archived};
use crate::prove::attest::Audited;
use crate::prove::event_proof::EventProof;
use crate::prove::held::Anchors;
use crate::prove::key::{Key, named_or_own};
use crate::steer::audit_deeper::Deeper;
use crate::steer::parent::parentage;
use crate::workplace::Workplace;

/// How deep an audit goes. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Level {
    /// Re-hash every stored event.
    Chain,
    /// Execute every plugin call and every host rule again.
    Decisions,
    /// Draw every batch again from the prepared data.
    Data,
    /// Train stretches between checkpoints again.
    Training,
}

pub(crate) fn run(workplace: &Workplace, args: &AuditArgs) -> Result<u8> {
    let path = Path::new(&args.run);
    // A run may have the name of some file.
    if path.is_file() && (is_proof(path) || EventProof::read(path).is_ok()) {
        return proof(workplace, path, args);
    }
    let source = open(workplace, &args.run)?;
    let host = Host::new(Limits::default())?;
    let engine = host.fingerprint();
    let anchors = anchors(workplace, path, &*source, args)?;
    let (mut report, plugins) = held_against(&anchors, &*source, host, args.level)?;
    let deeper = Deeper::of(workplace, &*source, args, &report)?;
    report.verdict = deeper.verdict(report.verdict);
    let whole = serde_json::to_value(Whole { report: &report, deeper: &deeper })?;
    if let Some((file, head)) = args.attest.as_deref().zip(report.head) {
        let (run, plugins) = (&report.run, &plugins);
        let audited = Audited { run, head, plugins, engine, report: whole.clone() };
        workplace.make_data_dir()?;
        audited.write(&Key::of(&workplace.data_dir)?, file)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&whole)?);
    } else {
        report.print();
        deeper.print();
    }
    Ok(report.exit_code(args.strict).max(deeper.exit_code(args.strict)))
}

/// All of a report, as data.
#[derive(serde::Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(flatten)]
    deeper: &'a Deeper,
}

/// Audits one run, and holds its chain against heads that were kept elsewhere.
pub(crate) fn held_against(
    anchors: &Anchors,
    source: &dyn Source,
    host: Host,
    level: Level,
) -> Result<(Report, BTreeSet<Digest>)> {
    let noted = Noted::new(source, anchors.seqs());
    let mut report = audit(&noted, host, level)?;
    let Found { hashes, last, plugins } = noted.found();
    report.head = last;
    report.hold(anchors.hold(&hashes));
    if let Some(parentage) = parentage(source)? {
        report.descend(parentage);
    }
    Ok((report, plugins))
}

/// What people name: the folder of an archive, which needs no database, or else a run in it.
pub(crate) fn open(workplace: &Workplace, named: &str) -> Result<Box<dyn Source>> {
    if let Some(archived) = Archived::at(Path::new(named))? {
        return Ok(Box::new(archived));
    }
    let store = workplace.store()?;
    let run = workplace.find_run(&store, named)?.run_id;
    Ok(Box::new(Logged::new(&store, workplace.runtime.handle(), run)))
}

/// All that this audit is to hold the chain against; an archive comes with a head of its own.
fn anchors(
    workplace: &Workplace,
    path: &Path,
    source: &dyn Source,
    args: &AuditArgs,
) -> Result<Anchors> {
    let HeldArgs { heads, anchors: files, key } = &args.held;
    let mut anchors = Anchors::gather(&workplace.data_dir, source.run(), heads, files, *key)?;
    let signed = path.join(archive::HEAD);
    if signed.is_file() {
        anchors.add_signed(&workplace.data_dir, source.run(), &signed, *key)?;
    }
    Ok(anchors)
}

/// Whether a file must be a proof, by its name.
fn is_proof(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "proof")
}

/// Checks the proof of one event, and shows the event.
fn proof(workplace: &Workplace, file: &Path, args: &AuditArgs) -> Result<u8> {
    let proof = EventProof::read(file)?;
    let key = named_or_own(&workplace.data_dir, args.held.key)?;
    let (recorded, anchor) = match proof.check(&key) {
        Ok(shown) => shown,
        Err(error) => {
            let claims = proof.key_id().map_or("nobody".to_owned(), |id| id.to_string());
            eprintln!("hm: {}: {error}; it claims to be signed by {claims}", file.display());
            return Ok(1);
        }
    };
    let Anchor { run, head, root } = anchor;
    let Recorded { seq, attempt, recorded_at, event } = recorded;
    if args.json {
        let shown = serde_json::json!({
            "run": run, "head": head, "root": root, "signed_by": key.id(),
            "seq": seq, "attempt": attempt, "recorded_at": recorded_at, "event": event,
        });
        println!("{}", serde_json::to_string_pretty(&shown)?);
    } else {
        println!("event {seq} is in the log of run {run} up to {head}, signed by key {}", key.id());
        println!("{}", serde_json::to_string_pretty(&event)?);
    }
    Ok(0)
}

/// Audits one run, as far as its head stands when this begins.
fn audit(source: &dyn Source, host: Host, level: Level) -> Result<Report> {
    let head = source.head()?;
    let mut executor = Executor::new(source, host);
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
