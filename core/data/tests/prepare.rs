//! Preparations of small corpora: what is refused, held out, told.

mod place;

use std::io::Write;
use std::path::{Path, PathBuf};

use hm_data::*;

use crate::place::{Place, lines, never};

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
    let refusal = place.refusal();
    let sentence = "domain `a` has no training documents: the text of 9 of its documents is held out by a_val.jsonl, with `split: validation`";
    assert!(refusal.starts_with(sentence), "{refusal}");
}

#[test]
fn the_minimum_is_for_domains_held_out_by_hash() {
    let mut place = Place::new()
        .train("few.jsonl", &lines("few", 30))
        .train("named.jsonl", &lines("named", 30))
        .held_out("named_val.jsonl", &lines("held", 1));
    place.spec.validation = HoldOut { fraction: 0.1, minimum_documents: 29 };
    let refusal = place.refusal();
    assert!(refusal.contains("holds out too few documents: domain `few` "), "{refusal}");
    assert!(refusal.contains(" of 30; asked for are 29 "), "{refusal}");
    assert!(refusal.contains("`few` has too few documents to hold out of"), "{refusal}");
    place.spec.validation.fraction = 1.5;
    let refusal = place.refusal();
    assert_eq!(refusal, "data.validation.fraction is 1.5: must be at least 0 and below 1");
}

/// What preparation and its estimate refuse, which must be the same.
fn refused_twice(place: &Place) -> String {
    let estimated = estimate(&place.spec, &place.root(), Watch { tell: &mut |_| {}, stop: &never });
    let refusal = place.refusal();
    assert_eq!(estimated.unwrap_err().to_string(), refusal);
    refusal
}

#[test]
fn all_domains_that_hold_out_too_little_are_told_with_a_fraction_that_does() {
    let mut place = Place::new()
        .train("a.jsonl", &lines("some", 60))
        .train("b.jsonl", &lines("other", 60))
        .train("c.jsonl", &lines("many", 2000));
    place.spec.validation = HoldOut { fraction: 0.02, minimum_documents: 4 };
    let refusal = refused_twice(&place);
    assert!(refusal.contains("domain `a` ") && refusal.contains("domain `b` "), "{refusal}");
    assert!(!refusal.contains("`c`"), "{refusal}");
    let (_, fraction) = refusal.split_once("data.validation.fraction 0.0").unwrap();
    let (_, fraction) = fraction.split_once("data.validation.fraction ").unwrap_or(("", fraction));
    let fraction = fraction.split_once(" would do").unwrap().0;
    place.spec.validation.fraction = fraction.rsplit(' ').next().unwrap().parse().unwrap();
    let manifest = place.prepare().manifest;
    assert!(manifest.domains.iter().all(|domain| counts(domain).1 >= 4), "{fraction}");
}

#[test]
fn a_minimum_is_asked_of_what_is_prepared_and_makes_no_second_copy() {
    let mut place = Place::new().train("a.jsonl", &lines("a", 60));
    place.spec.validation = HoldOut { fraction: 0.2, minimum_documents: 1 };
    let first = place.prepare();
    place.spec.validation.minimum_documents = 0;
    assert_eq!(place.prepare(), first);
    place.spec.validation.minimum_documents = 59;
    let refusal = refused_twice(&place);
    assert!(refusal.contains("asked for are 59"), "{refusal}");
    assert_eq!(place.folders().len(), 1);
}

#[test]
fn a_stray_file_does_not_hide_what_ails_the_source() {
    let texts: String = (0..90).map(|n| format!("{{\"body\":\"text {n}\"}}\n")).collect();
    let mut place = Place::new().train("a.jsonl", &texts);
    std::fs::write(place.path("0.jsonl"), "stray notes\n").unwrap();
    place.spec.sources[0].path = "*.jsonl".to_owned();
    let refusal = refused_twice(&place);
    let sentence = "91 bad lines or objects; 90 of them as in a.jsonl: line 1 has no text: it has body; is it `text_field: body`?";
    assert!(refusal.ends_with(sentence), "{refusal}");
}

#[test]
fn a_domain_of_which_no_line_can_be_used_is_told_as_lost() {
    let mut place = Place::new().train("a.jsonl", &lines("a", 30));
    std::fs::write(place.path("b.jsonl"), "no line\n".repeat(60)).unwrap();
    place.spec.sources[0].path = "*.jsonl".to_owned();
    let watch = Watch { tell: &mut |_| {}, stop: &never };
    let guess = estimate(&place.spec, &place.root(), watch).unwrap().manifest;
    let made = place.prepare().manifest;
    assert!(made.warnings[0].starts_with("LOST: domain `b`: no line of its files"), "{made:?}");
    assert_eq!((guess.warnings, guess.files), (made.warnings, made.files));
}

