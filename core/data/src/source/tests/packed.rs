//! Files that are packed, cut short or damaged.

use super::*;

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
            assert_eq!(report.cut_short.as_deref(), Some(first_bad(&report)));
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
fn a_file_is_read_as_what_it_is_whatever_its_ending_says() {
    for name in ["plain.jsonl.gz", "plain.jsonl.zst"] {
        let (_folder, path) = write(name, b"{\"text\":\"one\"}\n");
        let (documents, report) = read(&spec(Format::Jsonl), &path, OnBadLine::Skip);
        assert_eq!((documents.len(), report.unwrap().cut_short), (1, None), "{name}");
    }
}

#[test]
fn a_packed_file_is_unpacked_whatever_it_is_called() {
    let lines = many_lines();
    for packed in [gzip(&lines), zstd(&lines)] {
        for name in ["a.jsonl", "a.jsonl.GZ", "a.zstd", "a.jsonl.gz", "a.jsonl.zst"] {
            let (_folder, path) = write(name, &packed);
            let (documents, _) = read(&spec(Format::Jsonl), &path, OnBadLine::Stop);
            assert_eq!(documents.len(), 20_000, "{name}");
        }
    }
    let (_folder, path) = write("a.jsonl", b"PAR1\x15\x04");
    let said = read(&spec(Format::Jsonl), &path, OnBadLine::Skip).1.unwrap_err().to_string();
    assert!(said.contains("a.jsonl: is Parquet, which is not read here"), "{said}");
}

#[test]
fn how_often_the_part_that_was_read_is_in_the_file_is_known_packed_or_not() {
    let lines = many_lines();
    let packed = |bytes: &[u8]| [bytes.to_vec(), gzip(bytes), zstd(bytes)];
    let few = packed(&lines).map(|bytes| (bytes, 20_000.0));
    let many = packed(&lines.repeat(10)).map(|bytes| (bytes, 200_000.0));
    for (bytes, due) in few.into_iter().chain(many) {
        let (_folder, path) = write("a.jsonl", &bytes);
        let (mut taken, naming) = (0f64, Naming::Named("a".to_owned()));
        let report =
            spec(Format::Jsonl).read((&path, ""), &naming, manner(OnBadLine::Stop), &mut |_, _| {
                taken += 1.0;
                Ok(if taken == 300.0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            });
        let all = taken * report.unwrap().in_part.unwrap();
        assert!((all / due - 1.0).abs() < 0.1, "{all} for {due}");
    }
}

#[test]
fn the_widest_window_of_zstd_is_read() {
    let lines = many_lines();
    let mut packed = zstd::Encoder::new(Vec::new(), 1).unwrap();
    packed.window_log(31).unwrap();
    packed.long_distance_matching(true).unwrap();
    packed.write_all(&lines).unwrap();
    let (_folder, path) = write("long.jsonl.zst", &packed.finish().unwrap());
    let (documents, report) = read(&spec(Format::Jsonl), &path, OnBadLine::Stop);
    assert_eq!((documents.len(), report.unwrap().bad), (20_000, 0));
}
