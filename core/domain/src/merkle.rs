//! The Merkle tree over a run's events, as RFC 6962 has it: one root for all, and a short path that shows
//! that one event is among them without the rest.
//!
//! A leaf is the hash of an event, which covers its bytes and all events before it. Segments of
//! [`SEGMENT_EVENTS`] are whole subtrees, so that the root follows from theirs.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::id::Digest;

/// Events of a segment: a power of two, so that the tree's splits fall between segments.
pub const SEGMENT_EVENTS: u64 = 4096;

/// A leaf's hash begins with this byte and a node's with another: neither can be taken for the other.
const LEAF: u8 = 0;
const NODE: u8 = 1;

/// Hash of a leaf, given the hash of its event.
pub fn leaf(event: &Digest) -> Digest {
    leaf_of(&event.0)
}

fn leaf_of(bytes: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update([LEAF]);
    hash.update(bytes);
    Digest(hash.finalize().into())
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update([NODE]);
    hash.update(left.0);
    hash.update(right.0);
    Digest(hash.finalize().into())
}

/// Root over leaves, or over the roots of segments, which must be whole but for the last. That of no leaf is
/// the hash of nothing.
pub fn root(hashes: &[Digest]) -> Digest {
    match hashes {
        [] => Digest::of(&[]),
        [one] => *one,
        _ => {
            let (left, right) = hashes.split_at(split(hashes.len()));
            node(&root(left), &root(right))
        }
    }
}

/// Leaves of a tree's left half: the largest power of two that leaves something to its right.
fn split(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}

/// Shows that a leaf is in a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// Place of the leaf.
    pub leaf: u64,
    /// Leaves of the tree.
    pub leaves: u64,
    /// Siblings on the way from the leaf to the root.
    pub siblings: Vec<Digest>,
}

/// Siblings of the leaf at `at` among `hashes` on its way to their root.
pub fn siblings(hashes: &[Digest], at: usize) -> Vec<Digest> {
    if hashes.len() <= 1 {
        return Vec::new();
    }
    let (left, right) = hashes.split_at(split(hashes.len()));
    let (mut path, other) = match at.checked_sub(left.len()) {
        None => (siblings(left, at), right),
        Some(at) => (siblings(right, at), left),
    };
    path.push(root(other));
    path
}

impl Path {
    /// The root that follows if this event is where the path says; none where the path is none.
    pub fn root(&self, event: &Digest) -> Option<Digest> {
        if self.leaf >= self.leaves {
            return None;
        }
        // RFC 9162, section 2.1.3.2.
        let (mut at, mut last, mut hash) = (self.leaf, self.leaves - 1, leaf(event));
        for sibling in &self.siblings {
            if last == 0 {
                return None;
            }
            if at % 2 == 1 || at == last {
                hash = node(sibling, &hash);
                while at.is_multiple_of(2) && at != 0 {
                    (at, last) = (at / 2, last / 2);
                }
            } else {
                hash = node(&hash, sibling);
            }
            (at, last) = (at / 2, last / 2);
        }
        (last == 0).then_some(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(count: u64) -> Vec<Digest> {
        (0..count).map(|seq| Digest::of(&seq.to_le_bytes())).collect()
    }

    fn leaves(count: u64) -> Vec<Digest> {
        events(count).iter().map(leaf).collect()
    }

    /// Leaves and roots that implementations of RFC 6962 are checked against.
    #[test]
    fn roots_are_those_of_other_implementations() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let leaves = leaves.map(leaf_of);
        let roots = [
            (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (5, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
            (7, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ];
        for (count, due) in roots {
            assert_eq!(root(&leaves[..count]).to_string(), due, "{count}");
        }
    }

    #[test]
    fn every_leaf_is_shown_to_be_in_a_tree_of_any_size_and_nothing_else_is() {
        for count in 0..70 {
            let leaves = leaves(count);
            let due = root(&leaves);
            for (at, event) in events(count).iter().enumerate() {
                let siblings = siblings(&leaves, at);
                let path = Path { leaf: at as u64, leaves: count, siblings };
                assert_eq!(path.root(event), Some(due), "{at} of {count}");
                assert_ne!(path.root(&Digest::ZERO), Some(due), "{at} of {count}");
                let elsewhere = Path { leaf: (at as u64 + 1) % count, ..path.clone() };
                assert!(count == 1 || elsewhere.root(event) != Some(due), "{at} of {count}");
                let mut longer = path.clone();
                longer.siblings.push(Digest::ZERO);
                assert_eq!(longer.root(event), None);
            }
        }
        let beyond = Path { leaf: 3, leaves: 3, siblings: Vec::new() };
        assert_eq!(beyond.root(&Digest::ZERO), None);
    }

    #[test]
    fn root_follows_from_the_roots_of_segments() {
        for count in [0_u64, 1, 7, 8, 9, 16, 23, 64, 65] {
            let leaves = leaves(count);
            let segments: Vec<Digest> = leaves.chunks(8).map(root).collect();
            assert_eq!(root(&segments), root(&leaves), "{count}");
        }
    }
}
