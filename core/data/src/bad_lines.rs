//! Why lines could not be used, counted by kind: what is commonest is what a person must mend, whatever
//! stray file comes first.

use serde::{Deserialize, Serialize};

/// Kinds that are told apart in one file; further ones are counted together.
const KINDS_MAX: usize = 16;

/// Lines, objects or files that could not be used for one kind of reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BadLines {
    /// The reason, less what differs from line to line.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// The first of them, in a sentence.
    pub first: String,
}

/// A reason less its details, so that equal faults count together.
pub(crate) fn kind_of(reason: &str) -> String {
    let end = reason.find([':', ';', '(']).unwrap_or(reason.len());
    let words = reason[..end].split_whitespace();
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    words.filter(|word| !is_number(word)).collect::<Vec<_>>().join(" ")
}

/// Counts more of a kind.
pub(crate) fn count(kinds: &mut Vec<BadLines>, more: BadLines) {
    let full = kinds.len() == KINDS_MAX;
    match kinds.iter_mut().find(|known| known.kind == more.kind) {
        Some(known) => known.count += more.count,
        None if full => kinds[KINDS_MAX - 1].count += more.count,
        None => kinds.push(more),
    }
}

/// The commonest kind; of equals the first.
pub(crate) fn commonest(kinds: &[BadLines]) -> Option<&BadLines> {
    kinds.iter().reduce(|most, kind| if kind.count > most.count { kind } else { most })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_one_kind_count_together_and_the_commonest_is_told() {
        let mut kinds = Vec::new();
        for (number, reason) in [
            "is not JSON: byte 3 should be a value",
            "has no body: it has text",
            "has no body: it has text, id",
            "has 70000000 bytes in which this tokenizer cannot be cut, more than 16777216",
            "has 80000000 bytes in which this tokenizer cannot be cut, more than 16777216",
            "has no body: it has id",
        ]
        .iter()
        .enumerate()
        {
            let first = format!("line {number} {reason}");
            count(&mut kinds, BadLines { kind: kind_of(reason), count: 1, first });
        }
        let counts: Vec<u64> = kinds.iter().map(|kind| kind.count).collect();
        assert_eq!(counts, [1, 3, 2]);
        assert_eq!(commonest(&kinds).unwrap().first, "line 1 has no body: it has text");
        for number in 0..100u8 {
            let kind = char::from(b'!' + number).to_string();
            count(&mut kinds, BadLines { first: kind.clone(), count: 1, kind });
        }
        assert_eq!((kinds.len(), kinds.iter().map(|kind| kind.count).sum::<u64>()), (16, 106));
    }
}
