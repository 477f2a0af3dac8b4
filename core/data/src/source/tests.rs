//! Reading whole, bad and truncated files of every layout.

use std::io::Write;
use std::ops::ControlFlow;

use std::path::PathBuf;

use super::*;
use crate::error::DataError;
use crate::reading::{Document, OnBadLine};
use crate::spec::tests::source;

mod packed;

fn spec(format: Format) -> SourceSpec {
    SourceSpec { format, ..source("") }
}

fn manner(on_bad: OnBadLine) -> Manner<'static> {
    Manner { on_bad, stop: &|| false, bytes_max: u64::MAX }
}

/// The first bad line's sentence.
fn first_bad(report: &ReadReport) -> &str {
    &report.reasons[0].first
}

fn read(spec: &SourceSpec, path: &Path, on_bad: OnBadLine) -> (Vec<Document>, Result<ReadReport>) {
    let mut documents = Vec::new();
    let naming = spec.naming(path);
    let report = spec.read((path, "shown"), &naming, manner(on_bad), &mut |document, _| {
        documents.push(document);
        Ok(ControlFlow::Continue(()))
    });
    (documents, report)
}

fn document(domain: &str, text: &str) -> Document {
    Document { domain: domain.to_owned(), text: text.to_owned(), replaced: 0 }
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
    let kinds: Vec<&str> = report.reasons.iter().map(|kind| kind.kind.as_str()).collect();
    assert_eq!(kinds, ["is not JSON", "is no JSON object", "is not UTF-8"]);
    assert!(first_bad(&report).starts_with("line 2 is not JSON"));
    assert_eq!(report.cut_short, None);
    assert_eq!(documents[2], document("books", "two"));
    let stopped = read(&spec(Format::Jsonl), &path, OnBadLine::Stop).1.unwrap_err();
    assert!(stopped.to_string().contains("line 2 is not JSON"), "{stopped}");
}

#[test]
fn a_line_that_is_not_utf8_is_named() {
    let (_folder, path) = write("books.jsonl", b"{\"text\":\"\xff\"}\n{\"text\":\"two\"}");
    let (documents, report) = read(&spec(Format::Jsonl), &path, OnBadLine::Skip);
    assert_eq!(documents.len(), 1);
    assert!(first_bad(&report.unwrap()).starts_with("line 1 is not UTF-8"));
}

#[test]
fn a_plain_file_cut_within_its_last_line_loses_that_line_only() {
    let (_folder, path) =
        write("cut.jsonl", b"{\"text\":\"one\"}\n{\"text\":\"two\"}\n{\"text\":\"thr");
    let (documents, report) = read(&spec(Format::Jsonl), &path, OnBadLine::Skip);
    let report = report.unwrap();
    assert_eq!((documents.len(), report.documents, report.bad), (2, 2, 1));
    assert!(first_bad(&report).starts_with("line 3 is not JSON"));
}

#[test]
fn pile_domain_comes_from_its_meta_field() {
    let line = br#"{"text":"x","meta":{"pile_set_name":"Wiki (en)"}}"#;
    let (_folder, path) = write("pile.jsonl.gz", &gzip(line));
    let (documents, _) = read(&spec(Format::Pile), &path, OnBadLine::Stop);
    assert_eq!(documents, [document("Wiki (en)", "x")]);
}

const ARRAY: &[u8] = br#"[ {"title":"t","content":"c ],[ \" }","dataType":"d"},
    {"title":"","content":"e","dataType":"d"} ]"#;

#[test]
fn wudao_array_is_streamed() {
    let (_folder, path) = write("part_val.json", ARRAY);
    let (documents, report) = read(&spec(Format::Wudao), &path, OnBadLine::Stop);
    assert_eq!(report.unwrap().documents, 2);
    assert_eq!(documents[0], document("d", "t\nc ],[ \" }"));
    assert_eq!(documents[1].text, "e");
    let by_name = SourceSpec { domain_from: Some(DomainFrom::FileName), ..spec(Format::Wudao) };
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
    assert_eq!((report.bad, documents.len(), &report.cut_short), (3, 1, &None));
    assert!(first_bad(&report).starts_with("object 1 is not UTF-8"));
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
    assert!(first_bad(&report).starts_with("is not UTF-8"));
}

