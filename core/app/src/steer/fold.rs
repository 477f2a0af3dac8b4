//! A log folded event by event for the levels of an audit that look beyond it.

use anyhow::{Context, Result};
use hm_domain::event::Recorded;
use hm_domain::state::RunState;

use crate::steer::audit::source::Source;

/// Gives every event after the first to `each`, with the run's state before it. The log must be one that an
/// audit has found in order. Returns the state at its end.
pub(crate) fn fold(
    source: &dyn Source,
    each: &mut dyn FnMut(&RunState, &Recorded) -> Result<()>,
) -> Result<RunState> {
    let end = source.head()?.next_seq;
    let mut state: Option<RunState> = None;
    let mut next_seq = 0;
    while next_seq < end {
        let page = source.page(next_seq)?;
        let last = page.last().context("the log ends before its head: audit it at level chain")?;
        let after = last.envelope.seq + 1;
        for stored in page.iter().filter(|stored| stored.envelope.seq < end) {
            let recorded = stored.decode()?;
            match &mut state {
                None => state = Some(RunState::start(&recorded.event)?),
                Some(state) => {
                    each(state, &recorded)?;
                    state.apply(&recorded.event);
                }
            }
        }
        next_seq = after;
    }
    state.context("the run has no events")
}
