//! Gzip as `gzip -dc` reads it: members one behind the other, and zeros behind the last, as tapes and block
//! devices leave them.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result};

use flate2::bufread::GzDecoder;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 32 << 10;

/// The plain bytes of a packed stream.
pub(crate) enum Gzip<R: Read> {
    Member(Box<GzDecoder<BufReader<R>>>),
    Done,
}

impl<R: Read> Gzip<R> {
    pub(crate) fn new(packed: R) -> Gzip<R> {
        let packed = BufReader::with_capacity(PIECE_BYTES, packed);
        Gzip::Member(Box::new(GzDecoder::new(packed)))
    }
}

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            let Gzip::Member(decoder) = self else { return Ok(0) };
            let read = decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Gzip::Member(decoder) = std::mem::replace(self, Gzip::Done) else { return Ok(0) };
            let mut packed = decoder.into_inner();
            if has_more(&mut packed)? {
                *self = Gzip::Member(Box::new(GzDecoder::new(packed)));
            }
        }
    }
}

/// Whether another member follows.
fn has_more(packed: &mut impl BufRead) -> Result<bool> {
    let mut padded = false;
    loop {
        let rest = packed.fill_buf()?;
        let Some(zeros) = rest.iter().position(|byte| *byte != 0) else {
            if rest.is_empty() {
                return Ok(false);
            }
            padded = true;
            let length = rest.len();
            packed.consume(length);
            continue;
        };
        if padded || zeros > 0 {
            let words = "something follows the zeros behind the last gzip member";
            return Err(Error::new(ErrorKind::InvalidData, words));
        }
        return Ok(true);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(text: &str) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    }

    fn plain(packed: &[u8]) -> Result<String> {
        let mut plain = String::new();
        Gzip::new(packed).read_to_string(&mut plain).map(|_| plain)
    }

    #[test]
    fn members_are_joined_and_zeros_behind_them_are_the_end() {
        let two = [packed("one "), packed("two")].concat();
        assert_eq!(plain(&two).unwrap(), "one two");
        for zeros in [1, 512, 100_000] {
            assert_eq!(plain(&[two.clone(), vec![0; zeros]].concat()).unwrap(), "one two");
        }
        assert_eq!(plain(&[packed(""), packed("x")].concat()).unwrap(), "x");
    }

    #[test]
    fn what_is_no_member_behind_a_member_is_damage() {
        let one = packed("one");
        assert!(plain(&[&one[..], b"more"].concat()).is_err());
        assert!(plain(&[&one[..], &[0; 9], b"more"].concat()).is_err());
        assert!(plain(&one[..one.len() - 3]).is_err());
    }
}
