//! Events to bytes and back. The bytes of a (kind, version) are frozen once released: a change is a
//! new version and an upcast. Decoding always validates; the same event always gives the same bytes, and
//! only those are decoded.

#[cfg(test)]
mod evolution;
mod frozen;
mod v1;

use hm_domain::event::Event;
use rkyv::rancor;

use crate::error::{Result, StoreError};
use frozen::Frozen;

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

/// Reads what [`bytes`] wrote. What the library says of bytes that are none of its own names nothing of ours.
fn whole<V>(payload: &[u8]) -> Result<V, &'static str>
where
    V: rkyv::Archive,
    V::Archived: for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, rancor::Error>>
        + rkyv::Deserialize<V, rkyv::api::high::HighDeserializer<rancor::Error>>,
{
    rkyv::from_bytes::<V, rancor::Error>(payload)
        .map_err(|_| "these bytes are no whole event of that kind")
}

/// What a payload was before its newest version: brought up to it, field by field, for ever.
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "every payload is in its first version; tests have older ones")
)]
trait Upcast<Newest> {
    /// The same as it is written today.
    fn upcast(self) -> Newest;
}

/// Each kind once, with the type and number of the version that is written, and those of older ones, which
/// are read: encoding is an exhaustive match, decoding goes by number.
macro_rules! kinds {
    ($($variant:ident = $kind:literal : $newest:ty as $version:literal
       $(, $(#[$when:meta])* $older:ty as $earlier:literal)*;)*) => {
        /// Kind, schema version and payload of an event. NaNs become canonical.
        pub fn encode(event: &Event) -> (u16, u16, Vec<u8>) {
            match event {
                $(Event::$variant(payload) => {
                    let frozen: $newest = payload.freeze();
                    ($kind, $version, bytes(&frozen))
                })*
            }
        }

        /// The event of a stored payload, brought up to today's types.
        pub fn decode(kind: u16, version: u16, payload: &[u8]) -> Result<Event> {
            let refuse = |message: &str| StoreError::Undecodable { kind, version, message: message.to_owned() };
            match (kind, version) {
                $(($kind, $version) => {
                    let frozen = whole::<$newest>(payload).map_err(refuse)?;
                    let event = Event::$variant(Frozen::thaw(frozen));
                    // A valid archive may hold bytes that mean nothing, and a part of one may be
                    // valid by chance. An event has exactly one encoding, and no other is taken.
                    if encode(&event).2 != payload {
                        return Err(refuse(ANOTHER_ENCODING));
                    }
                    Ok(event)
                })*
                $($($(#[$when])* ($kind, $earlier) => {
                    let frozen = whole::<$older>(payload).map_err(refuse)?;
                    let is_how_it_was_written = bytes(&frozen) == payload;
                    let newest: $newest = frozen.upcast();
                    let raised = bytes(&newest);
                    let event = Event::$variant(Frozen::thaw(newest));
                    if !is_how_it_was_written || encode(&event).2 != raised {
                        return Err(refuse(ANOTHER_ENCODING));
                    }
                    Ok(event)
                })*)*
                _ => Err(refuse("this program does not know them: use a newer one")),
            }
        }
    };
}

const ANOTHER_ENCODING: &str = "these bytes are not how it is written";

kinds! {
    RunStarted = 1: v1::RunStarted as 1;
    StepRecorded = 2: v1::StepRecorded as 1, #[cfg(test)] evolution::StepRecorded as 0;
    ValidationRecorded = 3: v1::ValidationRecorded as 1;
    MixtureSet = 4: v1::MixtureSet as 1;
    BindingChanged = 5: v1::BindingChanged as 1;
    BindingQuarantined = 6: v1::BindingQuarantined as 1;
    PluginStateSaved = 7: v1::PluginStateSaved as 1;
    CheckpointSaved = 8: v1::CheckpointSaved as 1;
    CheckpointFailed = 9: v1::CheckpointFailed as 1;
    CommandAnswered = 10: v1::CommandAnswered as 1;
    RunPaused = 11: v1::RunPaused as 1;
    RunContinued = 12: v1::RunContinued as 1;
    RunResumed = 13: v1::RunResumed as 1;
    RunInterrupted = 14: v1::RunInterrupted as 1, #[cfg(test)] evolution::RunInterrupted as 0;
    RunFinished = 15: v1::RunFinished as 1;
    PluginInstalled = 16: v1::PluginInstalled as 1;
    LearningRateSet = 17: v1::LearningRateSet as 1;
    BatchSizeSet = 18: v1::BatchSizeSet as 1;
    WeightsMeasured = 19: v1::WeightsMeasured as 1;
    MixtureLimited = 20: v1::MixtureLimited as 1;
    RolledBack = 21: v1::RolledBack as 1;
    CheckpointBegun = 22: v1::CheckpointBegun as 1;
}
