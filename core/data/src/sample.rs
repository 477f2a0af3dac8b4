//! Some of the text, of every domain and file, from anywhere in it.
//!
//! A quarter of the sample is dealt out evenly: a domain gives its equal part of that, or all it has, so that
//! a small one has a voice in the vocabulary. The rest is given in proportion to what domains hold.
//!
//! Text is cut into pieces, and a piece is kept if the hash of its place is small enough; when too much is
//! kept, fewer hashes are small enough, though never so few that a domain falls below its part. So the sample
//! depends on the text alone, takes as much memory as it may and no more, and needs no size beforehand, which
//! packed files do not tell.

use std::collections::BTreeMap;

use hm_domain::id::Digest;

/// Bytes of a piece at most.
const PIECE_BYTES: usize = 4 << 10;
/// The part of the sample that is dealt out evenly is one in so many.
const EVEN_PART: usize = 4;

struct Piece {
    hash: u64,
    order: u64,
    text: String,
}

/// What is kept of a domain.
struct Kept {
    pieces: Vec<Piece>,
    bytes: usize,
    /// Hashes up to this are kept.
    threshold: u64,
}

impl Kept {
    /// Lowers its threshold to `threshold`, or as far as `floor` bytes stay.
    fn thin_out(&mut self, threshold: u64, floor: usize) {
        while self.threshold > threshold {
            let lower = self.threshold / 2;
            let stays = self.pieces.iter().filter(|piece| piece.hash <= lower);
            let bytes = stays.map(|piece| piece.text.len()).sum();
            if bytes < floor {
                return;
            }
            self.pieces.retain(|piece| piece.hash <= lower);
            (self.threshold, self.bytes) = (lower, bytes);
        }
    }
}

/// A sample while text goes by.
pub(crate) struct Sample {
    bytes_max: usize,
    bytes: usize,
    domains: BTreeMap<String, Kept>,
    /// That of every domain with more than its part.
    threshold: u64,
    seen: u64,
}

impl Sample {
    /// One of at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: u64) -> Sample {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX / 4);
        Sample { bytes_max, bytes: 0, domains: BTreeMap::new(), threshold: u64::MAX, seen: 0 }
    }

    /// Offers a document.
    pub(crate) fn offer(&mut self, domain: &str, text: &str) {
        if !self.domains.contains_key(domain) {
            let kept = Kept { pieces: Vec::new(), bytes: 0, threshold: u64::MAX };
            self.domains.insert(domain.to_owned(), kept);
        }
        for piece in pieces(text) {
            let hash = hash(self.seen);
            let order = self.seen;
            self.seen += 1;
            // One piece of each of so many domains is all that there is room for.
            let is_over = self.threshold == 0 && self.is_full();
            let kept = self.domains.get_mut(domain).expect("inserted above");
            if hash > kept.threshold || is_over {
                continue;
            }
            kept.pieces.push(Piece { hash, order, text: piece.to_owned() });
            kept.bytes += piece.len();
            self.bytes += piece.len();
            while self.is_full() && self.threshold > 0 {
                self.thin_out();
            }
        }
    }

    fn is_full(&self) -> bool {
        self.bytes > self.bytes_max.saturating_mul(2)
    }

    /// What a domain gives whatever its size, if it has as much.
    fn floor(&self) -> usize {
        self.bytes_max / EVEN_PART / self.domains.len().max(1)
    }

    fn thin_out(&mut self) {
        self.threshold /= 2;
        let (threshold, floor) = (self.threshold, self.floor().max(1));
        self.domains.values_mut().for_each(|kept| kept.thin_out(threshold, floor));
        self.bytes = self.domains.values().map(|kept| kept.bytes).sum();
    }

    /// Domains and texts, in the order in which they came.
    pub(crate) fn finish(self) -> Vec<(String, String)> {
        let floor = self.floor();
        let (mut all, mut left) = (Vec::new(), self.bytes_max);
        for (domain, mut kept) in self.domains {
            kept.pieces.sort_by_key(|piece| (piece.hash, piece.order));
            let mut part = floor;
            for piece in kept.pieces {
                let given = part.min(piece.text.len());
                part -= given;
                left -= given;
                all.push((domain.clone(), piece, given));
            }
        }
        all.sort_by_key(|(_, piece, _)| (piece.hash, piece.order));
        for (_, piece, given) in &mut all {
            let more = left.min(piece.text.len() - *given);
            left -= more;
            piece.text.truncate(piece.text.floor_char_boundary(*given + more));
        }
        all.retain(|(_, piece, _)| !piece.text.is_empty());
        all.sort_by_key(|(_, piece, _)| piece.order);
        all.into_iter().map(|(domain, piece, _)| (domain, piece.text)).collect()
    }
}

