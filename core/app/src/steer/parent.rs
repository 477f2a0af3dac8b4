//! What a fork says of its parent, held against the parent's own log where that is in the same database:
//! the event that its checkpoint was saved by, to the hash, and the state that the fork goes on from.

use anyhow::Result;
use hm_domain::audit::Divergence;
use hm_domain::event::*;
use hm_domain::id::{Digest, RunId};
use hm_store::StoredEvent;

use crate::steer::audit::source::Source;

/// What came of it, in a sentence, and what differs.
pub(crate) struct Parentage {
    pub(crate) said: String,
    pub(crate) differs: Option<Divergence>,
}

/// Asks about the parent in a run's first event; none where it has none.
pub(crate) fn parentage(source: &dyn Source) -> Result<Option<Parentage>> {
    let first = source.page(0)?.first().and_then(|first| first.decode().ok());
    let Some(Event::RunStarted(RunStarted { parent: Some(parent), .. })) =
        first.as_ref().map(|recorded| &recorded.event)
    else {
        return Ok(None);
    };
    let Parent { run, checkpoint, .. } = parent;
    let step = checkpoint.step;
    if !source.holds(*run)? {
        let said = format!(
            "forked from run {run} at step {step}, whose log is not at hand: what the fork went on from \
             is its own word"
        );
        return Ok(Some(Parentage { said, differs: None }));
    }
    let differs = differs(source, parent)?;
    let said = match &differs {
        None => format!(
            "forked from run {run} at step {step}: that log names the same checkpoint and state; audit it \
             too"
        ),
        Some(_) => format!("forked from run {run} at step {step}: that log says otherwise"),
    };
    Ok(Some(Parentage { said, differs }))
}

fn differs(source: &dyn Source, parent: &Parent) -> Result<Option<Divergence>> {
    let Parent { run, seq, hash, checkpoint, state } = parent;
    let saved = event_at(source, *run, *seq)?;
    let begun = event_at(source, *run, checkpoint.begun)?;
    let is_begun = |event: &Event| matches!(event, Event::CheckpointBegun(begun) if begun.state == Digest::of(state));
    let found = match (saved, begun) {
        (None, _) => ("parent", format!("{hash}"), format!("no whole event {seq}")),
        (Some((found, _)), _) if found != *hash => ("parent", hash.to_string(), found.to_string()),
        (Some((_, event)), _) if event != Event::CheckpointSaved(checkpoint.clone()) => {
            ("parent's checkpoint", format!("{checkpoint:?}"), format!("{event:?}"))
        }
        (_, Some((_, event))) if is_begun(&event) => return Ok(None),
        (_, begun) => {
            let found =
                begun.map_or("no whole event".to_owned(), |(_, event)| format!("{event:?}"));
            ("parent's state", Digest::of(state).to_string(), found)
        }
    };
    let (what, logged, found) = found;
    let (plugin, what) = ("host".to_owned(), what.to_owned());
    Ok(Some(Divergence { seq: 0, step: None, plugin, what, logged, found }))
}

/// An event of the parent's log and its hash, computed from what it holds; none where that is not the one
/// that it carries.
fn event_at(source: &dyn Source, run: RunId, seq: u64) -> Result<Option<(Digest, Event)>> {
    let stored = source.event_of(run, seq)?;
    let is_whole = |stored: &&StoredEvent| {
        stored.envelope.seq == seq
            && stored.envelope.hash(&stored.payload, &stored.prev_hash) == stored.hash
    };
    let Some(stored) = stored.as_ref().filter(is_whole) else { return Ok(None) };
    Ok(stored.decode().ok().map(|recorded| (stored.hash, recorded.event)))
}
