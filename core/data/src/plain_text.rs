//! Plain text files, one document each.

use std::io::Read;
use std::path::Path;

use crate::corpus_file::CorpusFile;
use crate::error::Result;
use crate::reading::{DOCUMENT_BYTES_MAX, Document, Reading};
use crate::source::SourceSpec;

/// Reads a file as one document. Half a document is none.
pub(crate) fn read(
    source: &SourceSpec,
    mut file: CorpusFile,
    reading: &mut Reading<'_>,
) -> Result<()> {
    let mut bytes = Vec::new();
    let mut bounded = (&mut file.stream).take(DOCUMENT_BYTES_MAX as u64 + 1);
    if let Err(error) = bounded.read_to_end(&mut bytes) {
        let damage = file.damage(error)?;
        return reading.cut(damage);
    }
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return reading.cut(format!("is longer than {DOCUMENT_BYTES_MAX} bytes: not one document"));
    }
    let domain = source.domain.clone().unwrap_or_else(|| folder_name(&file.path));
    let document = String::from_utf8(bytes)
        .map(|text| Document { domain, text })
        .map_err(|error| format!("is not UTF-8: {error}"));
    // It was the only one: whether more are wanted does not matter.
    reading.offer(document).map(|_| ())
}

fn folder_name(path: &Path) -> String {
    let name = path.parent().and_then(Path::file_name);
    name.map_or_else(|| "text".to_owned(), |name| name.to_string_lossy().into_owned())
}
