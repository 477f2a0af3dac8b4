//! Files of one JSON array of objects with `title` and `content`: `WuDaoCorpora`'s layout.
//!
//! The array is cut into its elements first, by brackets and quotes alone, so that memory holds one
//! element and a bad one costs only itself.

use std::io::BufRead;

use crate::corpus_file::CorpusFile;
use crate::error::Result;
use crate::layout::Layout;
use crate::reading::{DOCUMENT_BYTES_MAX, Reading};

/// What stands behind an element.
enum Behind {
    Comma,
    EndOfArray,
    EndOfFile,
}

/// Reads a file element by element.
pub(crate) fn read(
    layout: &Layout,
    file: &mut CorpusFile,
    reading: &mut Reading<'_>,
) -> Result<()> {
    match skip_white_space(&mut file.stream) {
        Ok(Some(b'[')) => file.stream.consume(1),
        Ok(first) => {
            let remedy = match first {
                Some(b'{') => "; `format: jsonl` reads an object a line",
                _ => "",
            };
            return reading.cut(format!("does not begin with `[`: not a JSON array{remedy}"));
        }
        Err(error) => {
            let damage = file.damage(error)?;
            return reading.cut(damage);
        }
    }
    let mut element = Vec::new();
    for number in 1u64.. {
        element.clear();
        let behind = match read_element(&mut file.stream, &mut element) {
            Ok(behind) => behind,
            Err(error) => {
                let damage = file.damage(error)?;
                return reading.cut(format!("object {number}: {damage}"));
            }
        };
        let nothing = element.iter().all(u8::is_ascii_whitespace);
        match behind {
            Behind::EndOfArray if nothing && number == 1 => return read_end(file, reading),
            Behind::EndOfFile if nothing => {
                return reading.cut(format!("truncated: ends before object {number}"));
            }
            _ => {}
        }
        let document = layout.document(&element);
        if matches!(behind, Behind::EndOfFile) && document.is_err() {
            return reading.cut(format!("truncated: ends within object {number}"));
        }
        if reading.offer(format_args!("object {number} "), document)?.is_break() {
            return Ok(());
        }
        match behind {
            Behind::Comma => {}
            Behind::EndOfArray => return read_end(file, reading),
            Behind::EndOfFile => {
                return reading.cut(format!("truncated: ends after object {number}, without `]`"));
            }
        }
    }
    Ok(())
}

/// Nothing but white space may follow the array.
fn read_end(file: &mut CorpusFile, reading: &mut Reading<'_>) -> Result<()> {
    match skip_white_space(&mut file.stream) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => reading.cut("something follows the array's closing `]`".to_owned()),
        Err(error) => {
            let damage = file.damage(error)?;
            reading.cut(damage)
        }
    }
}

/// The next byte that is not white space, left unread.
fn skip_white_space(stream: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    loop {
        let buffer = stream.fill_buf()?;
        let Some(&byte) = buffer.first() else { return Ok(None) };
        if !byte.is_ascii_whitespace() {
            return Ok(Some(byte));
        }
        stream.consume(1);
    }
}

/// Reads up to and with the comma or bracket that ends an element of the outermost array; `element`
/// gets what stands before it.
fn read_element(stream: &mut impl BufRead, element: &mut Vec<u8>) -> std::io::Result<Behind> {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    loop {
        let buffer = stream.fill_buf()?;
        if buffer.is_empty() {
            return Ok(Behind::EndOfFile);
        }
        let ends = buffer.iter().position(|&byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b',' | b']' if depth == 0 => return true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            false
        });
        let length = ends.unwrap_or(buffer.len());
        if element.len() + length > DOCUMENT_BYTES_MAX {
            let sentence =
                format!("no end within the {DOCUMENT_BYTES_MAX} bytes that one document may have");
            return Err(std::io::Error::other(sentence));
        }
        element.extend_from_slice(&buffer[..length]);
        let behind = ends.map(|place| buffer[place]);
        stream.consume(length + usize::from(behind.is_some()));
        match behind {
            Some(b',') => return Ok(Behind::Comma),
            Some(_) => return Ok(Behind::EndOfArray),
            None => {}
        }
    }
}
