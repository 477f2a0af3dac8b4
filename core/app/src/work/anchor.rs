//! Where a worker begins to read the log of a run that it takes up: at the newest checkpoint that is whole
//! and on the way to the log's end, with the run's state that was kept there. What came before is neither
//! read nor verified. Without such a state an older one serves, and the run's beginning at last.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use hm_domain::attempt::{ReturnPoint, way};
use hm_domain::event::*;
use hm_domain::id::{Digest, RunId};
use hm_domain::state::RunState;
use hm_store::{Store, StoredEvent};
use hm_train::Trainer;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::runtime::wait_for;
use crate::work::checkpoints::{Checkpoints, TakenUp};
use crate::work::run_states;
use crate::workplace::Workplace;

/// Where to begin, and with what.
pub(crate) struct Anchor {
    /// The state before the first event to be read.
    pub(crate) state: RunState,
    /// The first event to be verified, and the hash of the one before it.
    pub(crate) verified_from: (u64, Digest),
    /// The checkpoint that the trainer holds; none where it holds the run's first weights.
    pub(crate) taken_up: Option<TakenUp>,
    /// Newer ones that are not whole.
    pub(crate) passed_over: Vec<PassedOver>,
    /// Whether the run is a fork.
    pub(crate) is_fork: bool,
    /// Parts of the log that lead to its end.
    way: Vec<Range<u64>>,
}

/// A row of the checkpoints on record: its event's seq, and what that says.
pub(crate) type OnRecord = (u64, CheckpointSaved);

impl Anchor {
    /// Whether the event at `seq` led to where the run is: no rollback has left it behind.
    pub(crate) fn is_on_the_way(&self, seq: u64) -> bool {
        self.way.iter().any(|part| part.contains(&seq))
    }

    /// Loads the newest checkpoint that is whole, and finds the state to begin with.
    pub(crate) fn find(
        workplace: &Workplace,
        store: &Store,
        id: RunId,
        checkpoints: &mut Checkpoints,
        trainer: &mut Trainer,
    ) -> Result<Anchor> {
        let runtime = workplace.runtime.handle();
        let first = wait_for(runtime, store.read(id, 0, 1))?;
        let started = first.into_iter().next().context("the run has no events")?.event;
        let begun = RunState::start(&started)?;
        let on_record = on_record(runtime, store, id)?;
        let turns = wait_for(runtime, store.rollbacks(id))?;
        checkpoints.note_all(&on_record, &turns);
        let turns: Vec<(u64, u64)> = turns.iter().map(|(seq, begun, _)| (*seq, *begun)).collect();
        let way = way(&turns, u64::MAX);
        let leads_here =
            |(_, saved): &&OnRecord| way.iter().any(|part| part.contains(&saved.begun));
        let candidates: Vec<OnRecord> = on_record.iter().filter(leads_here).cloned().collect();
        let keep = begun.spec.checkpoint.keep as usize;
        let (taken_up, passed_over) =
            checkpoints.take_up(candidates.iter().cloned(), keep, trainer);
        let is_fork = matches!(&started, Event::RunStarted(RunStarted { parent: Some(_), .. }));
        say_what_is_passed_over(&passed_over, taken_up.as_ref(), is_fork);
        let mut anchor = Anchor {
            state: begun,
            verified_from: (0, Digest::ZERO),
            taken_up,
            passed_over,
            is_fork,
            way,
        };
        match &anchor.taken_up {
            None => load_parent(workplace, &started, trainer)?,
            Some(TakenUp { seq, .. }) => {
                let seq = *seq;
                let older = candidates.iter().filter(|(saved_at, _)| *saved_at <= seq);
                anchor.begin_at_newest(runtime, store, id, checkpoints.folder(), older)?;
            }
        }
        Ok(anchor)
    }

    /// Begins with the newest state that is kept as the log names it.
    fn begin_at_newest<'a>(
        &mut self,
        runtime: &Handle,
        store: &Store,
        id: RunId,
        folder: &Path,
        older: impl Iterator<Item = &'a OnRecord>,
    ) -> Result<()> {
        for (seq, saved) in older {
            let folder = folder.join(&saved.folder);
            if !folder.is_dir() {
                continue;
            }
            let point = return_point(runtime, store, id, (*seq, saved), &folder)?;
            let found = point.and_then(|Vouched { point, before, .. }| {
                let state = RunState::from_snapshot(&point.state);
                state.map(|state| (state, before)).map_err(|error| error.to_string())
            });
            match found {
                Ok((state, before)) => {
                    if state.spec != self.state.spec {
                        bail!(
                            "the log of run {id} is damaged at seq 0: its spec is not that of the state \
                             at seq {}",
                            saved.begun
                        );
                    }
                    (self.state, self.verified_from) = (state, (saved.begun, before));
                    return Ok(());
                }
                Err(reason) => eprintln!(
                    "the run state of step {} is passed over, and more of the log is read: {reason}",
                    saved.step
                ),
            }
        }
        Ok(())
    }
}

