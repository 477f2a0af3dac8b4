//! Whole preparations: a small corpus made here, and the bilingual corpora where they are at hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hm_data::*;
use hm_domain::mixture::Mixture;

fn source(path: &Path, format: Format, split: Split) -> SourceSpec {
    let (text_field, domain, domain_field) = (None, None, None);
    let domain_from = (format != Format::Pile).then_some(DomainFrom::FileName);
    let path = path.to_string_lossy().into();
    SourceSpec { path, format, text_field, domain, domain_from, domain_field, split }
}

fn spec(sources: Vec<SourceSpec>) -> PrepareSpec {
    PrepareSpec {
        sources,
        vocabulary: None,
        tokenizer: None,
        end_of_document: None,
        tokenizer_bytes_max: 1 << 20,
        on_bad_line: OnBadLine::Stop,
        validation: HoldOut::default(),
        folder: PathBuf::from("/"),
    }
}

fn run(spec: &PrepareSpec, root: &Path) -> Result<Prepared> {
    prepare(spec, root, Watch { tell: &mut |_| {}, stop: &|| false })
}

/// Two domains of short documents, each document naming itself, prepared as `out` in the folder.
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
    let prepared = run(&spec(sources), &folder.path().join("prepared")).unwrap();
    std::fs::rename(prepared.folder, folder.path().join("out")).unwrap();
    (folder, prepared.manifest)
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
fn preparing_again_reads_nothing_but_new_digests() {
    let (folder, manifest) = prepared();
    let stem = folder.path().join("out").join(&manifest.domains[0].segments[0].stem);
    assert_eq!(digest(&stem).unwrap(), manifest.domains[0].segments[0].digest);
    let sources = ["alpha", "beta"].map(|name| {
        source(&folder.path().join(format!("{name}.jsonl")), Format::Jsonl, Split::Train)
    });
    let (spec, root) = (spec(sources.into()), folder.path().join("prepared"));
    let first = run(&spec, &root).unwrap();
    let mut phases = Vec::new();
    let watch = Watch { tell: &mut |progress| phases.push(progress.phase), stop: &|| false };
    assert_eq!(prepare(&spec, &root, watch).unwrap(), first);
    // Files that were written just now are not taken as known.
    assert!(phases.iter().all(|phase| *phase == "looking for changed files"), "{phases:?}");
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
fn bilingual_corpora_give_six_domains_with_the_counts_of_their_readme() {
    let folder = std::env::var_os("HM_CORPORA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora"),
        PathBuf::from,
    );
    if !folder.is_dir() {
        let required = std::env::var_os("HM_REQUIRE_CORPORA").is_some();
        assert!(!required, "no corpora at {} (set HM_CORPORA)", folder.display());
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
    let Prepared { manifest, folder } = run(&spec(sources), out.path()).unwrap();
    let counts: Vec<(&str, u64)> = manifest
        .domains
        .iter()
        .map(|domain| (domain.name.as_str(), domain.segments[0].documents))
        .collect();
    let expected = [
        ("ManPages (en)", 1577),
        ("Manuals (en)", 3414),
        ("Python", 1086),
        // One of its 12392 is a copy of a held-out one.
        ("Quotes (en)", 12391),
        ("man-zh", 683),
        ("manual-zh", 94),
    ];
    assert_eq!(counts, expected);
    assert!(manifest.domains.iter().all(|domain| domain.validation.is_some()));
    every_document_is_encoded_as_it_would_be_whole(&folder, &manifest);
}

/// The product encodes long documents in pieces; the library, with the same file, is asked for the whole.
fn every_document_is_encoded_as_it_would_be_whole(folder: &Path, manifest: &Manifest) {
    let path = folder.join("tokenizer.json");
    let mut whole = tokenizers::Tokenizer::from_file(&path).unwrap();
    whole.set_encode_special_tokens(true);
    let (ours, _) = Tokenizer::read(&path).unwrap();
    let mut long = String::new();
    for segment in manifest.domains.iter().flat_map(|domain| &domain.segments) {
        let shard = Shard::open(&folder.join(&segment.stem)).unwrap();
        for document in 0..shard.documents().min(400) {
            let mut ids = Vec::new();
            let length = shard.length(document).unwrap();
            shard.copy(document, 0, length, &mut ids).unwrap();
            long += &ours.decode(&ids).unwrap();
        }
    }
    assert!(long.len() > 1 << 20, "{} bytes", long.len());
    let ids = whole.encode_fast(long.as_str(), false).unwrap().get_ids().to_vec();
    assert!(ours.encode_open(&long).unwrap() == ids);
}
