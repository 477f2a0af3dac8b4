//! Where prepared data lies, and what becomes of a preparation that ends early or meets another.

mod place;

use hm_data::*;

use crate::place::{Place, lines, never};

#[test]
fn a_folder_is_named_by_content_and_never_written_to_again() {
    let place = Place::new().train("a.jsonl", &lines("a", 50));
    let first = place.prepare();
    let path = place.path("a.jsonl");
    let other = || std::fs::write(&path, lines("b", 50)).unwrap();
    let touched = std::fs::File::open(&path).unwrap();
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(place.prepare(), first, "a time is no content");
    other();
    let second = place.prepare();
    assert_ne!(second.folder, first.folder);
    assert_eq!(Manifest::read(&first.folder).unwrap(), first.manifest);
    first.manifest.verify_digests(&first.folder).unwrap();
    std::fs::write(&path, lines("a", 50)).unwrap();
    assert_eq!(place.prepare(), first, "the same again");
    let mut stricter = place.spec.clone();
    stricter.on_bad_line = OnBadLine::Stop;
    let place = Place { spec: stricter, ..place };
    assert_ne!(place.prepare().folder, first.folder, "settings count");
    assert_eq!(place.folders().len(), 3);
}

#[test]
fn projects_of_equal_names_and_other_data_never_meet_and_spellings_of_one_do() {
    let outer = tempfile::tempdir().unwrap();
    let mut folders = Vec::new();
    for (project, word) in [("one", "some"), ("two", "other")] {
        let folder = outer.path().join(project);
        std::fs::create_dir_all(folder.join("data")).unwrap();
        std::fs::write(folder.join("data/a.jsonl"), lines(word, 30)).unwrap();
        for spelling in [folder.clone(), folder.join("data/.."), folder.join(".")] {
            let mut place = Place::new().train("x.jsonl", "");
            place.spec.sources[0].path = "data/*.jsonl".to_owned();
            place.spec.resolve_paths(&spelling);
            let root = outer.path().join("prepared");
            let watch = Watch { tell: &mut |_| {}, stop: &never };
            folders.push(prepare(&place.spec, &root, watch).unwrap().folder);
        }
    }
    assert!(folders[..3].iter().all(|folder| *folder == folders[0]), "{folders:?}");
    assert!(folders[3..].iter().all(|folder| *folder == folders[3]), "{folders:?}");
    assert_ne!(folders[0], folders[3]);
}

#[test]
fn what_a_crash_left_behind_does_not_count_and_is_swept() {
    let place = Place::new().train("a.jsonl", &lines("a", 9));
    let left = place.root().join(".0123456789ab.part");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("train-000.bin"), "half").unwrap();
    let prepared = place.prepare();
    assert_eq!(place.folders(), [prepared.folder.file_name().unwrap().to_str().unwrap()]);
    let entries = std::fs::read_dir(&prepared.folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["manifest.json", "tokenizer.json", "train-000.bin", "train-000.idx"]);
}

