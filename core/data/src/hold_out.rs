//! Which documents are held out where no file says so.

use hm_domain::id::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};

/// Validation documents by hash of their normalised text: exact duplicates fall on one side.
///
/// Decided per domain: one that has documents in sources with `split: validation` uses those; of every
/// other this share is held out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HoldOut {
    /// Share of documents held out; 0 for none.
    pub fraction: f64,
    /// Fewest held-out documents of such a domain.
    pub minimum_documents: u64,
}

impl Default for HoldOut {
    fn default() -> Self {
        HoldOut { fraction: 0.0, minimum_documents: 1 }
    }
}

impl HoldOut {
    pub(crate) fn check(&self) -> Result<()> {
        if (0.0..1.0).contains(&self.fraction) {
            return Ok(());
        }
        Err(DataError::Setting {
            name: "data.validation.fraction",
            value: self.fraction.to_string(),
            must: "must be at least 0 and below 1",
        })
    }

    /// Decided by the text alone, runs of white space folded.
    pub(crate) fn holds_out(&self, text: &str) -> bool {
        if self.fraction <= 0.0 {
            return false;
        }
        let normalised = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let digest = Digest::of(normalised.as_bytes());
        let value = u64::from_le_bytes(digest.0[..8].try_into().expect("eight bytes"));
        (value as f64) < self.fraction * u64::MAX as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_fall_on_one_side_and_the_fraction_is_kept() {
        let hold_out = HoldOut { fraction: 0.1, minimum_documents: 1 };
        let texts: Vec<String> = (0..2000).map(|number| format!("document {number}")).collect();
        let count = texts.iter().filter(|text| hold_out.holds_out(text)).count();
        assert!((140..260).contains(&count), "{count}");
        for text in &texts {
            let spaced = format!("  {}\n", text.replace(' ', "\t "));
            assert_eq!(hold_out.holds_out(text), hold_out.holds_out(&spaced));
        }
    }

    #[test]
    fn fractions_that_leave_nothing_are_refused_with_their_value() {
        for fraction in [-0.1, 1.0, f64::NAN] {
            let refused = HoldOut { fraction, minimum_documents: 1 }.check().unwrap_err();
            let sentence =
                format!("data.validation.fraction is {fraction}: must be at least 0 and below 1");
            assert_eq!(refused.to_string(), sentence);
        }
    }
}
