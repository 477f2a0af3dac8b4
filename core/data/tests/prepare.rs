//! Preparations of small corpora: what is refused, held out, told.

mod place;

use std::io::Write;
use std::path::{Path, PathBuf};

use hm_data::*;

use crate::place::{Place, lines};

fn counts(domain: &DomainEntry) -> (u64, u64) {
    let held_out = domain.validation.as_ref().map_or(0, |entry| entry.documents);
    (domain.segments.iter().map(|segment| segment.documents).sum(), held_out)
}

#[test]
fn a_domain_with_named_validation_uses_it_and_every_other_holds_out_by_hash() {
    let mut place = Place::new()
        .train("named.jsonl", &lines("named", 400))
        .train("hashed.jsonl", &lines("hashed", 400))
        .held_out("named_val.jsonl", &lines("held", 7));
    place.spec.validation = HoldOut { fraction: 0.1, minimum_documents: 20 };
    let manifest = place.prepare().manifest;
    let [hashed, named] = &manifest.domains[..] else { panic!("{:?}", manifest.domains) };
    assert_eq!((named.name.as_str(), counts(named)), ("named", (400, 7)));
    let (kept, held_out) = counts(hashed);
    assert_eq!(kept + held_out, 400);
    assert!((20..60).contains(&held_out), "{held_out}");
}

#[test]
fn what_is_validated_on_by_name_is_not_trained_on() {
    let spaced = lines("same", 20).replace(' ', "  ");
    let place = Place::new()
        .train("a.jsonl", &(lines("own", 80) + &spaced))
        .train("b.jsonl", &(lines("other", 10) + &lines("same", 3)))
        .held_out("a_val.jsonl", &lines("same", 20));
    let manifest = place.prepare().manifest;
    let counts: Vec<_> = manifest.domains.iter().map(counts).collect();
    assert_eq!(counts, [(80, 20), (10, 0)]);
    let of = |name: &str| manifest.files.iter().find(|file| file.path == Path::new(name)).unwrap();
    assert_eq!((of("a.jsonl").documents, of("a.jsonl").in_validation), (100, 20));
    assert_eq!(of("b.jsonl").in_validation, 3);
    assert_eq!(of("a_val.jsonl").in_validation, 0);
    let place = Place::new()
        .train("a.jsonl", &lines("same", 9))
        .train("b.jsonl", &lines("other", 9))
        .held_out("a_val.jsonl", &lines("same", 9));
    let sentence = "domain `a` has no training documents: 9 held out, 0 without text, 9 whose text is held out elsewhere";
    assert_eq!(place.refusal(), sentence);
}

#[test]
fn the_minimum_is_for_domains_held_out_by_hash() {
    let mut place = Place::new()
        .train("few.jsonl", &lines("few", 30))
        .train("named.jsonl", &lines("named", 30))
        .held_out("named_val.jsonl", &lines("held", 1));
    place.spec.validation = HoldOut { fraction: 0.1, minimum_documents: 29 };
    let refusal = place.refusal();
    assert!(refusal.starts_with("domain `few` holds out "), "{refusal}");
    assert!(refusal.contains("fewer than the minimum of 29"), "{refusal}");
    place.spec.validation.fraction = 1.5;
    let refusal = place.refusal();
    assert_eq!(refusal, "data.validation.fraction is 1.5: must be at least 0 and below 1");
}

#[test]
fn a_source_that_gives_no_document_is_named_with_what_was_read() {
    let place = Place::new()
        .train("good.jsonl", &lines("good", 5))
        .train("odd_a.jsonl", "{\"content\":\"x\"}\nnot json\n")
        .train("odd_b.jsonl", "{\"text\":\"  \"}\n");
    let mut spec = place.spec.clone();
    spec.sources.truncate(2);
    spec.sources[1].path = "odd_*.jsonl".to_owned();
    let refusal = Place { spec, ..place }.refusal();
    assert!(refusal.contains("odd_*.jsonl gave no document with text: read 2 files"), "{refusal}");
    assert!(refusal.contains("1 documents without text, 2 bad lines or objects"), "{refusal}");
    assert!(refusal.contains("odd_a.jsonl: line 1 has no text: it has content"), "{refusal}");
}

