//! Reading whole, bad and truncated files of every layout.

use std::io::Write;
use std::ops::ControlFlow;

use super::*;
use crate::reading::Document;

fn spec(format: Format) -> SourceSpec {
    let (domain_from, split) = (DomainFrom::default(), Split::default());
    SourceSpec { path: String::new(), format, domain: None, domain_from, split }
}

fn read(spec: &SourceSpec, path: &Path, on_bad: OnBadLine) -> (Vec<Document>, Result<ReadReport>) {
    let mut documents = Vec::new();
    let report = spec.read(path, on_bad, &mut |document, _| {
        documents.push(document);
        Ok(ControlFlow::Continue(()))
    });
    (documents, report)
}

fn write(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// Numbered lines that hardly compress, so that a cut file still gives some of them.
fn many_lines() -> Vec<u8> {
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        format!("{state:x}")
    };
    let line = |number| format!("{{\"text\":\"{number} {} {}\"}}\n", noise(), noise());
    (0..20_000).map(line).collect::<String>().into_bytes()
}

#[test]
fn bad_lines_are_counted_and_the_first_is_named() {
    let (_folder, path) = write(
        "books.jsonl",
        b"{\"text\":\"one\"}\nnot json\n\n[\"text\"]\n{\"text\":\"\xff\"}\n{\"text\":\" \"}\n{\"text\":\"two\"}\n",
    );
    let (documents, report) = read(&spec(Format::Jsonl), &path, OnBadLine::Skip);
    let report = report.unwrap();
    assert_eq!((report.documents, report.blank, report.bad), (2, 1, 3));
    assert!(report.first_bad.unwrap().starts_with("line 2 is not JSON"));
    assert_eq!(report.cut_short, None);
    assert_eq!(documents[2], Document { domain: "books".into(), text: "two".into() });
    let stopped = read(&spec(Format::Jsonl), &path, OnBadLine::Stop).1.unwrap_err();
    assert!(stopped.to_string().contains("line 2 is not JSON"), "{stopped}");
}

#[test]
fn a_line_that_is_not_utf8_is_named() {
    let (_folder, path) = write("books.jsonl", b"{\"text\":\"\xff\"}\n{\"text\":\"two\"}");
    let (documents, report) = read(&spec(Format::Jsonl), &path, OnBadLine::Skip);
    assert_eq!(documents.len(), 1);
    assert!(report.unwrap().first_bad.unwrap().starts_with("line 1 is not UTF-8"));
}

#[test]
fn a_plain_file_cut_within_its_last_line_loses_that_line_only() {
    let (_folder, path) =
        write("cut.jsonl", b"{\"text\":\"one\"}\n{\"text\":\"two\"}\n{\"text\":\"thr");
    let (documents, report) = read(&spec(Format::Jsonl), &path, OnBadLine::Skip);
    let report = report.unwrap();
    assert_eq!((documents.len(), report.documents, report.bad), (2, 2, 1));
    assert!(report.first_bad.unwrap().starts_with("line 3 is not JSON"));
}

#[test]
fn pile_domain_comes_from_its_meta_field() {
    let line = br#"{"text":"x","meta":{"pile_set_name":"Wiki (en)"}}"#;
    let (_folder, path) = write("pile.jsonl.gz", &gzip(line));
    let (documents, _) = read(&spec(Format::Pile), &path, OnBadLine::Stop);
    assert_eq!(documents, [Document { domain: "Wiki (en)".into(), text: "x".into() }]);
}