#[test]
fn reading_ends_when_no_more_is_wanted() {
    let lines = many_lines();
    let (_folder, path) = write("long.jsonl", &lines);
    let (mut taken, mut position) = (0, 0);
    let (spec, naming) = (spec(Format::Jsonl), Naming::Named("long".to_owned()));
    let report = spec.read((&path, "long"), &naming, manner(OnBadLine::Stop), &mut |_, bytes| {
        taken += 1;
        position = bytes;
        Ok(if taken == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    assert_eq!((report.unwrap().documents, taken), (3, 3));
    assert!(0 < position && position < lines.len() as u64 / 10, "{position} bytes were read");
}

#[test]
fn texts_and_domains_come_from_the_fields_that_are_named() {
    let line = br#"{"text":"no","page":{"body":"yes"},"lang":" zh ","score":NaN}"#;
    let (_folder, path) = write("pages.jsonl", line);
    let named = SourceSpec {
        text_field: Some("page.body".into()),
        domain_field: Some("lang".into()),
        ..spec(Format::Jsonl)
    };
    assert_eq!(read(&named, &path, OnBadLine::Stop).0, [document("zh", "yes")]);
    let by_folder = SourceSpec { domain_from: Some(DomainFrom::Folder), ..spec(Format::Jsonl) };
    let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
    assert_eq!(read(&by_folder, &path, OnBadLine::Stop).0[0].domain, folder);
    let said = |spec: SourceSpec| read(&spec, &path, OnBadLine::Stop).1.unwrap_err().to_string();
    let missing = SourceSpec { text_field: Some("content".into()), ..spec(Format::Jsonl) };
    let sentence =
        "line 1 has no content: it has text, page, lang, score; is it `text_field: text`?";
    assert!(said(missing.clone()).contains(sentence), "{}", said(missing));
    let language = SourceSpec { domain_field: Some("language".into()), ..spec(Format::Jsonl) };
    assert!(said(language).ends_with("did you mean `domain_field: lang`?"));
    assert!(
        said(spec(Format::Pile))
            .ends_with("name the field with `domain_field`, or the domain with `domain`")
    );
}

#[test]
fn files_of_another_layout_are_told_once_with_what_reads_them() {
    for (bytes, format, sentence) in [
        (ARRAY, Format::Jsonl, "is one JSON array, not an object a line: `format: wudao` reads"),
        (b"[\n  {\"text\": \"x\"},\n  {}\n]", Format::Pile, "is one JSON array"),
        (b"{\n  \"text\": \"x\"\n}\n", Format::Jsonl, "is one JSON object over several lines"),
        (b"{\"content\": \"x\"}\n", Format::Wudao, "not a JSON array; `format: jsonl` reads"),
    ] {
        let (_folder, path) = write("odd.json", bytes);
        let report = read(&spec(format), &path, OnBadLine::Skip).1.unwrap();
        assert_eq!((report.documents, report.bad), (0, 1));
        assert!(first_bad(&report).contains(sentence), "{report:?}");
    }
    for line in [&b"[1, 2]\n{\"text\":\"x\"}"[..], b"{\"text\":\n{\"text\":\"x\"}"] {
        let (_folder, path) = write("a.jsonl", line);
        assert_eq!(read(&spec(Format::Jsonl), &path, OnBadLine::Skip).0.len(), 1);
    }
}

#[test]
fn a_field_that_names_no_domain_stops_even_where_bad_lines_are_skipped() {
    for name in ["", "  ", "a\\u0000b", "a\\nb"] {
        let line = format!("{{\"text\":\"x\",\"meta\":{{\"pile_set_name\":\"{name}\"}}}}\n");
        let (_folder, path) = write("pile.jsonl", line.as_bytes());
        let said = read(&spec(Format::Pile), &path, OnBadLine::Skip).1.unwrap_err().to_string();
        assert!(
            said.contains("line 1 has the domain \"") && said.contains("meta.pile_set_name"),
            "{said}"
        );
        let named = SourceSpec { domain: Some("pile".into()), ..spec(Format::Pile) };
        assert_eq!(read(&named, &path, OnBadLine::Skip).0.len(), 1);
    }
}

#[test]
fn byte_order_marks_are_no_content_wherever_files_were_joined() {
    let mark = "\u{feff}";
    let text = format!("{mark}{{\"text\":\"one\"}}\r\n{mark}{{\"text\":\"two\"}}\n{mark}\n");
    for (name, bytes) in
        [("a.jsonl", text.clone().into_bytes()), ("a.jsonl.gz", gzip(text.as_bytes()))]
    {
        let (_folder, path) = write(name, &bytes);
        let (documents, report) = read(&spec(Format::Jsonl), &path, OnBadLine::Stop);
        assert_eq!(report.unwrap().documents, 2);
        assert_eq!(documents[0].text, "one");
    }
    let (_folder, path) = write("a.json", format!("{mark}[]").as_bytes());
    assert_eq!(read(&spec(Format::Wudao), &path, OnBadLine::Stop).1.unwrap().bad, 0);
    let (_folder, path) = write("a.txt", format!("{mark}text").as_bytes());
    assert_eq!(read(&spec(Format::Text), &path, OnBadLine::Stop).0[0].text, "text");
}

#[test]
fn text_of_two_bytes_a_character_is_refused_with_the_remedy() {
    let text = "{\"text\":\"数据\"}\n";
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let marked = [&[0xff, 0xfe], &little[..]].concat();
    for bytes in [little, big, marked.clone(), gzip(&marked)] {
        let name = if bytes.starts_with(&[0x1f, 0x8b]) { "wide.jsonl.gz" } else { "wide.jsonl" };
        let (_folder, path) = write(name, &bytes);
        let said = read(&spec(Format::Jsonl), &path, OnBadLine::Skip).1.unwrap_err().to_string();
        assert!(said.contains(&format!("{name}: is UTF-16")) && said.contains("iconv"), "{said}");
    }
}

#[test]
fn a_lone_surrogate_is_replaced_and_counted_and_the_numbers_add_up() {
    let lines = b"{\"text\":\"a \\ud83d b \\udc00\"}\n{\"text\":\"\"}\nnot json\n{\"text\":1}\n\n{\"text\":\"x\"}";
    let (_folder, path) = write("odd.jsonl", lines);
    let (documents, report) = read(&spec(Format::Jsonl), &path, OnBadLine::Skip);
    let report = report.unwrap();
    assert_eq!(documents[0].text, "a \u{fffd} b \u{fffd}");
    assert_eq!((report.documents, report.blank, report.bad, report.replaced), (2, 1, 2, 2));
    assert_eq!(report.path, Path::new("shown"));
}

#[test]
fn reading_ends_when_it_is_asked_to_even_among_bad_lines() {
    let (_folder, path) = write("bad.jsonl", "not json\n".repeat(100).as_bytes());
    let asked = std::cell::Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() == 5
    };
    let (spec, naming) = (spec(Format::Jsonl), Naming::Named("bad".to_owned()));
    let take = &mut |_, _| Ok(ControlFlow::Continue(()));
    let manner = Manner { stop: &stop, ..manner(OnBadLine::Skip) };
    let stopped = spec.read((&path, "bad"), &naming, manner, take);
    assert!(matches!(stopped, Err(DataError::Stopped)));
    assert_eq!(asked.get(), 5);
}

#[test]
fn what_a_shell_or_a_browser_reads_is_no_path() {
    for (path, due) in [
        ("https://example.org/a.jsonl", "download it first"),
        ("$HOME/a.jsonl", "read by a shell"),
        ("~/a.jsonl", "read by a shell"),
        ("${DATA}/a.jsonl", "read by a shell"),
        ("a$b/~c.jsonl", ""),
    ] {
        assert!(not_a_path(path).unwrap_or_default().contains(due), "{path}");
        assert_eq!(not_a_path(path).is_none(), due.is_empty(), "{path}");
    }
}
