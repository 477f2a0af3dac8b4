//! Preparations that are refused, interrupted or split, on small corpora made here.

use std::io::Write;
use std::path::{Path, PathBuf};

use hm_data::*;

struct Place {
    folder: tempfile::TempDir,
    spec: PrepareSpec,
}

impl Place {
    fn new() -> Place {
        let spec = PrepareSpec {
            sources: Vec::new(),
            vocabulary: Some(300),
            tokenizer: None,
            tokenizer_bytes_max: 1 << 16,
            on_bad_line: OnBadLine::Skip,
            validation: HoldOut::default(),
        };
        Place { folder: tempfile::tempdir().unwrap(), spec }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn out(&self) -> PathBuf {
        self.path("out")
    }

    /// A source over the glob or file `name`, after writing `bytes` to `file`.
    fn source(mut self, name: &str, file: &str, bytes: &[u8], split: Split) -> Place {
        std::fs::write(self.path(file), bytes).unwrap();
        let format = if file.ends_with(".json") { Format::Wudao } else { Format::Jsonl };
        let path = self.path(name).to_string_lossy().into_owned();
        let domain_from = DomainFrom::FileName;
        self.spec.sources.push(SourceSpec { path, format, domain: None, domain_from, split });
        self
    }

    fn train(self, file: &str, lines: &str) -> Place {
        self.source(file, file, lines.as_bytes(), Split::Train)
    }

    fn prepare(&self) -> Result<Manifest> {
        prepare(&self.spec, &self.out(), &mut |_| {})
    }

    fn refusal(&self) -> String {
        let error = self.prepare().unwrap_err().to_string();
        assert!(!self.out().join("manifest.json").exists(), "nothing counts as prepared");
        error
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.out()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// JSONL of `count` different documents.
fn lines(word: &str, count: usize) -> String {
    (0..count).map(|number| format!("{{\"text\":\"{word} number {number}\"}}\n")).collect()
}

fn counts(domain: &DomainEntry) -> (u64, u64) {
    let held_out = domain.validation.as_ref().map_or(0, |entry| entry.documents);
    (domain.segments.iter().map(|segment| segment.documents).sum(), held_out)
}

#[test]
fn a_domain_with_named_validation_uses_it_and_every_other_holds_out_by_hash() {
    let mut place = Place::new()
        .train("named.jsonl", &lines("named", 400))
        .train("hashed.jsonl", &lines("hashed", 400))
        .source(
            "named_val.jsonl",
            "named_val.jsonl",
            lines("held", 7).as_bytes(),
            Split::Validation,
        );
    place.spec.validation = HoldOut { fraction: 0.1, minimum_documents: 20 };
    let manifest = place.prepare().unwrap();
    let [hashed, named] = &manifest.domains[..] else { panic!("{:?}", manifest.domains) };
    assert_eq!((named.name.as_str(), counts(named)), ("named", (400, 7)));
    let (kept, held_out) = counts(hashed);
    assert_eq!(kept + held_out, 400);
    assert!((20..60).contains(&held_out), "{held_out}");
}

#[test]
fn the_minimum_is_for_domains_held_out_by_hash() {
    let mut place = Place::new()
        .train("few.jsonl", &lines("few", 30))
        .train("named.jsonl", &lines("named", 30))
        .source(
            "named_val.jsonl",
            "named_val.jsonl",
            lines("held", 1).as_bytes(),
            Split::Validation,
        );
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
    spec.sources[1].path = place.path("odd_*.jsonl").to_string_lossy().into_owned();
    let refusal = Place { spec, ..place }.refusal();
    assert!(refusal.contains("odd_*.jsonl gave no document with text: read 2 files"), "{refusal}");
    assert!(refusal.contains("1 documents without text, 2 bad lines or objects"), "{refusal}");
    assert!(refusal.contains("odd_a.jsonl: line 1 has no text"), "{refusal}");
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
    let sentence = "domain `void` has no training documents: 0 held out, 2 without text";
    assert_eq!(place.refusal(), sentence);
}

#[test]
fn a_glob_without_a_match_and_no_source_at_all_are_refused() {
    let mut place = Place::new().train("good.jsonl", &lines("good", 5));
    place.spec.sources[0].path = place.path("*.json5").to_string_lossy().into_owned();
    assert!(place.refusal().ends_with("*.json5 matches no file"));
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
        let manifest = place.prepare().unwrap();
        let report = &manifest.files[0];
        assert_eq!((report.bad, report.documents), (bad, counts(&manifest.domains[0]).0));
        assert!(report.documents > 10 && report.cut_short.is_some(), "{report:?}");
        place.spec.on_bad_line = OnBadLine::Stop;
        let refusal = place.refusal();
        assert!(refusal.contains(file) && refusal.contains("truncated"), "{refusal}");
    }
}

#[test]
fn a_preparation_that_fails_leaves_no_manifest_of_the_one_before() {
    let mut place = Place::new().train("good.jsonl", &lines("good", 50));
    let first = place.prepare().unwrap();
    std::fs::write(place.path("good.jsonl"), lines("other", 40) + "not json\n").unwrap();
    place.spec.on_bad_line = OnBadLine::Stop;
    assert!(place.refusal().contains("line 41 is not JSON"));
    std::fs::write(place.path("good.jsonl"), lines("good", 50)).unwrap();
    let again = place.prepare().unwrap();
    assert_eq!(again.domains, first.domains);
    again.verify_digests(&place.out()).unwrap();
}

#[test]
fn what_a_crash_left_behind_is_cleaned_and_so_are_shards_of_earlier_data() {
    let place = Place::new().train("a.jsonl", &lines("a", 9)).train("b.jsonl", &lines("b", 9));
    std::fs::create_dir(place.out()).unwrap();
    for left in ["tokenizer.json.part", "manifest.json.part", "train-007.bin.part", "train-007.bin"]
    {
        std::fs::write(place.out().join(left), "half").unwrap();
    }
    std::fs::write(place.out().join("notes.txt"), "not ours").unwrap();
    place.prepare().unwrap();
    let shards = |count: usize| {
        (0..count).flat_map(|n| [format!("train-{n:03}.bin"), format!("train-{n:03}.idx")])
    };
    let expected = |count: usize| {
        let mut names: Vec<String> = shards(count).collect();
        names.extend(
            ["manifest.json", "notes.txt", "prepare.lock", "tokenizer.json"].map(String::from),
        );
        names.sort();
        names
    };
    assert_eq!(place.names(), expected(2));
    let mut one = place.spec.clone();
    one.sources.pop();
    let place = Place { spec: one, ..place };
    place.prepare().unwrap().verify_digests(&place.out()).unwrap();
    assert_eq!(place.names(), expected(1));
}

/// A prepared place whose own tokenizer, in other bytes, is now the given one.
fn with_given_tokenizer() -> (Place, Manifest, PathBuf, String) {
    let mut place = Place::new().train("a.jsonl", &lines("a", 30));
    let trained = place.prepare().unwrap();
    let given = place.path("given.json");
    let text = std::fs::read_to_string(place.out().join("tokenizer.json")).unwrap() + "\n";
    std::fs::write(&given, &text).unwrap();
    (place.spec.tokenizer, place.spec.vocabulary) = (Some(given.clone()), None);
    (place, trained, given, text)
}

#[test]
fn a_given_tokenizer_is_used_byte_for_byte_and_a_changed_one_is_noticed() {
    let (place, trained, given, text) = with_given_tokenizer();
    let manifest = place.prepare().unwrap();
    assert_eq!(std::fs::read_to_string(place.out().join("tokenizer.json")).unwrap(), text);
    assert_eq!((manifest.vocabulary, &manifest.domains), (trained.vocabulary, &trained.domains));
    assert_ne!(manifest.tokenizer, trained.tokenizer);
    std::fs::write(&given, text + "\n").unwrap();
    assert_ne!(place.prepare().unwrap().tokenizer, manifest.tokenizer);
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
fn progress_comes_often_and_ends_at_the_total_of_every_phase() {
    let place =
        Place::new().train("a.jsonl", &lines("a", 3000)).train("b.jsonl", &lines("b", 2000));
    let mut seen: Vec<Progress> = Vec::new();
    prepare(&place.spec, &place.out(), &mut |progress| seen.push(progress)).unwrap();
    let size = |name: &str| std::fs::metadata(place.path(name)).unwrap().len();
    let encoding: Vec<_> = seen.iter().filter(|progress| progress.phase == "encoding").collect();
    assert!(encoding.len() > 15, "{}", encoding.len());
    assert!(encoding.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes));
    let expected = Progress {
        phase: "encoding",
        files: 2,
        files_total: 2,
        documents: 5000,
        bytes: size("a.jsonl") + size("b.jsonl"),
        bytes_total: size("a.jsonl") + size("b.jsonl"),
    };
    assert_eq!(**encoding.last().unwrap(), expected);
    let halfway = encoding.iter().any(|p| p.bytes > expected.bytes / 3 && p.bytes < expected.bytes);
    assert!(halfway, "bytes are told while a file is read");
    let sampled = seen.iter().rfind(|p| p.phase == "sampling for the tokenizer").unwrap();
    assert_eq!((sampled.bytes, sampled.bytes_total), (1 << 16, 1 << 16));
    assert!(seen.iter().any(|progress| progress.phase == "training the tokenizer"));
}

#[test]
fn two_preparations_at_once_give_one_whole_folder() {
    let place = Place::new().train("a.jsonl", &lines("a", 2000));
    let (spec, out): (&PrepareSpec, &Path) = (&place.spec, &place.out());
    let manifests: Vec<Manifest> = std::thread::scope(|scope| {
        let start = || scope.spawn(|| prepare(spec, out, &mut |_| {}).unwrap());
        [start(), start()].map(|thread| thread.join().unwrap()).into()
    });
    assert_eq!(manifests[0], manifests[1]);
    manifests[0].verify_digests(out).unwrap();
}