#[test]
fn truncated_gz_and_zst_keep_what_stands_before_the_cut_and_say_where_it_is() {
    let lines = many_lines();
    for (ending, packed) in [("gz", gzip(&lines)), ("zst", zstd(&lines))] {
        let name = format!("cut.jsonl.{ending}");
        for length in [packed.len() / 2, packed.len() - 5] {
            let (_folder, path) = write(&name, &packed[..length]);
            let (documents, report) = read(&spec(Format::Jsonl), &path, OnBadLine::Skip);
            let report = report.unwrap();
            assert_eq!((report.bad, report.documents), (1, documents.len() as u64), "{name}");
            // The last bytes of a gzip file are a check of what stands before them.
            let most = if length == packed.len() / 2 { 15_000 } else { 20_000 };
            assert!((1..=most).contains(&documents.len()), "{name}: {}", documents.len());
            for (number, document) in documents.iter().enumerate() {
                assert!(document.text.starts_with(&format!("{number} ")), "{name}: {document:?}");
            }
            let place = format!("line {}: the file is truncated", documents.len() + 1);
            assert!(report.cut_short.as_ref().unwrap().starts_with(&place), "{report:?}");
            assert_eq!(report.cut_short, report.first_bad);
            let error = read(&spec(Format::Jsonl), &path, OnBadLine::Stop).1.unwrap_err();
            let sentence = error.to_string();
            assert!(sentence.contains(&name) && sentence.contains(&place), "{sentence}");
        }
    }
}

#[test]
fn corrupt_gz_and_zst_are_noticed() {
    let lines = many_lines();
    for (ending, mut packed) in [("gz", gzip(&lines)), ("zst", zstd(&lines))] {
        let middle = packed.len() / 2;
        packed[middle..middle + 64].fill(0xa5);
        let (_folder, path) = write(&format!("bent.jsonl.{ending}"), &packed);
        let report = read(&spec(Format::Jsonl), &path, OnBadLine::Skip).1.unwrap();
        assert!(report.bad > 0 && report.cut_short.is_some(), "{ending}: {report:?}");
        assert!(read(&spec(Format::Jsonl), &path, OnBadLine::Stop).1.is_err(), "{ending}");
    }
}

#[test]
fn a_file_that_is_not_what_its_ending_says_gives_nothing_and_says_so() {
    for name in ["plain.jsonl.gz", "plain.jsonl.zst"] {
        let (_folder, path) = write(name, b"{\"text\":\"one\"}\n");
        let (documents, report) = read(&spec(Format::Jsonl), &path, OnBadLine::Skip);
        assert!(documents.is_empty());
        assert!(report.unwrap().cut_short.unwrap().starts_with("line 1: the file is truncated"));
    }
}

const ARRAY: &[u8] = br#"[ {"title":"t","content":"c ],[ \" }","dataType":"d"},
    {"title":"","content":"e","dataType":"d"} ]"#;

#[test]
fn wudao_array_is_streamed() {
    let (_folder, path) = write("part_val.json", ARRAY);
    let (documents, report) = read(&spec(Format::Wudao), &path, OnBadLine::Stop);
    assert_eq!(report.unwrap().documents, 2);
    assert_eq!(documents[0], Document { domain: "d".into(), text: "t\nc ],[ \" }".into() });
    assert_eq!(documents[1].text, "e");
    let by_name = SourceSpec { domain_from: DomainFrom::FileName, ..spec(Format::Wudao) };
    assert_eq!(read(&by_name, &path, OnBadLine::Stop).0[0].domain, "part");
    let (_folder, path) = write("empty.json", b" [ ] \n");
    assert_eq!(read(&spec(Format::Wudao), &path, OnBadLine::Stop).1.unwrap().documents, 0);
}

#[test]
fn wudao_array_truncated_anywhere_is_noticed_and_never_gives_half_an_object() {
    let (whole, _) = {
        let (_folder, path) = write("whole.json", ARRAY);
        read(&spec(Format::Wudao), &path, OnBadLine::Stop)
    };
    for length in 0..ARRAY.len() {
        let (_folder, path) = write("cut.json", &ARRAY[..length]);
        let (documents, report) = read(&spec(Format::Wudao), &path, OnBadLine::Skip);
        let report = report.unwrap();
        assert!(report.cut_short.is_some(), "cut at {length}: {report:?}");
        assert_eq!(report.bad, 1);
        assert_eq!(documents, whole[..documents.len()], "cut at {length}");
        let error = read(&spec(Format::Wudao), &path, OnBadLine::Stop).1.unwrap_err();
        assert!(error.to_string().contains("cut.json"), "{error}");
    }
    let cut_within_second = &ARRAY[..ARRAY.len() - 8];
    let (_folder, path) = write("cut.json", cut_within_second);
    let (documents, report) = read(&spec(Format::Wudao), &path, OnBadLine::Skip);
    assert_eq!(documents, whole[..1]);
    assert_eq!(report.unwrap().cut_short.unwrap(), "truncated: ends within object 2");
}