/// A place to go back to that the log vouches for.
pub(crate) struct Vouched {
    pub(crate) point: ReturnPoint,
    /// Hash of the event before its begin.
    pub(crate) before: Digest,
    /// Hash of the event that it was saved by.
    pub(crate) hash: Digest,
}

/// The checkpoint in `folder` as a place to go back to, if the log says of it what is on record: a row can
/// be changed, and whoever believed one would go on from weights that nobody trained. The weights are not
/// looked at.
pub(crate) fn return_point(
    runtime: &Handle,
    store: &Store,
    id: RunId,
    (seq, saved): (u64, &CheckpointSaved),
    folder: &Path,
) -> Result<Result<Vouched, String>> {
    let event = |seq| -> Result<Result<(StoredEvent, Event), String>> {
        let stored = wait_for(runtime, store.read_raw(id, seq, 1))?.into_iter().next();
        let Some(stored) = stored else { return Ok(Err(format!("there is no event {seq}"))) };
        let said = stored.decode().map_err(|error| format!("event {seq}: {error}"));
        Ok(said.map(|recorded| (stored, recorded.event)))
    };
    let vouched = |(by, saves): (StoredEvent, Event), (stored, begins): (StoredEvent, Event)| {
        if saves != Event::CheckpointSaved(saved.clone()) {
            return Err(format!(
                "event {seq} of run {id} saves another checkpoint than is on record: rebuild it with `hm db \
                 rebuild`"
            ));
        }
        let Event::CheckpointBegun(CheckpointBegun { state: digest, .. }) = begins else {
            return Err(format!("event {} begins no checkpoint", saved.begun));
        };
        let state = run_states::kept(folder, digest)?;
        let point = ReturnPoint { seq, saved: saved.clone(), digest, state };
        Ok(Vouched { point, before: stored.prev_hash, hash: by.hash })
    };
    let (by, begun) = (event(seq)?, event(saved.begun)?);
    Ok(by.and_then(|by| vouched(by, begun?)))
}

/// A fork without a checkpoint of its own begins with its parent's.
pub(crate) fn load_parent(
    workplace: &Workplace,
    started: &Event,
    trainer: &mut Trainer,
) -> Result<()> {
    let Event::RunStarted(RunStarted { parent: Some(parent), .. }) = started else { return Ok(()) };
    let Parent { run, checkpoint, .. } = parent;
    let folder = workplace.checkpoints_of(*run).join(&checkpoint.folder);
    trainer.load(&folder, checkpoint.digest).with_context(|| {
        format!(
            "the fork has no checkpoint of its own yet, and its parent's of step {} is not at hand: put \
             it back, or fork again",
            checkpoint.step
        )
    })?;
    Ok(())
}

/// All checkpoints on record, the newest first.
pub(crate) fn on_record(runtime: &Handle, store: &Store, id: RunId) -> Result<Vec<OnRecord>> {
    let rows = wait_for(runtime, store.checkpoints(id))?;
    rows.iter().map(on_record_as).collect()
}

fn on_record_as(row: &Value) -> Result<OnRecord> {
    let number = |column: &str| row[column].as_u64().with_context(|| format!("no {column}"));
    let text = |column: &str| row[column].as_str().with_context(|| format!("no {column}"));
    let saved = || -> Result<_> {
        let (step, begun, bytes) = (number("step")?, number("begun_seq")?, number("bytes")?);
        let (digest, folder) = (text("digest")?.parse()?, text("folder")?.to_owned());
        if Path::new(&folder).file_name() != Some(folder.as_ref()) {
            bail!("`{folder}` is not the name of a folder");
        }
        Ok((number("seq")?, CheckpointSaved { step, begun, digest, folder, bytes }))
    };
    saved().context("a checkpoint on record cannot be read: rebuild it with `hm db rebuild`")
}

fn say_what_is_passed_over(passed_over: &[PassedOver], taken_up: Option<&TakenUp>, is_fork: bool) {
    for PassedOver { step, reason, .. } in passed_over {
        eprintln!("the checkpoint of step {step} is passed over: {reason}");
    }
    match taken_up {
        _ if passed_over.is_empty() => {}
        Some(older) => eprintln!("the older one of step {} is whole", older.saved.step),
        None if is_fork => {
            eprintln!("no older one is whole: the log is trained again from its parent's")
        }
        None => eprintln!("no older one is whole: the log is trained again from step 0"),
    }
}
