//! Events to bytes and back. The bytes of a (kind, version) are frozen once released: a change is a
//! new version and an upcast. Decoding always validates; the same event always gives the same bytes, and
//! only those are decoded.

mod frozen;
mod v1;

use hm_domain::event::Event;
use rkyv::rancor;

use crate::error::{Result, StoreError};
use frozen::Frozen;

/// The version that [`encode`] writes, for every kind.
pub const SCHEMA_VERSION: u16 = 1;

/// Kind of the event that ends a run: the database seals its stream with it.
pub(crate) const RUN_FINISHED: u16 = 15;

/// Whether events of this kind name plugins or kept states: bindings and what was kept of them.
pub(crate) fn names_bytes(kind: u16) -> bool {
    matches!(kind, 5 | 7)
}

/// Serializes with rkyv. A function of its own, because the bounds are long.
fn bytes<V>(value: &V) -> Vec<u8>
where
    V: for<'a> rkyv::Serialize<
            rkyv::api::high::HighSerializer<
                rkyv::util::AlignedVec,
                rkyv::ser::allocator::ArenaHandle<'a>,
                rancor::Error,
            >,
        >,
{
    // It fails only for values that refuse to be serialized, and none of ours does.
    rkyv::to_bytes::<rancor::Error>(value).expect("frozen types serialize").into_vec()
}

/// Each kind once: encoding is an exhaustive match, decoding goes by number.
macro_rules! kinds {
    ($($variant:ident = $kind:literal : $frozen:ident;)*) => {
        /// Kind, schema version and payload of an event. NaNs become canonical.
        pub fn encode(event: &Event) -> (u16, u16, Vec<u8>) {
            let payload = match event {
                $(Event::$variant(payload) => {
                    let frozen: v1::$frozen = payload.freeze();
                    bytes(&frozen)
                })*
            };
            (event.kind(), SCHEMA_VERSION, payload)
        }

        /// The event of a stored payload, brought up to today's types.
        pub fn decode(kind: u16, version: u16, payload: &[u8]) -> Result<Event> {
            let refuse = |message: String| StoreError::Undecodable { kind, version, message };
            match (kind, version) {
                $(($kind, 1) => {
                    // What the library says of bytes that are none of its own names nothing of ours.
                    let frozen = rkyv::from_bytes::<v1::$frozen, rancor::Error>(payload)
                        .map_err(|_| refuse("these bytes are no whole event of that kind".to_owned()))?;
                    let event = Event::$variant(Frozen::thaw(frozen));
                    // A valid archive may hold bytes that mean nothing, and a part of one may be
                    // valid by chance. An event has exactly one encoding, and no other is taken.
                    if encode(&event).2 != payload {
                        return Err(refuse("these bytes are not how it is written".to_owned()));
                    }
                    Ok(event)
                })*
                _ => Err(refuse("this program does not know them: use a newer one".to_owned())),
            }
        }
    };
}

kinds! {
    RunStarted = 1: RunStarted;
    StepRecorded = 2: StepRecorded;
    ValidationRecorded = 3: ValidationRecorded;
    MixtureSet = 4: MixtureSet;
    BindingChanged = 5: BindingChanged;
    BindingQuarantined = 6: BindingQuarantined;
    PluginStateSaved = 7: PluginStateSaved;
    CheckpointSaved = 8: CheckpointSaved;
    CheckpointFailed = 9: CheckpointFailed;
    CommandAnswered = 10: CommandAnswered;
    RunPaused = 11: RunPaused;
    RunContinued = 12: RunContinued;
    RunResumed = 13: RunResumed;
    RunInterrupted = 14: RunInterrupted;
    RunFinished = 15: RunFinished;
    PluginInstalled = 16: PluginInstalled;
    LearningRateSet = 17: LearningRateSet;
    BatchSizeSet = 18: BatchSizeSet;
    WeightsMeasured = 19: WeightsMeasured;
    MixtureLimited = 20: MixtureLimited;
    RolledBack = 21: RolledBack;
    CheckpointBegun = 22: CheckpointBegun;
}
