//! Files of one JSON object a line with `text`: plain JSONL, and The Pile's layout.

use std::io::{BufRead, Read};
use std::path::Path;

use serde_json::Value;

use crate::corpus_file::CorpusFile;
use crate::error::Result;
use crate::reading::{DOCUMENT_BYTES_MAX, Document, Reading};
use crate::source::{Format, SourceSpec, stem, text_at};

/// Reads a file line by line. A bad line is counted and the next one read.
pub(crate) fn read(
    source: &SourceSpec,
    mut file: CorpusFile,
    reading: &mut Reading<'_>,
) -> Result<()> {
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let mut bounded = (&mut file.stream).take(DOCUMENT_BYTES_MAX as u64 + 1);
        let mut read = bounded.read_until(b'\n', &mut line);
        let too_long = line.len() > DOCUMENT_BYTES_MAX;
        if too_long && read.is_ok() && !line.ends_with(b"\n") {
            read = file.stream.skip_until(b'\n');
        }
        match read {
            Err(error) => {
                let damage = file.damage(error)?;
                return reading.cut(format!("line {number}: {damage}"));
            }
            Ok(0) if line.is_empty() => return Ok(()),
            Ok(_) if line.iter().all(u8::is_ascii_whitespace) => continue,
            Ok(_) => {}
        }
        let document = if too_long {
            Err(format!("line {number} is longer than {DOCUMENT_BYTES_MAX} bytes"))
        } else {
            of_line(source, &file.path, &line).map_err(|lack| format!("line {number} {lack}"))
        };
        if reading.offer(document)?.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

fn of_line(source: &SourceSpec, path: &Path, line: &[u8]) -> std::result::Result<Document, String> {
    let line = std::str::from_utf8(line).map_err(|error| format!("is not UTF-8: {error}"))?;
    let mut value: Value =
        serde_json::from_str(line).map_err(|error| format!("is not JSON: {error}"))?;
    let domain = match (&source.domain, source.format) {
        (Some(domain), _) => domain.clone(),
        (None, Format::Pile) => {
            text_at(&mut value, "/meta/pile_set_name").ok_or("has no meta.pile_set_name")?
        }
        (None, _) => stem(path),
    };
    let text = text_at(&mut value, "/text").ok_or("has no text")?;
    Ok(Document { domain, text })
}
