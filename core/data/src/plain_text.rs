//! Plain text files, one document each.

use std::io::Read;

use crate::corpus_file::CorpusFile;
use crate::error::Result;
use crate::json_object::not_utf8;
use crate::reading::{DOCUMENT_BYTES_MAX, Document, Reading, Unusable};

/// Reads a file as one document. Half a document is none.
pub(crate) fn read(domain: &str, file: &mut CorpusFile, reading: &mut Reading<'_>) -> Result<()> {
    let mut bytes = Vec::new();
    let mut bounded = (&mut file.stream).take(DOCUMENT_BYTES_MAX as u64 + 1);
    if let Err(error) = bounded.read_to_end(&mut bytes) {
        let damage = file.damage(error)?;
        return reading.cut(damage);
    }
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return reading.cut(format!(
            "has more than the {DOCUMENT_BYTES_MAX} bytes that one document may have: split it, or make it JSONL"
        ));
    }
    let document = String::from_utf8(bytes)
        .map(|text| Document { domain: domain.to_owned(), text, replaced: 0 })
        .map_err(|error| Unusable::Bad(not_utf8(error.utf8_error())));
    // It was the only one: whether more are wanted does not matter.
    let _ = reading.offer(format_args!(""), document)?;
    reading.ended_early = false;
    Ok(())
}
