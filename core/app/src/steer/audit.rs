//! `hm audit`: the chain re-hashed, every event made again from the facts in it, every plugin call
//! executed again in parallel.

mod execute;
mod noted;
mod report;
pub(crate) mod source;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};
use hm_domain::audit::{DecisionAudit, Divergence, Proofs};
use hm_domain::chain::{Envelope, Walk};
use hm_domain::event::Recorded;
use hm_domain::id::Digest;
use hm_domain::plugin::Limits;
use hm_host::Host;
use hm_store::{Head, StoreError, StoredEvent};

use self::execute::Executor;
use self::noted::{Found, Noted};
pub(crate) use self::report::Report;
use self::report::Scope;
use self::source::{Logged, Source};
use crate::cli::{AuditArgs, HeldArgs};
use crate::prove::anchors::Anchor;
use crate::prove::archive::{self, Archived};
use crate::prove::attest::Audited;
use crate::prove::event_proof::EventProof;
use crate::prove::held::Anchors;
use crate::prove::key::{Key, named_or_own};
use crate::steer::audit_deeper::Deeper;
use crate::steer::audit_system;
use crate::steer::parent::parentage;
use crate::workplace::Workplace;

/// How deep an audit goes. Each level includes those before it, but `Views`, which no other asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Level {
    /// Re-hash every stored event.
    Chain,
    /// Make every event again from the facts in it, and execute every plugin call again.
    Decisions,
    /// Hold every row that people read against the log.
    Views,
    /// Draw every batch again from the prepared data.
    Data,
    /// Train stretches between checkpoints again.
    Training,
}

