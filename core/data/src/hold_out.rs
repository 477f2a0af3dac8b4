//! Which documents are held out, and which are not trained on because they are.

use std::collections::{BTreeSet, HashSet};

use hm_domain::id::Digest;
use hm_domain::settings::Faults;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::reading::Document;
use crate::source::Split;

/// Validation documents by hash of their normalised text: exact duplicates fall on one side.
///
/// Decided per domain: one that has documents in sources with `split: validation` uses those; of every
/// other this share is held out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HoldOut {
    /// Share of documents held out; 0 for none.
    pub fraction: f64,
    /// Fewest held-out documents of such a domain; 0 where it may go without.
    pub minimum_documents: u64,
}

impl Default for HoldOut {
    fn default() -> Self {
        HoldOut { fraction: 0.0, minimum_documents: 1 }
    }
}

impl HoldOut {
    pub(crate) fn check(&self, faults: &mut Faults) {
        let holds = (0.0..1.0).contains(&self.fraction);
        let must = "must be at least 0 and below 1";
        faults.require(holds, "data.validation.fraction", self.fraction, must);
    }

    /// Whether a document with this draw is held out.
    pub(crate) fn holds_out(&self, draw: u64) -> bool {
        self.fraction > 0.0 && (draw as f64) < self.fraction * u64::MAX as f64
    }
}

/// What a text draws: evenly spread, the same for its copies.
fn draw(digest: &Digest) -> u64 {
    u64::from_le_bytes(digest.0[..8].try_into().expect("eight bytes"))
}

/// Digest of a text with runs of white space folded.
fn normalised(text: &str) -> Digest {
    let mut hash = Sha256::new();
    for (number, word) in text.split_whitespace().enumerate() {
        if number > 0 {
            hash.update(b" ");
        }
        hash.update(word.as_bytes());
    }
    Digest(hash.finalize().into())
}

/// What becomes of a document with text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// Trained on.
    Train,
    /// Validated on.
    HeldOut,
    /// Neither: its text is validated on already.
    Dropped,
}

/// Decides the side of every document of a corpus. Sources with `split: validation` are read first.
pub(crate) struct Sides<'a> {
    /// How much of what files do not name.
    pub(crate) hold_out: &'a HoldOut,
    /// Half a digest of every document of these sources: no two differ in text by chance.
    named_texts: HashSet<u128>,
    /// Domains that have such documents.
    named_domains: BTreeSet<String>,
}

impl<'a> Sides<'a> {
    pub(crate) fn new(hold_out: &'a HoldOut) -> Sides<'a> {
        Sides { hold_out, named_texts: HashSet::new(), named_domains: BTreeSet::new() }
    }

    /// Domains whose held-out documents come from files.
    pub(crate) fn named_domains(&self) -> &BTreeSet<String> {
        &self.named_domains
    }

    /// The side of a document of a source of this split. The same document has the same side at a second
    /// reading.
    pub(crate) fn side(&mut self, split: Split, document: &Document) -> Side {
        self.side_and_draw(split, document).0
    }

    /// The same, and what it drew where that decided.
    pub(crate) fn side_and_draw(
        &mut self,
        split: Split,
        document: &Document,
    ) -> (Side, Option<u64>) {
        let half = |digest: &Digest| {
            u128::from_le_bytes(digest.0[..16].try_into().expect("sixteen bytes"))
        };
        if split == Split::Validation {
            self.named_texts.insert(half(&normalised(&document.text)));
            if !self.named_domains.contains(&document.domain) {
                self.named_domains.insert(document.domain.clone());
            }
            return (Side::HeldOut, None);
        }
        let by_hash =
            self.hold_out.fraction > 0.0 && !self.named_domains.contains(&document.domain);
        if !by_hash && self.named_texts.is_empty() {
            return (Side::Train, None);
        }
        let digest = normalised(&document.text);
        if self.named_texts.contains(&half(&digest)) {
            return (Side::Dropped, None);
        }
        if !by_hash {
            return (Side::Train, None);
        }
        let draw = draw(&digest);
        let side = if self.hold_out.holds_out(draw) { Side::HeldOut } else { Side::Train };
        (side, Some(draw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(domain: &str, text: String) -> Document {
        Document { domain: domain.to_owned(), text, replaced: 0 }
    }

    #[test]
    fn duplicates_fall_on_one_side_and_the_fraction_is_kept() {
        let hold_out = HoldOut { fraction: 0.1, minimum_documents: 1 };
        let mut sides = Sides::new(&hold_out);
        let mut count = 0;
        for number in 0..2000 {
            let text = format!("document {number}");
            let spaced = document("a", format!("  {}\n", text.replace(' ', "\t ")));
            let side = sides.side(Split::Train, &document("a", text));
            assert_eq!(sides.side(Split::Train, &spaced), side);
            count += usize::from(side == Side::HeldOut);
        }
        assert!((140..260).contains(&count), "{count}");
    }

    #[test]
    fn text_of_named_validation_is_trained_on_nowhere() {
        let hold_out = HoldOut { fraction: 0.5, minimum_documents: 1 };
        let mut sides = Sides::new(&hold_out);
        let held = document("a", "the  same text".into());
        assert_eq!(sides.side(Split::Validation, &held), Side::HeldOut);
        for domain in ["a", "b"] {
            let copy = document(domain, "the same\ntext ".into());
            assert_eq!(sides.side(Split::Train, &copy), Side::Dropped);
        }
        let other = (0..50).map(|number| document("a", format!("text {number}")));
        for document in other {
            assert_eq!(sides.side(Split::Train, &document), Side::Train, "a is held out by file");
        }
    }
}
