//! Files of one JSON object a line: plain JSONL, and The Pile's layout.

use std::io::{BufRead, Read};

use crate::corpus_file::{BYTE_ORDER_MARK, CorpusFile};
use crate::error::Result;
use crate::layout::Layout;
use crate::reading::{DOCUMENT_BYTES_MAX, Reading, Unusable};

/// Reads a file line by line. A bad line is counted and the next one read.
pub(crate) fn read(
    layout: &Layout,
    file: &mut CorpusFile,
    reading: &mut Reading<'_>,
) -> Result<()> {
    let (mut line, mut begun) = (Vec::new(), false);
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
        if !begun && let Some(reason) = not_lines(content, layout) {
            return reading.cut(reason);
        }
        begun = true;
        let document = if too_long {
            let most = DOCUMENT_BYTES_MAX;
            Err(Unusable::Bad(format!("has more than the {most} bytes that one document may have")))
        } else {
            layout.document(content)
        };
        if reading.offer(format_args!("line {number} "), document)?.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// What the first line says of a file that has no object a line: every other line would only be told as bad.
fn not_lines(first: &[u8], layout: &Layout) -> Option<String> {
    match first.trim_ascii() {
        b"{" => Some(
            "is one JSON object over several lines: make it one object a line, as `jq -c .` does"
                .to_owned(),
        ),
        [b'[', rest @ ..] if matches!(rest.trim_ascii_start(), [] | [b'{', ..]) => Some(format!(
            "is one JSON array, not an object a line: `format: wudao` reads that, with `text_field: {}` and `domain_from: file-name` or `domain`",
            layout.text
        )),
        _ => None,
    }
}
