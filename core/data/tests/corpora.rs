//! Whole preparations: a small corpus made here, and the bilingual corpora where they are at hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hm_data::*;
use hm_domain::mixture::Mixture;

fn source(path: &Path, format: Format, split: Split) -> SourceSpec {
    let domain_from = DomainFrom::FileName;
    SourceSpec { path: path.to_string_lossy().into(), format, domain: None, domain_from, split }
}

fn spec(sources: Vec<SourceSpec>) -> PrepareSpec {
    PrepareSpec {
        sources,
        vocabulary: Some(400),
        tokenizer: None,
        tokenizer_bytes_max: 1 << 20,
        on_bad_line: OnBadLine::Stop,
        validation: HoldOut::default(),
    }
}

/// Two domains of short documents, each document naming itself.
fn prepared() -> (tempfile::TempDir, Manifest) {
    let folder = tempfile::tempdir().unwrap();
    let mut sources = Vec::new();
    for (name, count) in [("alpha", 23), ("beta", 7)] {
        let path = folder.path().join(format!("{name}.jsonl"));
        let lines: String =
            (0..count).map(|n| format!("{{\"text\":\"{name} number {n}\"}}\n")).collect();
        std::fs::write(&path, lines).unwrap();
        sources.push(source(&path, Format::Jsonl, Split::Train));
    }
    let manifest = prepare(&spec(sources), &folder.path().join("out"), &mut |_| {}).unwrap();
    (folder, manifest)
}

fn sampler(folder: &tempfile::TempDir) -> Sampler {
    Sampler::open(&folder.path().join("out"), 9, 16).unwrap()
}

#[test]
fn an_epoch_holds_every_document_once_whatever_the_mixture_does() {
    let (folder, manifest) = prepared();
    let (tokenizer, _) = Tokenizer::read(&folder.path().join("out/tokenizer.json")).unwrap();
    let mut sampler = sampler(&folder);
    let mut streams: [Vec<u32>; 2] = Default::default();
    for step in 0..200u64 {
        let weight = (step * 37 % 100) as f64 + 1.0;
        let mixture = Mixture::from_shares(step, &[weight, 50.0]).unwrap();
        for sequence in sampler.draw(&mixture, 4).unwrap().sequences {
            assert_eq!(sequence.tokens.len(), 17);
            let stream = &mut streams[sequence.domain.index()];
            if let Some(last) = stream.pop() {
                assert_eq!(last, sequence.tokens[0], "sequences overlap by one token");
            }
            stream.extend(sequence.tokens);
        }
    }
    for (domain, stream) in manifest.domains.iter().zip(&streams) {
        let epoch = domain.segments[0].tokens as usize;
        assert!(stream.len() > 2 * epoch, "two epochs were read");
        for start in [0, epoch] {
            let text = tokenizer.decode(&stream[start..start + epoch]).unwrap();
            let mut found: BTreeMap<usize, usize> = BTreeMap::new();
            for part in text.split(&format!("{} number ", domain.name)).skip(1) {
                *found.entry(part.trim().parse().unwrap()).or_default() += 1;
            }
            assert_eq!(found.len() as u64, domain.segments[0].documents);
            assert!(found.values().all(|&count| count == 1));
        }
    }
}

#[test]
fn a_resumed_sampler_draws_what_an_unbroken_one_would_have() {
    let (folder, _) = prepared();
    let mixture = Mixture::from_shares(0, &[0.7, 0.3]).unwrap();
    let mut unbroken = sampler(&folder);
    let mut resumed = sampler(&folder);
    for step in 0..60 {
        let batch = unbroken.draw(&mixture, 4).unwrap();
        let cursors: Vec<_> = batch.draws.iter().map(|draw| draw.to).collect();
        let carries: Vec<_> = batch.draws.iter().map(|draw| draw.carry).collect();
        assert_eq!(resumed.draw(&mixture, 4).unwrap(), batch, "step {step}");
        resumed = sampler(&folder);
        resumed.restore(&cursors, &carries).unwrap();
    }
}

#[test]
fn a_mixture_or_checkpoint_of_other_data_is_refused() {
    let (folder, _) = prepared();
    let mut sampler = sampler(&folder);
    let error = sampler.draw(&Mixture::from_shares(0, &[1.0; 3]).unwrap(), 4).unwrap_err();
    assert!(error.to_string().starts_with("a mixture for 3 domains"), "{error}");
    assert!(sampler.restore(&[], &[]).is_err());
}