#[test]
fn empty_files_of_every_layout_are_refused() {
    for (file, bytes) in [
        ("none.jsonl", &b""[..]),
        ("none.json", b"[]"),
        ("none.json", b""),
        ("none.jsonl.gz", b""),
        ("none.jsonl.zst", b""),
    ] {
        let place = Place::new().train("good.jsonl", &lines("good", 5)).source(
            file,
            file,
            bytes,
            Split::Train,
        );
        let refusal = place.refusal();
        assert!(refusal.contains(&format!("{file} gave no document")), "{refusal}");
    }
}

#[test]
fn a_domain_of_which_every_document_is_empty_is_refused_by_name() {
    let line = |name: &str, text: &str| {
        format!("{{\"text\":\"{text}\",\"meta\":{{\"pile_set_name\":\"{name}\"}}}}\n")
    };
    let pile = [line("full", "some text"), line("void", ""), line("void", " \\n")].concat();
    let mut place = Place::new().train("pile.jsonl", &pile);
    place.spec.sources[0].format = Format::Pile;
    place.spec.sources[0].domain_from = None;
    let sentence = "domain `void` has no training documents: 0 held out, 2 without text, 0 whose text is held out elsewhere";
    assert_eq!(place.refusal(), sentence);
}

#[test]
fn a_glob_without_a_match_and_no_source_at_all_are_refused() {
    let mut place = Place::new().train("good.jsonl", &lines("good", 5));
    place.spec.sources[0].path = "*.json5".to_owned();
    let refusal = place.refusal();
    assert!(
        refusal.starts_with("source \"*.json5\" matches no file: no `*.json5` in"),
        "{refusal}"
    );
    assert!(refusal.ends_with("there is `good.jsonl`"), "{refusal}");
    place.spec.sources.clear();
    assert_eq!(place.refusal(), "data.sources is empty: must name at least one source");
}

