//! What a file is by its first bytes, where it is none of what is read here.

use std::path::Path;

/// How a corpus file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// Bytes that tell.
pub(crate) const HEAD_BYTES: u64 = 512;

const UNPACK: &str = "unpack it, or pack it with gzip or zstd: plain files, .gz and .zst are read";
const CONVERT: &str = "make it JSONL, with an object of `text` a line";

/// Kinds of files that people have and that are not read here: first bytes, a name, what to do.
const UNREAD: [(&[u8], &str, &str); 15] = [
    (b"PAR1", "Parquet", CONVERT),
    (b"ARROW1", "Arrow", CONVERT),
    (b"\xff\xff\xff\xff", "an Arrow stream", CONVERT),
    (b"Obj\x01", "Avro", CONVERT),
    (b"ORC", "ORC", CONVERT),
    (b"\x89HDF", "HDF5", CONVERT),
    (b"SQLite format 3", "an SQLite database", CONVERT),
    (b"%PDF-", "PDF", CONVERT),
    (b"\x93NUMPY", "a NumPy array", CONVERT),
    (b"\xfd7zXZ\0", "packed by xz", UNPACK),
    (b"PK\x03\x04", "packed by zip", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "packed by 7-Zip", UNPACK),
    (b"Rar!\x1a", "packed by rar", UNPACK),
    (b"\x04\x22\x4d\x18", "packed by lz4", UNPACK),
    (b"LZIP", "packed by lzip", UNPACK),
];

/// Endings of such files whose first bytes tell nothing.
const UNREAD_ENDINGS: [(&str, &str); 4] =
    [("br", "Brotli"), ("lzma", "lzma"), ("sz", "Snappy"), ("z", "compress")];

/// By the first bytes, whatever the file is called: one that begins with text is plain. A file whose bytes
/// say nothing is what its ending says.
pub(crate) fn packing(path: &Path, head: &[u8]) -> Packing {
    match head {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        // A frame, or one to be skipped.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Packing::Zstd,
        // Text begins with no control character but white space; half a gzip header does.
        [first, ..] if is_text(head) && (*first >= b' ' || first.is_ascii_whitespace()) => {
            Packing::Plain
        }
        // What is of another kind is told as that.
        _ if unread(path, head).is_some() => Packing::Plain,
        _ => match ending(path).as_str() {
            "gz" => Packing::Gzip,
            "zst" => Packing::Zstd,
            _ => Packing::Plain,
        },
    }
}

/// Whether bytes are UTF-8, the last character perhaps cut.
fn is_text(head: &[u8]) -> bool {
    let cut_or_whole = |error: std::str::Utf8Error| error.error_len().is_none();
    !head.contains(&0) && std::str::from_utf8(head).map_or_else(cut_or_whole, |_| true)
}

fn ending(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// What a file is and what to do with it, if it is not read here; `head` is what it begins with, unpacked.
pub(crate) fn unread(path: &Path, head: &[u8]) -> Option<String> {
    let is_text = is_text(head);
    // A text may begin with the letters of ORC or LZIP, but hardly with these.
    let is_certain = !is_text || head.starts_with(b"PAR1");
    let by_bytes = UNREAD.iter().find(|(first, ..)| is_certain && head.starts_with(first));
    if let Some((_, name, remedy)) = by_bytes {
        return Some(format!("is {name}, which is not read here: {remedy}"));
    }
    if head.starts_with(b"BZh") && !is_text {
        return Some(format!("is packed by bzip2, which is not read here: {UNPACK}"));
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some(
            "is a tar archive, which is not read here: unpack it and name its files".to_owned(),
        );
    }
    let ending = ending(path);
    let (_, name) = UNREAD_ENDINGS.iter().find(|(known, _)| *known == ending && !is_text)?;
    Some(format!("is packed by {name}, which is not read here: {UNPACK}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_another_kind_are_known_by_their_bytes_and_texts_never_taken_for_them() {
        for (name, head, said) in [
            ("a.jsonl", &b"PAR1\x15\x04"[..], "is Parquet, which is not read here: make it JSONL"),
            ("a", b"PAR1 and no more", "is Parquet"),
            (
                "a.bz2",
                b"BZh91AY&SY\xd0\x9f\x00",
                "is packed by bzip2, which is not read here: unpack it",
            ),
            ("a.jsonl.xz", b"\xfd7zXZ\0\0\x04", "is packed by xz"),
            ("a.zip", b"PK\x03\x04\x14\0", "is packed by zip"),
            ("a.arrow", b"ARROW1\0\0", "is Arrow"),
            ("a.arrow", b"\xff\xff\xff\xff\x10\0", "is an Arrow stream"),
            ("a.jsonl.br", b"\x8b\x02\x80", "is packed by Brotli"),
        ] {
            let unread = unread(Path::new(name), head).unwrap_or_default();
            assert!(unread.starts_with(said), "{name}: {unread}");
        }
        for text in ["ORCHIDS grow", "BZh is no word", "%PDF- of it", "{\"text\":1}", "", "数据"]
        {
            assert_eq!(unread(Path::new("a.br"), text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn packing_is_told_by_bytes_before_endings() {
        for (name, head, packing_is) in [
            ("a.jsonl", &b"\x1f\x8b\x08"[..], Packing::Gzip),
            ("a.jsonl", b"\x28\xb5\x2f\xfd", Packing::Zstd),
            ("a.gz", b"\x50\x2a\x4d\x18", Packing::Zstd),
            ("a.jsonl.GZ", b"", Packing::Gzip),
            ("a.jsonl", b"{", Packing::Plain),
            ("a.jsonl.gz", b"{\"text\":1}", Packing::Plain),
            ("a.jsonl.zst", b"\n{", Packing::Plain),
            ("a.jsonl.gz", b"PK\x03\x04\x14\0", Packing::Plain),
            ("a.jsonl.gz", b"\x1f", Packing::Gzip),
            ("a.jsonl.gz", b"\0\0\x99", Packing::Gzip),
        ] {
            assert_eq!(packing(Path::new(name), head), packing_is, "{name}");
        }
    }
}
