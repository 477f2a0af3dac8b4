//! Real text that a developer's machine already holds, as JSONL files by domain: for the demo.

use std::collections::BTreeSet;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use hm_domain::id::Digest;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{DataError, Result, at};

/// Less text than this is no domain of its own, in bytes...
const DOMAIN_BYTES_MIN: u64 = 200 << 10;
/// ...nor are fewer documents.
const DOMAIN_DOCUMENTS_MIN: u64 = 40;
/// One document in so many is held out.
const HELD_OUT_EVERY: u64 = 20;
/// Longest part of a file that becomes a document, in bytes.
const DOCUMENT_BYTES_MAX: usize = 32 << 10;
/// Shorter texts teach little, in bytes.
const DOCUMENT_BYTES_MIN: usize = 200;

/// What was found for one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundText {
    /// What to call it.
    pub domain: String,
    /// The JSONL file of what is trained on.
    pub path: PathBuf,
    /// That of what is held out.
    pub held_out: PathBuf,
    /// Documents in both.
    pub documents: u64,
    /// Bytes of text in both.
    pub bytes: u64,
}

/// A kind of text and where it may lie.
struct Kind {
    domain: &'static str,
    roots: Vec<PathBuf>,
    wanted: fn(&Path) -> bool,
    clean: fn(&str) -> String,
}

fn kinds(cargo_home: &Path, share: &Path) -> Vec<Kind> {
    let registry = vec![cargo_home.join("registry/src")];
    let manuals = (1..=9).map(|section| share.join(format!("man/man{section}"))).collect();
    let chinese = ["zh_CN", "zh_TW", "zh"].map(|language| share.join("man").join(language));
    let plain = str::to_owned;
    let kind = |domain, roots, wanted, clean| Kind { domain, roots, wanted, clean };
    vec![
        kind("rust", registry.clone(), |path| ends(path, &["rs"]), plain),
        kind("c", registry.clone(), |path| ends(path, &["c", "h"]), plain),
        kind("markdown", registry, |path| ends(path, &["md"]), plain),
        kind("documentation", vec![share.join("doc")], is_documentation, plain),
        kind("manual", manuals, |_| true, without_roff),
        kind("manual-chinese", chinese.to_vec(), |_| true, without_roff),
    ]
}

fn ends(path: &Path, endings: &[&str]) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|e| endings.contains(&e))
}

/// Licences are left out: a hundred copies of one text are no corpus.
fn is_documentation(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    !name.starts_with("copyright") && (ends(path, &["gz", "txt", "md"]) || !name.contains('.'))
}