#[test]
fn truncated_files_are_counted_or_stop_the_preparation() {
    let text = lines("packed", 5000);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let array: String = (0..50).map(|n| format!(",{{\"content\":\"object {n}\"}}")).collect();
    let array = format!("[{}]", &array[1..]);
    let cases = [
        ("cut.jsonl.gz", &packed[..packed.len() - 9], 1),
        ("cut.json", &array.as_bytes()[..array.len() / 2], 1),
    ];
    for (file, bytes, bad) in cases {
        let mut place = Place::new().source(file, file, bytes, Split::Train);
        let manifest = place.prepare().manifest;
        let report = &manifest.files[0];
        assert_eq!((report.bad, report.documents), (bad, counts(&manifest.domains[0]).0));
        assert!(report.documents > 10 && report.cut_short.is_some(), "{report:?}");
        place.spec.on_bad_line = OnBadLine::Stop;
        let refusal = place.refusal();
        assert!(refusal.contains(file) && refusal.contains("truncated"), "{refusal}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_vocabulary_that_is_not_reached_is_told_with_numbers() {
    let mut place = Place::new().train("a.jsonl", &lines("a", 9));
    place.spec.vocabulary = Some(4000);
    let manifest = place.prepare().manifest;
    assert!(manifest.vocabulary < 400);
    let sentence =
        format!("the text gives a vocabulary of {} tokens, not 4000", manifest.vocabulary);
    assert!(manifest.warnings[0].starts_with(&sentence), "{:?}", manifest.warnings);
    place.spec.vocabulary = Some(265);
    assert_eq!(place.prepare().manifest.warnings, Vec::<String>::new());
}

/// A prepared place whose own tokenizer, in other bytes, is now the given one.
fn with_given_tokenizer() -> (Place, Manifest, PathBuf, String) {
    let mut place = Place::new().train("a.jsonl", &lines("a", 30));
    let trained = place.prepare();
    let given = place.path("given.json");
    let text = std::fs::read_to_string(trained.folder.join("tokenizer.json")).unwrap() + "\n";
    std::fs::write(&given, &text).unwrap();
    (place.spec.tokenizer, place.spec.vocabulary) = (Some(given.clone()), None);
    (place, trained.manifest, given, text)
}

#[test]
fn a_given_tokenizer_is_used_byte_for_byte_and_a_changed_one_is_noticed() {
    let (place, trained, given, text) = with_given_tokenizer();
    let Prepared { manifest, folder } = place.prepare();
    assert_eq!(std::fs::read_to_string(folder.join("tokenizer.json")).unwrap(), text);
    assert_eq!((manifest.vocabulary, &manifest.domains), (trained.vocabulary, &trained.domains));
    assert_ne!(manifest.tokenizer, trained.tokenizer);
    std::fs::write(&given, text + "\n").unwrap();
    assert_ne!(place.prepare().manifest.tokenizer, manifest.tokenizer);
}

#[test]
fn documents_end_with_the_mark_that_a_person_names() {
    let (mut place, _, _, _) = with_given_tokenizer();
    place.spec.end_of_document = Some("[MASK]".to_owned());
    let Prepared { manifest, folder } = place.prepare();
    assert_eq!(manifest.end_of_document, "[MASK]");
    let (tokenizer, _) = Tokenizer::read(&folder.join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.end_of_document().0, "[MASK]", "whoever reads it there ends as it does");
    let shard = Shard::open(&folder.join("train-000")).unwrap();
    for document in 0..shard.documents() {
        let mut ids = Vec::new();
        let length = shard.length(document).unwrap();
        shard.copy(document, 0, length, &mut ids).unwrap();
        assert_eq!(*ids.last().unwrap(), tokenizer.end_of_document().1);
    }
    place.spec.end_of_document = Some("<eos>".to_owned());
    assert!(place.refusal().contains("has no token <eos>, which data.end_of_document names"));
}

#[test]
fn a_given_tokenizer_that_does_not_load_or_has_another_vocabulary_is_refused_by_name() {
    let (mut place, trained, given, text) = with_given_tokenizer();
    place.spec.vocabulary = Some(5000);
    let refusal = place.refusal();
    let found = trained.vocabulary;
    let sentence = format!("has a vocabulary of {found}, but data.vocabulary is 5000");
    assert!(refusal.contains("given.json") && refusal.contains(&sentence), "{refusal}");
    place.spec.vocabulary = Some(found as usize);
    std::fs::write(&given, &text[..text.len() / 2]).unwrap();
    let refusal = place.refusal();
    assert!(refusal.contains("given.json: not a tokenizer"), "{refusal}");
}

#[test]
fn what_a_given_tokenizer_loses_is_counted_in_all_text_and_much_of_it_is_refused() {
    let mut vocabulary: serde_json::Map<String, serde_json::Value> =
        ('a'..='z').enumerate().map(|(id, letter)| (letter.to_string(), id.into())).collect();
    vocabulary.insert("</s>".to_owned(), 26.into());
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    });
    let document = |text: &str, times: usize| format!("{{\"text\": \"{}\"}}\n", text.repeat(times));
    let plain = document("plain words ", 100).repeat(400);
    // 5 of 1005 characters of a document: too few for a sample, too many for a domain.
    let strange = document(&format!("{}数 ", "words ".repeat(40)), 5).repeat(100);
    for (text, lost) in [
        (plain.clone() + &strange, "0.10 % of domain `c` (500 of 500500 characters, such as 数)"),
        (strange.clone() + &plain, "0.10 % of domain `c` (500 of 500500 characters, such as 数)"),
        (strange, "0.50 % of domain `c` (500 of 100500 characters, such as 数)"),
    ] {
        let mut place = Place::new().train("c.jsonl", &text);
        let given = place.path("given.json");
        std::fs::write(&given, json.to_string()).unwrap();
        (place.spec.tokenizer, place.spec.vocabulary) = (Some(given), None);
        if lost.starts_with("0.10") {
            let told = place.prepare().manifest.warnings;
            assert!(told.iter().any(|told| told.contains(lost)), "{told:?}");
        } else {
            let refusal = place.refusal();
            assert!(refusal.contains(&format!("it cannot say {lost}: bring one")), "{refusal}");
        }
    }
}
