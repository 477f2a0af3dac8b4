//! A run's state as bytes: kept beside a checkpoint so that a run is taken up from there, and carried by
//! the events that go back to one. The log holds their digest, so equal states give equal bytes on any
//! machine: fields by name in their order, floats by their bits.

use crate::id::Digest;
use crate::state::RunState;
use crate::whole;

/// First byte: how the rest is written.
const FORMAT: u8 = 1;

/// Bytes of a state at most: a thousand observations of a run with many domains are some megabytes.
pub const SNAPSHOT_BYTES_MAX: usize = 64 << 20;

/// Bytes that are no state.
#[derive(Debug, thiserror::Error)]
pub enum NotASnapshot {
    /// Of another program.
    #[error("the run state is written in format {0}, this program reads format {FORMAT}")]
    Format(u8),
    /// Not even a format.
    #[error("the run state is empty")]
    Empty,
    /// More than anybody writes.
    #[error("the run state has {0} bytes: at most {SNAPSHOT_BYTES_MAX} are read")]
    TooLarge(usize),
    /// Not a state in that format.
    #[error("the run state cannot be read: {0}")]
    Unreadable(#[from] rmp_serde::decode::Error),
    /// A state written in another way than ours.
    #[error("the run state is not how it is written")]
    Uncommon,
    /// A state that no fold makes, and nothing can follow upon.
    #[error(
        "the run state cannot be gone on from, since it must have {0}: take another checkpoint's"
    )]
    Impossible(String),
}

impl RunState {
    /// The state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        let mut writer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
        serde::Serialize::serialize(self, &mut writer).expect("a state is plain data");
        bytes
    }

    /// Digest of the state: what [`CheckpointBegun`](crate::event::CheckpointBegun) says of it.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.snapshot())
    }

    /// The state of such bytes. Only the one way to write a state is read, and only one that a fold can go on
    /// from: whoever has it need not look again.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_snapshot(bytes: &[u8]) -> Result<RunState, NotASnapshot> {
        if bytes.len() > SNAPSHOT_BYTES_MAX {
            return Err(NotASnapshot::TooLarge(bytes.len()));
        }
        let (format, written) = bytes.split_first().ok_or(NotASnapshot::Empty)?;
        if *format != FORMAT {
            return Err(NotASnapshot::Format(*format));
        }
        let state: RunState = rmp_serde::from_slice(written)?;
        if state.snapshot() != bytes {
            return Err(NotASnapshot::Uncommon);
        }
        match whole::wrong(&state) {
            Some(wrong) => Err(NotASnapshot::Impossible(wrong)),
            None => Ok(state),
        }
    }
}