#[test]
fn a_bad_object_of_a_wudao_array_costs_only_itself() {
    let (_folder, path) = write(
        "part.json",
        b"[{\"content\":\"\xff\",\"dataType\":\"d\"}, {\"content\":1}, nonsense,\n\
          {\"content\":\"kept\",\"dataType\":\"d\"}]",
    );
    let (documents, report) = read(&spec(Format::Wudao), &path, OnBadLine::Skip);
    let report = report.unwrap();
    assert_eq!((report.bad, documents.len(), report.cut_short), (3, 1, None));
    assert!(report.first_bad.unwrap().starts_with("object 1 is not UTF-8"));
    assert_eq!(documents[0].text, "kept");
}

#[test]
fn what_follows_a_wudao_array_is_not_dropped_in_silence() {
    let (_folder, path) = write("two.json", &[ARRAY, ARRAY].concat());
    let report = read(&spec(Format::Wudao), &path, OnBadLine::Skip).1.unwrap();
    assert_eq!(report.documents, 2);
    assert_eq!(report.cut_short.unwrap(), "something follows the array's closing `]`");
}

#[test]
fn half_a_text_is_no_document() {
    let packed = gzip(&many_lines());
    let (_folder, path) = write("poem.txt.gz", &packed[..packed.len() / 2]);
    let (documents, report) = read(&spec(Format::Text), &path, OnBadLine::Skip);
    assert!(documents.is_empty());
    assert!(report.unwrap().cut_short.is_some());
    let (_folder, path) = write("latin.txt", b"caf\xe9");
    let report = read(&spec(Format::Text), &path, OnBadLine::Skip).1.unwrap();
    assert!(report.first_bad.unwrap().starts_with("is not UTF-8"));
}

#[test]
fn reading_ends_when_no_more_is_wanted() {
    let lines = many_lines();
    let (_folder, path) = write("long.jsonl", &lines);
    let (mut taken, mut position) = (0, 0);
    let report = spec(Format::Jsonl).read(&path, OnBadLine::Stop, &mut |_, bytes| {
        taken += 1;
        position = bytes;
        Ok(if taken == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    assert_eq!((report.unwrap().documents, taken), (3, 3));
    assert!(0 < position && position < lines.len() as u64 / 10, "{position} bytes were read");
}

#[test]
fn missing_sources_and_globs_without_a_match_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["/nowhere/*.txt", "/nowhere/book.txt", "*.jsonl"] {
        let path = folder.path().join(path).to_string_lossy().into_owned();
        let missing = SourceSpec { path: path.clone(), ..spec(Format::Text) };
        assert!(matches!(missing.files(), Err(DataError::NoFile(found)) if found == path));
    }
    let path = folder.path().to_string_lossy().into_owned();
    let error = SourceSpec { path, ..spec(Format::Text) }.files().unwrap_err();
    assert!(error.to_string().contains("is a folder: name its files"), "{error}");
}

#[test]
fn a_glob_matches_links_and_names_with_brackets_match_themselves() {
    let (folder, path) = write("a.txt", b"one");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&path, folder.path().join("b.txt")).unwrap();
    let glob = folder.path().join("*.txt").to_string_lossy().into_owned();
    let files = SourceSpec { path: glob, ..spec(Format::Text) }.files().unwrap();
    assert_eq!(files[0], path);
    assert_eq!(files.len(), if cfg!(unix) { 2 } else { 1 });
    let odd = folder.path().join("odd[1].txt");
    std::fs::write(&odd, "x").unwrap();
    let named = SourceSpec { path: odd.to_string_lossy().into(), ..spec(Format::Text) };
    assert_eq!(named.files().unwrap(), [odd]);
}