#[test]
fn a_changed_shard_or_tokenizer_is_refused_by_name_with_both_digests() {
    let place = Place::new().train("a.jsonl", &lines("a", 9));
    let Prepared { manifest, folder } = place.prepare();
    let segment = &manifest.domains[0].segments[0];
    for (file, expected) in [
        ("train-000.bin", segment.digest),
        ("train-000.idx", segment.digest),
        ("tokenizer.json", manifest.tokenizer),
    ] {
        let path = folder.join(file);
        let whole = std::fs::read(&path).unwrap();
        let mut bent = whole.clone();
        bent[9] ^= 1;
        for bytes in [bent, whole[..whole.len() - 2].to_vec()] {
            std::fs::write(&path, bytes).unwrap();
            let refusal = place.refusal();
            let stem = file.strip_prefix("train").map_or(file, |_| "train-000");
            assert!(refusal.contains(&format!("{stem} has digest ")), "{refusal}");
            assert!(refusal.contains(&format!("but {expected} was prepared")), "{refusal}");
            assert!(refusal.contains("remove ") && refusal.contains("to prepare it again"));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(place.refusal().contains("has digest none ("));
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(place.prepare().manifest, manifest);
}

#[test]
fn a_preparation_that_is_asked_to_end_ends_in_every_phase_and_leaves_nothing() {
    let place = Place::new().train("a.jsonl", &lines("a", 3000));
    let mut phases = Vec::new();
    let tell = &mut |progress: Progress| {
        if phases.last() != Some(&progress.phase) {
            phases.push(progress.phase);
        }
    };
    prepare(&place.spec, &place.path("other"), Watch { tell, stop: &never }).unwrap();
    assert_eq!(phases.len(), 4, "{phases:?}");
    for phase in phases {
        let raised = std::cell::Cell::new(false);
        let tell = &mut |progress: Progress| raised.set(raised.get() | (progress.phase == phase));
        let stop = || raised.get();
        let stopped = prepare(&place.spec, &place.root(), Watch { tell, stop: &stop });
        // A small tokenizer may be trained before anybody looks: then it ends in the next phase.
        assert!(matches!(stopped, Err(DataError::Stopped)), "{phase}: {stopped:?}");
        assert_eq!(place.folders(), Vec::<String>::new(), "{phase}");
    }
    place.prepare();
}

#[test]
fn hundreds_of_domains_are_filled_with_few_files_open() {
    let open_files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut place = Place::new().train("part-0.jsonl", "");
    for number in 0..300 {
        std::fs::write(place.path(&format!("part-{number}.jsonl")), lines("word", 8)).unwrap();
    }
    place.spec.sources[0].path = "part-*.jsonl".to_owned();
    place.spec.validation = HoldOut { fraction: 0.3, minimum_documents: 0 };
    let before = open_files();
    let most = std::cell::Cell::new(0);
    let tell = &mut |_: Progress| most.set(most.get().max(open_files()));
    let manifest =
        prepare(&place.spec, &place.root(), Watch { tell, stop: &never }).unwrap().manifest;
    assert_eq!(manifest.domains.len(), 300);
    assert!(manifest.warnings[0].starts_with("300 files give 300 domains"));
    // Other tests of this process have some open as well.
    assert!(most.get() < before + 100, "{} files, {before} before", most.get());
}

#[test]
fn an_estimate_is_close_writes_nothing_and_gives_way_to_what_is_prepared() {
    let text = |count| lines("some words of a document that is a little longer", count);
    let mut place = Place::new()
        .train("small.jsonl", &text(500))
        .train("large.jsonl", &text(40_000))
        .held_out("small_val.jsonl", &text(50).replace("some", "held"));
    place.spec.validation.fraction = 0.1;
    place.spec.vocabulary = Some(300);
    let estimated = || {
        let watch = Watch { tell: &mut |_| {}, stop: &never };
        estimate(&place.spec, &place.root(), watch).unwrap()
    };
    let guess = estimated();
    assert!(!guess.is_prepared && !place.root().exists());
    let made = place.prepare();
    for (guess, made) in guess.manifest.domains.iter().zip(&made.manifest.domains) {
        assert_eq!(guess.name, made.name);
        let close = |guess: u64, made: u64| (guess as f64 / made as f64 - 1.0).abs() < 0.1;
        assert!(
            close(guess.segments[0].documents, made.segments[0].documents),
            "{guess:?} {made:?}"
        );
        assert!(close(guess.segments[0].tokens, made.segments[0].tokens), "{guess:?} {made:?}");
        assert!(close(guess.segments[0].bytes, made.segments[0].bytes), "{guess:?} {made:?}");
        let held = |entry: &DomainEntry| entry.validation.as_ref().unwrap().documents;
        assert!(close(held(guess), held(made)), "{guess:?} {made:?}");
    }
    assert_eq!(guess.manifest.vocabulary, made.manifest.vocabulary);
    let known = estimated();
    assert_eq!((known.is_prepared, known.manifest), (true, made.manifest));
}

#[test]
fn an_estimate_knows_every_domain_that_a_name_says_and_says_where_a_field_may_hide_one() {
    let mut place = Place::new().train("part-0.jsonl", "");
    for number in 0..300 {
        std::fs::write(
            place.path(&format!("part-{number}.jsonl")),
            lines(&format!("w{number}"), 8),
        )
        .unwrap();
    }
    place.spec.sources[0].path = "part-*.jsonl".to_owned();
    let estimated = |place: &Place| {
        let watch = Watch { tell: &mut |_| {}, stop: &never };
        estimate(&place.spec, &place.root(), watch).unwrap()
    };
    let guess = estimated(&place);
    assert_eq!((guess.manifest.domains.len(), guess.all_domains_known), (300, true));
    let line = |lang: &str, number: usize| {
        format!("{{\"text\":\"{}\",\"lang\":\"{lang}\"}}\n", format!("{number} words ").repeat(60))
    };
    let text: String = (0..16_000).map(|n| line(if n < 8000 { "en" } else { "zh" }, n)).collect();
    let mut place = Place::new().train("a.jsonl", &text);
    place.spec.sources[0].domain_field = Some("lang".to_owned());
    place.spec.sources[0].domain_from = None;
    let guess = estimated(&place);
    assert_eq!((guess.manifest.domains.len(), guess.all_domains_known), (1, false));
}

#[test]
fn an_estimate_of_packed_files_is_close() {
    let line = |number: u64| {
        let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{{\"text\":\"{noise:x} some words {number} that are alike {}\"}}\n", noise % 977)
    };
    let text: Vec<u8> = (0..2000).map(line).collect::<String>().into_bytes();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &text).unwrap();
    let (gzip, zstd) = (packed.finish().unwrap(), zstd::encode_all(&text[..], 3).unwrap());
    for (name, bytes) in [("plain", &text), ("gzip", &gzip), ("zstd", &zstd)] {
        let mut place = Place::new().train("part-0.jsonl", "");
        for number in 0..200 {
            std::fs::write(place.path(&format!("part-{number}.jsonl")), bytes).unwrap();
        }
        place.spec.sources[0].path = "part-*.jsonl".to_owned();
        let watch = Watch { tell: &mut |_| {}, stop: &never };
        let guess = estimate(&place.spec, &place.root(), watch).unwrap().manifest;
        let documents: u64 = guess.domains.iter().map(|domain| domain.segments[0].documents).sum();
        assert!((documents as f64 / 400_000.0 - 1.0).abs() < 0.1, "{name}: {documents}");
    }
}

#[test]
fn progress_comes_often_and_ends_at_the_total_of_every_phase() {
    let place =
        Place::new().train("a.jsonl", &lines("a", 3000)).train("b.jsonl", &lines("b", 2000));
    let mut seen: Vec<Progress> = Vec::new();
    let watch = Watch { tell: &mut |progress| seen.push(progress), stop: &never };
    prepare(&place.spec, &place.root(), watch).unwrap();
    let size = |name: &str| std::fs::metadata(place.path(name)).unwrap().len();
    let all = size("a.jsonl") + size("b.jsonl");
    for phase in ["looking at all text", "encoding"] {
        let told: Vec<_> = seen.iter().filter(|progress| progress.phase == phase).collect();
        assert!(told.len() > 15, "{}", told.len());
        assert!(told.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes));
        let (files, documents, bytes) = (2, 5000, all);
        let expected =
            Progress { phase, files, files_total: files, documents, bytes, bytes_total: bytes };
        assert_eq!(**told.last().unwrap(), expected);
        let halfway = told.iter().any(|p| p.bytes > all / 3 && p.bytes < all);
        assert!(halfway, "bytes are told while a file is read");
    }
    let compared = seen.iter().rfind(|p| p.phase == "looking for changed files").unwrap();
    assert_eq!((compared.bytes, compared.bytes_total), (all, all));
    assert!(seen.iter().any(|progress| progress.phase == "training the tokenizer"));
}

#[test]
fn two_preparations_at_once_give_one_whole_folder() {
    let place = Place::new().train("a.jsonl", &lines("a", 2000));
    let both: Vec<Prepared> = std::thread::scope(|scope| {
        let start = || {
            scope.spawn(|| {
                prepare(&place.spec, &place.root(), Watch { tell: &mut |_| {}, stop: &never })
                    .unwrap()
            })
        };
        [start(), start()].map(|thread| thread.join().unwrap()).into()
    });
    assert_eq!(both[0], both[1]);
    both[0].manifest.verify_digests(&both[0].folder).unwrap();
    assert_eq!(place.folders().len(), 1);
}
