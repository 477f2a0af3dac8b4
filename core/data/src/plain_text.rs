//! Plain text files, one document each; one that is longer than memory should hold is several.

use std::io::Read;

use crate::corpus_file::CorpusFile;
use crate::error::Result;
use crate::json_object::not_utf8;
use crate::reading::{DOCUMENT_BYTES_MAX, Document, Reading, Unusable};

/// Reads a file as one document. Half a document is none.
pub(crate) fn read(domain: &str, file: &mut CorpusFile, reading: &mut Reading<'_>) -> Result<()> {
    read_in_parts(domain, file, reading, DOCUMENT_BYTES_MAX)
}

/// Divides what is longer than `bytes_max`, such as a whole encyclopedia in one file: at the end of a line
/// where the last quarter of a part has one, else at a blank, else between two characters.
fn read_in_parts(
    domain: &str,
    file: &mut CorpusFile,
    reading: &mut Reading<'_>,
    bytes_max: usize,
) -> Result<()> {
    let mut bytes = Vec::new();
    let mut parts = 0;
    loop {
        let wanted = (bytes_max + 1 - bytes.len()) as u64;
        if let Err(error) = (&mut file.stream).take(wanted).read_to_end(&mut bytes) {
            let damage = file.damage(error)?;
            return reading.cut(damage);
        }
        let is_last = bytes.len() <= bytes_max;
        if is_last && parts > 0 && bytes.is_empty() {
            break;
        }
        let rest = if is_last { Vec::new() } else { bytes.split_off(end_of_part(&bytes)) };
        let document = String::from_utf8(bytes)
            .map(|text| Document { domain: domain.to_owned(), text, replaced: 0 })
            .map_err(|error| Unusable::Bad(not_utf8(error.utf8_error())));
        bytes = rest;
        parts += 1;
        let go_on = reading.offer(format_args!(""), document)?;
        if is_last {
            // Nothing follows: whether more is wanted does not matter.
            reading.ended_early = false;
            break;
        }
        if go_on.is_break() {
            break;
        }
    }
    reading.report.divided = if parts > 1 { parts } else { 0 };
    Ok(())
}

/// Where a part ends of which these are the bytes, and the first ones of the next.
fn end_of_part(bytes: &[u8]) -> usize {
    let from = bytes.len() * 3 / 4;
    let last = |is_end: fn(u8) -> bool| {
        bytes[from..].iter().rposition(|byte| is_end(*byte)).map(|place| from + place + 1)
    };
    let between_characters = || {
        let begins = |place: &usize| bytes[*place] & 0xc0 != 0x80;
        // Bytes that are no UTF-8 are told as such wherever they are divided.
        (1..bytes.len()).rev().take(4).find(begins).unwrap_or(bytes.len() - 1)
    };
    last(|byte| byte == b'\n')
        .or_else(|| last(|byte| byte == b' '))
        .unwrap_or_else(between_characters)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::reading::{Manner, OnBadLine, ReadReport};

    /// Texts of the parts of a file, and what its reading came to.
    fn parts(text: &[u8], bytes_max: usize) -> (Vec<String>, ReadReport) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, text).unwrap();
        let mut file = CorpusFile::open(&path).unwrap();
        let mut texts = Vec::new();
        let mut take = |document: Document, _: u64| {
            texts.push(document.text);
            Ok(ControlFlow::Continue(()))
        };
        let manner = Manner { on_bad: OnBadLine::Skip, stop: &|| false, bytes_max: u64::MAX };
        let mut reading = Reading {
            path: &path,
            report: ReadReport::default(),
            manner,
            position: file.position(),
            take: &mut take,
            ended_early: false,
        };
        read_in_parts("a", &mut file, &mut reading, bytes_max).unwrap();
        let report = reading.report;
        (texts, report)
    }

    #[test]
    fn long_text_is_divided_at_ends_of_lines_and_nothing_of_it_is_lost() {
        let text = "a line of it\n".repeat(50);
        let (texts, report) = parts(text.as_bytes(), 100);
        assert_eq!(texts.concat(), text);
        assert!(texts.iter().all(|part| part.ends_with('\n') && part.len() <= 100), "{texts:?}");
        assert_eq!((report.divided, report.documents), (texts.len() as u64, texts.len() as u64));
        let (texts, report) = parts(text.as_bytes(), text.len());
        assert_eq!((texts.len(), report.divided), (1, 0), "what fits is one document");
    }

    #[test]
    fn text_of_one_line_is_divided_at_blanks_and_one_of_one_word_between_characters() {
        let words = "word ".repeat(50);
        let (texts, _) = parts(words.as_bytes(), 64);
        assert!(texts.iter().all(|part| part.ends_with(' ')) && texts.concat() == words);
        let chinese = "数据混合".repeat(50);
        let (texts, report) = parts(chinese.as_bytes(), 64);
        assert_eq!((texts.concat(), report.bad), (chinese, 0));
        assert!(texts.len() > 8, "{texts:?}");
    }

    #[test]
    fn part_that_is_no_text_is_told_and_the_others_are_used() {
        let mut text = "a line of it\n".repeat(50).into_bytes();
        text[300] = 0xff;
        let (texts, report) = parts(&text, 100);
        assert_eq!((report.bad, report.documents), (1, texts.len() as u64));
        let (texts, report) = parts(&[0xbf; 300], 100);
        assert!(texts.is_empty() && report.bad >= 3, "{report:?}");
    }
}
