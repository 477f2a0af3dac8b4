//! Events made of the state before them and of *facts*: what a trainer, a plugin, a person or a machine
//! said. Live training and audits make them here, so whatever is no fact follows.

mod binding;
mod step;

pub use self::binding::FirstState;
pub(crate) use self::binding::{bound, released};
pub use self::step::{Answer, StepFacts, StepMade, step};
use crate::calls;
use crate::event::*;
use crate::id::Digest;
use crate::parameter_kind::kinds;
use crate::state::RunState;
use crate::step::{LossSums, canonical};

/// A validation at this boundary; of `sums` the tokens follow from what is held out.
pub fn validation(state: &RunState, sums: &[LossSums]) -> ValidationRecorded {
    let held_out = state.spec.domains.iter().zip(sums).map(|(domain, sums)| {
        let length = u64::from(state.spec.model.sequence_length).max(1);
        let wanted = u64::from(state.spec.validation.sequences_per_domain) * length + 1;
        let tokens = domain.validation.as_ref().map_or(0, |held_out| held_out.tokens);
        // The last token of all is only looked at.
        let sequences = tokens.min(wanted).saturating_sub(1) / length;
        sums_of(sums, sequences * length)
    });
    ValidationRecorded { step: state.next_step, losses: held_out.collect() }
}

/// Sums over so many tokens: nothing is lost over none.
fn sums_of(said: &LossSums, tokens: u64) -> LossSums {
    if tokens == 0 {
        return LossSums::default();
    }
    LossSums { tokens, ..said.canonical() }
}

/// The weights after the next step, kind by kind as the model has them; nothing where no plugin is to
/// see them.
pub fn weights(state: &RunState, said: &[KindState]) -> Option<WeightsMeasured> {
    let of = |(index, (kind, layers)): (usize, (&str, usize))| {
        let said = said.get(index);
        let values = |pick: fn(&KindState) -> &Vec<f64>| {
            let values = said.map(pick).map_or(&[][..], Vec::as_slice);
            (0..layers).map(|layer| values.get(layer).copied().map_or(0.0, canonical)).collect()
        };
        let (std, norm) = (values(|kind| &kind.std), values(|kind| &kind.norm));
        KindState { kind: kind.to_owned(), std, norm }
    };
    let kinds = kinds(&state.spec.model).enumerate().map(of).collect();
    calls::weights_due(state).then_some(WeightsMeasured { step: state.next_step, kinds })
}

/// A checkpoint of the run as it was at seq `begun`, before `step`.
pub fn checkpoint(
    state: &RunState,
    (begun, step): (u64, u64),
    (digest, bytes): (Digest, u64),
) -> CheckpointSaved {
    let folder = crate::checkpoint::folder_name(state.attempt, step, &digest);
    CheckpointSaved { step, begun, digest, folder, bytes }
}
