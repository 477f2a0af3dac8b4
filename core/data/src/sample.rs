//! Some of the text, of every domain and file in proportion to what it holds, from anywhere in it.
//!
//! Text is cut into pieces, and a piece is kept if the hash of its place is small enough; when too much is
//! kept, fewer hashes are small enough. So the sample depends on the text alone, takes as much memory as it
//! may and no more, and needs no size beforehand, which packed files do not tell.

use hm_domain::id::Digest;

/// Bytes of a piece at most.
const PIECE_BYTES: usize = 4 << 10;

struct Piece {
    hash: u64,
    order: u64,
    domain: String,
    text: String,
}

/// A sample while text goes by.
pub(crate) struct Sample {
    bytes_max: usize,
    bytes: usize,
    pieces: Vec<Piece>,
    /// Hashes below this are kept.
    threshold: u64,
    seen: u64,
}

impl Sample {
    /// One of at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: u64) -> Sample {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX / 4);
        Sample { bytes_max, bytes: 0, pieces: Vec::new(), threshold: u64::MAX, seen: 0 }
    }

    /// Offers a document.
    pub(crate) fn offer(&mut self, domain: &str, text: &str) {
        for piece in pieces(text) {
            let hash = hash(self.seen);
            let order = self.seen;
            self.seen += 1;
            if hash > self.threshold {
                continue;
            }
            self.bytes += piece.len();
            let (domain, text) = (domain.to_owned(), piece.to_owned());
            self.pieces.push(Piece { hash, order, domain, text });
            while self.bytes > self.bytes_max.saturating_mul(2) && self.pieces.len() > 1 {
                self.thin_out();
            }
        }
    }

    fn thin_out(&mut self) {
        self.threshold /= 2;
        let (threshold, bytes) = (self.threshold, &mut self.bytes);
        self.pieces.retain(|piece| {
            let stays = piece.hash <= threshold;
            *bytes -= if stays { 0 } else { piece.text.len() };
            stays
        });
    }

    /// Domains and texts, in the order in which they came.
    pub(crate) fn finish(mut self) -> Vec<(String, String)> {
        self.pieces.sort_by_key(|piece| (piece.hash, piece.order));
        let mut left = self.bytes_max;
        for piece in &mut self.pieces {
            piece.text.truncate(piece.text.floor_char_boundary(left));
            left -= piece.text.len();
        }
        self.pieces.retain(|piece| !piece.text.is_empty());
        self.pieces.sort_by_key(|piece| piece.order);
        self.pieces.into_iter().map(|piece| (piece.domain, piece.text)).collect()
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
    use std::collections::BTreeMap;

    use super::*;

    fn bytes_by_domain(sample: Sample) -> BTreeMap<String, usize> {
        let mut bytes = BTreeMap::new();
        for (domain, text) in sample.finish() {
            *bytes.entry(domain).or_default() += text.len();
        }
        bytes
    }

    #[test]
    fn every_domain_gives_in_proportion_to_its_size_however_it_comes() {
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
