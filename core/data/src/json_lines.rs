//! Files of one JSON object a line: plain JSONL, and The Pile's layout.

use std::io::{BufRead, Read};

use crate::corpus_file::{BYTE_ORDER_MARK, CorpusFile};
use crate::error::Result;
use crate::layout::Layout;
use crate::reading::{DOCUMENT_BYTES_MAX, Reading, Unusable};

/// Reads a file line by line. A bad line is counted and the next one read.
pub(crate) fn read(layout: &Layout, mut file: CorpusFile, reading: &mut Reading<'_>) -> Result<()> {
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let mut bounded = (&mut file.stream).take(DOCUMENT_BYTES_MAX as u64 + 1);
        let mut read = bounded.read_until(b'\n', &mut line);
        let too_long = line.len() > DOCUMENT_BYTES_MAX;
        if too_long && read.is_ok() && !line.ends_with(b"\n") {
            read = file.stream.skip_until(b'\n');
        }
        // Files with marks that were joined have them in the middle.
        let content = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line);
        match read {
            Err(error) => {
                let damage = file.damage(error)?;
                return reading.cut(format!("line {number}: {damage}"));
            }
            Ok(0) if line.is_empty() => return Ok(()),
            Ok(_) if content.iter().all(u8::is_ascii_whitespace) => continue,
            Ok(_) => {}
        }
        let document = if too_long {
            let most = DOCUMENT_BYTES_MAX;
            Err(Unusable::Bad(format!("has more than the {most} bytes that one document may have")))
        } else {
            layout.document(content)
        };
        if reading.offer(document.map_err(|lack| lack.at(format!("line {number}"))))?.is_break() {
            return Ok(());
        }
    }
    Ok(())
}
