//! How a domain value becomes its stored shape and comes back. Scalars, lists and options here; the
//! shapes themselves are in `v1`.

use hm_domain::id::{BindingId, Digest, RunId};

/// Maps a domain type to a frozen type `V` and back. Both ends are named at every field, so a changed
/// domain type does not compile until somebody decides what its stored form is.
pub(super) trait Frozen<V>: Sized {
    /// To the stored shape.
    fn freeze(&self) -> V;
    /// From the stored shape.
    fn thaw(frozen: V) -> Self;
}

macro_rules! same {
    ($($scalar:ty),*) => {
        $(impl Frozen<$scalar> for $scalar {
            fn freeze(&self) -> $scalar {
                self.clone()
            }
            fn thaw(frozen: $scalar) -> Self {
                frozen
            }
        })*
    };
}

same!(bool, u8, u32, u64, i64, String);

impl Frozen<f64> for f64 {
    fn freeze(&self) -> f64 {
        // One NaN: the processor's choice of sign and payload must not reach the hash.
        if self.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { *self }
    }
    fn thaw(frozen: f64) -> Self {
        frozen
    }
}

impl Frozen<[u8; 32]> for Digest {
    fn freeze(&self) -> [u8; 32] {
        self.0
    }
    fn thaw(frozen: [u8; 32]) -> Self {
        Digest(frozen)
    }
}

impl Frozen<[u8; 16]> for RunId {
    fn freeze(&self) -> [u8; 16] {
        *self.0.as_bytes()
    }
    fn thaw(frozen: [u8; 16]) -> Self {
        RunId(uuid::Uuid::from_bytes(frozen))
    }
}

impl Frozen<u32> for BindingId {
    fn freeze(&self) -> u32 {
        self.0
    }
    fn thaw(frozen: u32) -> Self {
        BindingId(frozen)
    }
}

impl<T: Frozen<V>, V> Frozen<V> for Box<T> {
    fn freeze(&self) -> V {
        (**self).freeze()
    }
    fn thaw(frozen: V) -> Self {
        Box::new(T::thaw(frozen))
    }
}

impl<T: Frozen<V>, V> Frozen<Vec<V>> for Vec<T> {
    fn freeze(&self) -> Vec<V> {
        self.iter().map(T::freeze).collect()
    }
    fn thaw(frozen: Vec<V>) -> Self {
        frozen.into_iter().map(T::thaw).collect()
    }
}

impl<T: Frozen<V>, V> Frozen<Option<V>> for Option<T> {
    fn freeze(&self) -> Option<V> {
        self.as_ref().map(T::freeze)
    }
    fn thaw(frozen: Option<V>) -> Self {
        frozen.map(T::thaw)
    }
}

impl<A: Frozen<V>, B: Frozen<W>, V, W> Frozen<(V, W)> for (A, B) {
    fn freeze(&self) -> (V, W) {
        (self.0.freeze(), self.1.freeze())
    }
    fn thaw(frozen: (V, W)) -> Self {
        (A::thaw(frozen.0), B::thaw(frozen.1))
    }
}