#[test]
fn preparing_again_changes_nothing() {
    let (folder, manifest) = prepared();
    let stem = folder.path().join("out").join(&manifest.domains[0].segments[0].stem);
    assert_eq!(digest(&stem).unwrap(), manifest.domains[0].segments[0].digest);
    let sources = ["alpha", "beta"].map(|name| {
        source(&folder.path().join(format!("{name}.jsonl")), Format::Jsonl, Split::Train)
    });
    let mut calls = 0;
    let out = folder.path().join("out");
    assert_eq!(prepare(&spec(sources.into()), &out, &mut |_| calls += 1).unwrap(), manifest);
    assert_eq!(calls, 0, "nothing was read again");
}

#[test]
fn a_segment_appended_is_met_later_in_the_same_epoch_and_moves_no_cursor() {
    let (folder, mut manifest) = prepared();
    let out = folder.path().join("out");
    let mixture = Mixture::from_shares(0, &[1.0, 0.0]).unwrap();
    let mut before = sampler(&folder);
    let first = before.draw(&mixture, 4).unwrap();
    let cursors: Vec<_> = first.draws.iter().map(|draw| draw.to).collect();
    let carries: Vec<_> = first.draws.iter().map(|draw| draw.carry).collect();
    assert_eq!((cursors[0].epoch, cursors[0].segment), (0, 0));
    let added = manifest.domains[1].segments[0].clone();
    manifest.domains[0].segments.push(added);
    let text = serde_json::to_vec(&manifest).unwrap();
    std::fs::write(out.join("manifest.json"), text).unwrap();
    let mut after = sampler(&folder);
    after.restore(&cursors, &carries).unwrap();
    let mut segments = Vec::new();
    for _ in 0..40 {
        let to = after.draw(&mixture, 4).unwrap().draws[0].to;
        if to.epoch == 0 {
            segments.push(to.segment);
        }
    }
    assert!(segments.contains(&1), "{segments:?}");
    assert!(segments.is_sorted());
}

#[test]
fn a_damaged_shard_is_noticed_and_prepared_again() {
    let (folder, manifest) = prepared();
    let out = folder.path().join("out");
    manifest.verify_digests(&out).unwrap();
    let bin = out.join(format!("{}.bin", manifest.domains[0].segments[0].stem));
    let mut bytes = std::fs::read(&bin).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&bin, &bytes).unwrap();
    let error = manifest.verify_digests(&out).unwrap_err();
    assert!(error.to_string().contains("differs from the digest"), "{error}");
    std::fs::write(&bin, &bytes[..bytes.len() - 2]).unwrap();
    let sources = ["alpha", "beta"].map(|name| {
        source(&folder.path().join(format!("{name}.jsonl")), Format::Jsonl, Split::Train)
    });
    prepare(&spec(sources.into()), &out, &mut |_| {}).unwrap().verify_digests(&out).unwrap();
}

#[test]
fn a_domain_with_only_held_out_documents_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lonely.jsonl");
    std::fs::write(&path, "{\"text\":\"one\"}\n").unwrap();
    let spec = spec(vec![source(&path, Format::Jsonl, Split::Validation)]);
    let error = prepare(&spec, &folder.path().join("out"), &mut |_| {}).unwrap_err();
    let sentence = "domain `lonely` has no training documents: 1 held out, 0 without text";
    assert_eq!(error.to_string(), sentence);
}

#[test]
fn bilingual_corpora_give_six_domains_with_the_counts_of_their_readme() {
    let folder = std::env::var_os("HM_CORPORA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora"),
        PathBuf::from,
    );
    if !folder.is_dir() {
        eprintln!("skipped: no corpora at {} (set HM_CORPORA)", folder.display());
        return;
    }
    let file = |name: &str, format, split| source(&folder.join(name), format, split);
    let sources = vec![
        file("pile_like.jsonl.zst", Format::Pile, Split::Train),
        file("pile_like_val.jsonl.zst", Format::Pile, Split::Validation),
        file("wudao_like/man-zh.json", Format::Wudao, Split::Train),
        file("wudao_like/man-zh_val.json", Format::Wudao, Split::Validation),
        file("wudao_like/manual-zh.json", Format::Wudao, Split::Train),
        file("wudao_like/manual-zh_val.json", Format::Wudao, Split::Validation),
    ];
    let out = tempfile::tempdir().unwrap();
    let manifest = prepare(&spec(sources), out.path(), &mut |_| {}).unwrap();
    let counts: Vec<(&str, u64)> = manifest
        .domains
        .iter()
        .map(|domain| (domain.name.as_str(), domain.segments[0].documents))
        .collect();
    let expected = [
        ("ManPages (en)", 1577),
        ("Manuals (en)", 3414),
        ("Python", 1086),
        ("Quotes (en)", 12392),
        ("man-zh", 683),
        ("manual-zh", 94),
    ];
    assert_eq!(counts, expected);
    assert!(manifest.domains.iter().all(|domain| domain.validation.is_some()));
}