#[test]
fn a_domain_of_files_that_are_all_held_out_is_refused_with_the_domain_that_they_are_for() {
    let mut place = Place::new()
        .train("train.jsonl", &lines("own", 40))
        .held_out("val.jsonl", &lines("held", 9));
    let refusal = refused_twice(&place);
    let sentence = "domain `val` has no training documents: all its 9 documents are held out by";
    assert!(refusal.starts_with(sentence), "{refusal}");
    assert!(refusal.ends_with("as `domain: train`"), "{refusal}");
    place.spec.sources[1].domain = Some("train".to_owned());
    place.spec.sources[1].domain_from = None;
    assert_eq!(counts(&place.prepare().manifest.domains[0]), (40, 9));
}

#[test]
fn a_copy_in_one_domain_is_refused_across_sources_packed_or_not_and_told_within_one() {
    let text = lines(&"a long line ".repeat(60), 30);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let mut place = Place::new().train("a.jsonl", &text).source(
        "a.jsonl.gz",
        "a.jsonl.gz",
        &packed,
        Split::Train,
    );
    let refusal = refused_twice(&place);
    let sentence = "a.jsonl.gz has the documents of a.jsonl, for domain `a`";
    assert!(refusal.starts_with(sentence), "{refusal}");
    place.spec.sources.pop();
    place.spec.sources[0].path = "*.jsonl*".to_owned();
    let warnings = place.prepare().manifest.warnings;
    assert!(
        warnings.iter().any(|told| told.starts_with(&format!("TWICE: {sentence}"))),
        "{warnings:?}"
    );
    std::fs::rename(place.path("a.jsonl.gz"), place.path("b.jsonl.gz")).unwrap();
    let warnings = place.prepare().manifest.warnings;
    let sentence =
        "b.jsonl.gz has the documents of a.jsonl: domain `a` and domain `b` hold the same text";
    assert_eq!(warnings, [sentence]);
}

#[test]
fn short_files_that_are_alike_are_no_copies() {
    let mut place = Place::new().train("a.jsonl", "");
    for day in ["a-1.jsonl", "a-2.jsonl", "a-3.jsonl"] {
        std::fs::write(place.path(day), "{\"text\":\"No news today.\"}\n".repeat(2)).unwrap();
    }
    place.spec.sources[0].path = "a-*.jsonl".to_owned();
    place.spec.sources[0].domain = Some("days".to_owned());
    place.spec.sources[0].domain_from = None;
    assert_eq!(counts(&place.prepare().manifest.domains[0]), (6, 0));
}

#[test]
fn a_text_that_its_tokenizer_cannot_take_counts_the_same_when_looked_at_and_encoded() {
    let place = Place::new().train("a.jsonl", &lines("a", 30));
    let knot = format!("{{\"text\":\"{}\"}}\n", "a".repeat(17 << 20));
    let place = place.train("b.jsonl", &knot);
    let refusal = refused_twice(&place);
    assert!(refusal.contains("b.jsonl gave no document with text"), "{refusal}");
    assert!(refusal.contains("document 1 has 17825792 bytes in which this tokenizer"), "{refusal}");
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
    let first = "the first in odd_a.jsonl: line 1 has no text: it has content; is it `text_field: content`?";
    assert!(
        refusal.contains(first) || refusal.contains("1 of them as in odd_a.jsonl: line 1 has"),
        "{refusal}"
    );
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
    let sentence = "domain `void` has no training documents: 2 without text, and no others";
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

#[test]
fn a_vocabulary_that_is_typed_and_missed_by_far_is_refused_with_numbers() {
    let mut place = Place::new().train("a.jsonl", &lines("a", 9));
    let most = place.prepare().manifest.vocabulary;
    assert!(most < 400, "without a number, what the text gives");
    place.spec.vocabulary = Some(4000);
    let sentence =
        format!("data.vocabulary is 4000: must be at most {most}, which is what the text");
    let refusal = refused_twice(&place);
    assert!(refusal.starts_with(&sentence) && refusal.ends_with("give more text"), "{refusal}");
    place.spec.vocabulary = Some(most as usize);
    assert_eq!(place.prepare().manifest.vocabulary, most);
    // A few less are told.
    place.spec.vocabulary = Some(most as usize + 2);
    let Prepared { manifest, .. } = place.prepare();
    assert_eq!(manifest.vocabulary, most);
    let told = format!("has {most} tokens, not the {} of data.vocabulary", most + 2);
    assert!(manifest.warnings.iter().any(|warning| warning.contains(&told)), "{manifest:?}");
    (place.spec.vocabulary, place.spec.tokenizer_bytes_max) = (Some(4000), 4);
    let refusal = refused_twice(&place);
    assert!(refusal.ends_with("raise data.tokenizer_bytes_max above 4"), "{refusal}");
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