/// Writes two JSONL files per domain, of at most about `domain_bytes_max` together, into `folder`: what is
/// trained on and what is held out, from the cargo registry under `cargo_home` and documentation under `share`
/// (`/usr/share`). A kind of text that the machine holds too little of is left out. The same machine gives the
/// same files.
pub fn gather_machine_text(
    (cargo_home, share): (&Path, &Path),
    folder: &Path,
    domain_bytes_max: u64,
    progress: &mut dyn FnMut(&'static str),
) -> Result<Vec<FoundText>> {
    std::fs::create_dir_all(folder).map_err(at(folder))?;
    let mut found = Vec::new();
    for kind in kinds(cargo_home, share) {
        progress(kind.domain);
        let text = gather(&kind, folder, domain_bytes_max)?;
        if text.bytes >= DOMAIN_BYTES_MIN && text.documents >= DOMAIN_DOCUMENTS_MIN {
            found.push(text);
        } else {
            for path in [text.path, text.held_out] {
                std::fs::remove_file(&path).map_err(at(&path))?;
            }
        }
    }
    Ok(found)
}

fn gather(kind: &Kind, folder: &Path, bytes_max: u64) -> Result<FoundText> {
    let [path, held_out] =
        ["", "_val"].map(|end| folder.join(format!("{}{end}.jsonl", kind.domain)));
    let create = |path: &Path| std::fs::File::create(path).map(BufWriter::new).map_err(at(path));
    let (mut trained, mut validated) = (create(&path)?, create(&held_out)?);
    let (mut documents, mut bytes) = (0, 0);
    let mut seen = BTreeSet::new();
    for source in files(kind) {
        // A file that cannot be read, or holds no text, is simply not taken.
        let Some(text) = read_text(&source).map(|text| (kind.clean)(&text)) else { continue };
        let text = shortened(text.trim());
        if text.len() < DOCUMENT_BYTES_MIN || !seen.insert(Digest::of(text.as_bytes())) {
            continue;
        }
        documents += 1;
        bytes += text.len() as u64;
        let (out, path) = match documents % HELD_OUT_EVERY {
            0 => (&mut validated, &held_out),
            _ => (&mut trained, &path),
        };
        writeln!(out, "{}", json!({"text": text})).map_err(at(path))?;
        if bytes >= bytes_max {
            break;
        }
    }
    for (out, path) in [(trained, &path), (validated, &held_out)] {
        out.into_inner().map_err(|error| at(path)(error.into_error()))?;
    }
    let domain = kind.domain.to_owned();
    Ok(FoundText { domain, path, held_out, documents, bytes })
}

/// The kind's files in an order that mixes packages and is the same every time.
fn files(kind: &Kind) -> Vec<PathBuf> {
    let mut files: Vec<(Digest, PathBuf)> = kind
        .roots
        .iter()
        .flat_map(walkdir::WalkDir::new)
        .filter_map(|entry| entry.ok().filter(|entry| entry.file_type().is_file()))
        .map(walkdir::DirEntry::into_path)
        .filter(|path| (kind.wanted)(path))
        .map(|path| (Digest::of(path.as_os_str().as_encoded_bytes()), path))
        .collect();
    files.sort();
    files.into_iter().map(|(_, path)| path).collect()
}

fn read_text(path: &Path) -> Option<String> {
    let file = std::fs::File::open(path).ok()?;
    // Read a little beyond the longest document, so that a cut falls inside.
    let limit = DOCUMENT_BYTES_MAX as u64 * 2;
    let mut bytes = Vec::new();
    if ends(path, &["gz"]) {
        flate2::read::GzDecoder::new(file).take(limit).read_to_end(&mut bytes).ok()?;
    } else {
        file.take(limit).read_to_end(&mut bytes).ok()?;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        // The limit may have cut a character in two.
        Err(error) if error.utf8_error().error_len().is_none() => {
            let valid = error.utf8_error().valid_up_to();
            String::from_utf8(error.into_bytes()[..valid].to_vec()).ok()
        }
        Err(_) => None,
    }
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(DOCUMENT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A manual page's words: requests and escapes of roff taken out.
fn without_roff(page: &str) -> String {
    let mut text = String::new();
    for line in page.lines() {
        let line = match line.strip_prefix(['.', '\'']) {
            Some(request) => match request.split_once(' ') {
                Some(("SH" | "SS" | "B" | "I" | "BR" | "BI" | "IR" | "RB" | "RI" | "IB", rest)) => {
                    rest
                }
                _ => continue,
            },
            None => line,
        };
        let mut rest = line;
        while let Some(at) = rest.find('\\') {
            text.push_str(&rest[..at]);
            rest = after_escape(&rest[at + 1..], &mut text);
        }
        text.push_str(rest);
        text.push('\n');
    }
    text
}

/// What follows one escape; what it prints goes to `text`.
fn after_escape<'a>(escape: &'a str, text: &mut String) -> &'a str {
    let mut characters = escape.chars();
    match characters.next() {
        Some('-') => text.push('-'),
        Some('e' | '\\') => text.push('\\'),
        Some('f') => {
            let rest = characters.as_str();
            let skip = match rest.chars().next() {
                Some('[') => rest.find(']').map_or(rest.len(), |end| end + 1),
                Some('(') => rest.char_indices().nth(3).map_or(rest.len(), |(end, _)| end),
                _ => rest.char_indices().nth(1).map_or(rest.len(), |(end, _)| end),
            };
            return &rest[skip..];
        }
        Some('(') => {
            let rest = characters.as_str();
            let end = rest.char_indices().nth(2).map_or(rest.len(), |(end, _)| end);
            text.push_str(match &rest[..end] {
                "aq" | "cq" | "oq" => "'",
                "lq" | "rq" | "dq" => "\"",
                "em" | "en" | "hy" => "-",
                "bu" => "*",
                _ => "",
            });
            return &rest[end..];
        }
        // A comment to the end of the line.
        Some('"') => return "",
        _ => {}
    }
    characters.as_str()
}

/// The cargo home of this user, and where Debian keeps documentation.
pub fn machine_text_places() -> Result<(PathBuf, PathBuf)> {
    let cargo_home = match (std::env::var_os("CARGO_HOME"), std::env::var_os("HOME")) {
        (Some(home), _) => PathBuf::from(home),
        (None, Some(home)) => Path::new(&home).join(".cargo"),
        (None, None) => {
            let reason = "neither CARGO_HOME nor HOME is set".to_owned();
            return Err(DataError::Broken { path: PathBuf::from("~/.cargo"), reason });
        }
    };
    Ok((cargo_home, PathBuf::from("/usr/share")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roff_is_taken_out_and_words_stay() {
        let page = ".TH LS 1\n.SH NAME\nls \\- list \\fIdirectory\\fR contents\n.\\\" a comment\n.B \\-a\nDon\\(aqt \\fB\\f(CWstop\\fR\n";
        assert_eq!(without_roff(page), "NAME\nls - list directory contents\n-a\nDon't stop\n");
    }

    #[test]
    fn a_machines_text_becomes_domains_and_small_ones_are_left_out() {
        let place = tempfile::tempdir().unwrap();
        let crates = place.path().join("cargo/registry/src/index/crate-1");
        std::fs::create_dir_all(&crates).unwrap();
        for number in 0..120 {
            let text = format!("fn number_{number}() {{}}\n").repeat(200);
            std::fs::write(crates.join(format!("{number}.rs")), text).unwrap();
        }
        std::fs::write(crates.join("README.md"), "few words\n".repeat(50)).unwrap();
        std::fs::write(crates.join("binary.rs"), [0xff, 0xfe, 0, 1]).unwrap();
        let places = (place.path().join("cargo"), place.path().join("share"));
        let folder = place.path().join("out");
        let gather = |bytes| {
            gather_machine_text((&places.0, &places.1), &folder, bytes, &mut |_| {}).unwrap()
        };
        let found = gather(10 << 20);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].domain.as_str(), found[0].documents), ("rust", 120));
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&found[0].path), lines(&found[0].held_out)), (114, 6));
        assert!(!folder.join("markdown.jsonl").exists());
        let first = std::fs::read(&found[0].path).unwrap();
        assert_eq!(gather(10 << 20), found);
        assert_eq!(std::fs::read(&found[0].path).unwrap(), first);
        let bounded = gather(250 << 10);
        assert!((250 << 10..300 << 10).contains(&bounded[0].bytes), "{bounded:?}");
    }
}