/// Hash of a piece's place.
fn hash(order: u64) -> u64 {
    let mut bytes = b"heurimentor.sample.v1\0".to_vec();
    bytes.extend(order.to_le_bytes());
    u64::from_le_bytes(Digest::of(&bytes).0[..8].try_into().expect("eight bytes"))
}

/// A text in pieces, cut behind white space where there is any.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let mut end = text.floor_char_boundary(PIECE_BYTES);
        if end < text.len()
            && let Some(blank) =
                text[..end].rfind(|character: char| character.is_ascii_whitespace())
        {
            end = blank + 1;
        }
        let piece;
        (piece, text) = text.split_at(end);
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_by_domain(sample: Sample) -> BTreeMap<String, usize> {
        let mut bytes = BTreeMap::new();
        for (domain, text) in sample.finish() {
            *bytes.entry(domain).or_default() += text.len();
        }
        bytes
    }

    #[test]
    fn domains_give_about_in_proportion_to_their_size_however_they_come() {
        for documents in [30, 3000] {
            let mut sample = Sample::new(100_000);
            for (domain, bytes) in [("small", 300_000), ("large", 2_700_000)] {
                let text = "some words of it ".repeat(bytes / 17 / documents);
                (0..documents).for_each(|_| sample.offer(domain, &text));
            }
            let bytes = bytes_by_domain(sample);
            let all: usize = bytes.values().sum();
            assert!((90_000..=100_000).contains(&all), "{bytes:?}");
            assert!((3_000..20_000).contains(&bytes["small"]), "{documents}: {bytes:?}");
        }
    }

    #[test]
    fn a_rare_domain_gives_its_part_wherever_it_stands() {
        let (large, rare) = ("some words of it ".repeat(500), "rare of old ".repeat(300));
        for place in [0, 500, 2000, 4980] {
            let mut sample = Sample::new(200_000);
            for number in 0..5000 {
                sample.offer(if number % 2 == 0 { "a" } else { "b" }, &large);
                if (place..place + 20).contains(&number) {
                    sample.offer("rare", &rare);
                }
                assert!(sample.bytes <= 400_000 + PIECE_BYTES);
            }
            let bytes = bytes_by_domain(sample);
            // 72,000 bytes of 42 million: a third of a quarter, where size alone gives 340.
            assert!((16_600..40_000).contains(&bytes["rare"]), "{place}: {bytes:?}");
            let all: usize = bytes.values().sum();
            assert!((190_000..=200_000).contains(&all), "{bytes:?}");
        }
    }

    #[test]
    fn domains_beyond_number_leave_memory_bounded_and_every_early_one_a_word() {
        let mut sample = Sample::new(10_000);
        let text = "word ".repeat(200);
        (0..3000).for_each(|number| sample.offer(&format!("d{}", number % 1000), &text));
        assert!(sample.bytes <= 20_000 + PIECE_BYTES, "{}", sample.bytes);
        assert!(sample.finish().len() >= 10);
    }

    #[test]
    fn a_file_gives_from_its_end_as_from_its_start() {
        let mut sample = Sample::new(20_000);
        (0..10_000).for_each(|number| sample.offer("a", &format!("{number:08} and more of it")));
        let places: Vec<usize> =
            sample.finish().iter().map(|(_, text)| text[..8].parse().unwrap()).collect();
        assert!(places.is_sorted());
        for tenth in 0..10 {
            let count = places.iter().filter(|place| **place / 1000 == tenth).count();
            assert!((50..150).contains(&count), "{tenth}: {count}");
        }
    }

    #[test]
    fn what_fits_is_all_there_and_memory_is_bounded() {
        let mut sample = Sample::new(1000);
        sample.offer("a", "数据混合");
        sample.offer("a", &"long ".repeat(1_000_000));
        assert!(sample.bytes <= 2000 + PIECE_BYTES, "{}", sample.bytes);
        let mut sample = Sample::new(1000);
        sample.offer("a", "one");
        sample.offer("b", "two");
        let all = [("a", "one"), ("b", "two")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(sample.finish(), all);
        let mut sample = Sample::new(7);
        sample.offer("a", "数据混合");
        assert_eq!(sample.finish(), [("a".to_owned(), "数据".to_owned())], "between characters");
    }
}