pub(crate) fn run(workplace: &Workplace, args: &AuditArgs) -> Result<u8> {
    let path = Path::new(&args.run);
    // A run may have the name of some file.
    if path.is_file() && (is_proof(path) || EventProof::read(path).is_ok()) {
        refuse_in_vain(args, "the proof of one event, which brings its own head")?;
        if let Some(head) = args.held.heads.first() {
            bail!("--head {head} is for a run: the proof of one event brings its own head");
        }
        return proof(workplace, path, args);
    }
    if audit_system::is_meant(&args.run) {
        refuse_in_vain(args, "the system stream, which has no signed heads")?;
        let store = workplace.store_to_read()?;
        let audited = audit_system::audit(&store, &args.held.heads);
        return workplace.runtime.block_on(audited)?.tell(args.json);
    }
    let source = open(workplace, &args.run)?;
    let anchors = anchors(workplace, path, &*source, args)?;
    let (mut report, plugins) = held_against(&anchors, &*source, args.level)?;
    // What a log gives that does not hold says nothing of its tables.
    if args.level == Level::Views && report.proofs.first.is_none() {
        report.hold_rows(&source.views()?);
    }
    let deeper = Deeper::of(workplace, &*source, args, &report)?;
    report.verdict = deeper.verdict(report.verdict);
    let whole = serde_json::to_value(Whole { report: &report, deeper: &deeper })?;
    if let Some((file, head)) = args.attest.as_deref().zip(report.head) {
        let (run, plugins) = (&report.run, &plugins);
        let engine = Host::new(Limits::default())?.fingerprint();
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

/// Refuses what would be asked in vain of what is no run: who types it believes that it was looked at.
fn refuse_in_vain(args: &AuditArgs, of: &str) -> Result<()> {
    let AuditArgs { held, attest, level, .. } = args;
    let typed = [
        ("--anchors", !held.anchors.is_empty()),
        ("--attest", attest.is_some()),
        ("--level", *level > Level::Decisions),
    ];
    match typed.iter().find(|(_, is_typed)| *is_typed) {
        Some((option, _)) => bail!("{option} is for a run, not for {of}: leave it out"),
        None => Ok(()),
    }
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
    level: Level,
) -> Result<(Report, BTreeSet<Digest>)> {
    let noted = Noted::new(source, anchors.seqs());
    let mut report = audit(&noted, level)?;
    let Found { hashes, last, plugins } = noted.found();
    report.head = last;
    report.hold(anchors.hold(&hashes));
    Ok((report, plugins))
}

/// What people name: the folder of an archive, which needs no database, or else a run in it.
pub(crate) fn open(workplace: &Workplace, named: &str) -> Result<Box<dyn Source>> {
    if let Some(archived) = Archived::at(Path::new(named))? {
        return Ok(Box::new(archived));
    }
    let store = workplace.store_to_read()?;
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

/// What an audit has come to.
#[derive(Default)]
struct Findings {
    /// Events that are not as they must be.
    events_diverged: u64,
    proofs: Proofs,
    /// Whether an event was met that says nothing: what follows is not judged.
    lost: bool,
}

impl Findings {
    fn diverge(&mut self, divergence: Divergence) {
        self.events_diverged += 1;
        self.proofs.note(divergence);
    }
}

/// Audits one run, as far as its head stands when this begins.
///
/// # Errors
/// When the log cannot be read, or bytes that it names are missing or others.
fn audit(source: &dyn Source, level: Level) -> Result<Report> {
    let head = source.head()?;
    let mut executor = Executor::new(source);
    let mut decisions = (level >= Level::Decisions).then(DecisionAudit::default);
    let (mut walk, mut found) = (Walk::default(), Findings::default());
    while walk.next_seq < head.next_seq {
        let page = source.page(walk.next_seq)?;
        let (begun, left) = (walk.next_seq, (head.next_seq - walk.next_seq) as usize);
        let walked = walk_past(&mut walk, page.get(..left).unwrap_or(&page));
        if let Some(audit) = &mut decisions {
            for stored in page.iter().take((walk.next_seq - begun) as usize) {
                fold(audit, stored, &mut executor, &mut found);
                executor.execute_what_waits(&mut found.proofs)?;
            }
        }
        if let Err(why) = walked {
            found.diverge(broken(walk.next_seq, why));
            break;
        }
    }
    let mut is_whole = walk.next_seq == head.next_seq;
    if is_whole && let Err(why) = at_the_head(source, &walk, &head)? {
        found.diverge(broken(walk.next_seq, why));
        is_whole = false;
    }
    let mut scope = Scope::of(decisions.as_ref(), walk.next_seq, head);
    if let Some(audit) = decisions {
        scope.claimed = audit.claimed();
        let (open, unfiled) = audit.finish();
        found.proofs.add(unfiled);
        executor.take(open);
    }
    executor.execute(&mut found.proofs)?;
    // Of a log that is broken nothing follows.
    let parent = if is_whole { parentage(source)? } else { None };
    if let Some(differs) = parent.as_ref().and_then(|parent| parent.differs.clone()) {
        found.diverge(differs);
    }
    scope.parent = parent.map(|parent| parent.said);
    Ok(Report::new(source.run(), level, scope, (found.events_diverged, found.proofs)))
}

/// Walks past a page, as far as the chain holds; there is one, since the head is further on.
fn walk_past(walk: &mut Walk, page: &[StoredEvent]) -> Result<(), &'static str> {
    if page.is_empty() {
        return Err("the event is missing");
    }
    page.iter().try_for_each(|stored| {
        walk.past(&stored.envelope, &stored.payload, (&stored.prev_hash, &stored.hash))
    })
}

/// What is wrong at the end of the log.
fn at_the_head(source: &dyn Source, walk: &Walk, head: &Head) -> Result<Result<(), &'static str>> {
    if let Err(why) = walk.at_head(&head.chain, head.sealed) {
        return Ok(Err(why));
    }
    // A run that goes on may have grown, and its head with it.
    let more = !source.page(walk.next_seq)?.is_empty();
    let beyond = more && source.head()?.next_seq == walk.next_seq;
    Ok(if beyond { Err("there are events after the head") } else { Ok(()) })
}

/// Holds one event against the rule, and files the plugin calls that it claims.
fn fold(
    audit: &mut DecisionAudit,
    stored: &StoredEvent,
    executor: &mut Executor<'_>,
    found: &mut Findings,
) {
    if found.lost {
        return;
    }
    match stored.decode() {
        Ok(recorded) => {
            let (divergences, complete) = audit.fold(&stored.envelope, &recorded.event);
            divergences.into_iter().for_each(|divergence| found.diverge(divergence));
            executor.take(complete);
        }
        // Of what follows nothing can be told without it.
        Err(error) => {
            found.diverge(unreadable(stored, &error));
            found.lost = true;
        }
    }
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
