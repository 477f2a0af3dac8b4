//! What holds of the sampler for any corpus, any mixtures and any place to break off.

use std::collections::BTreeMap;

use hm_data::*;
use hm_domain::batch::{Batch, Cursor};
use hm_domain::id::Digest;
use hm_domain::mixture::{Mixture, WEIGHT_TOTAL};
use hm_domain::precision::Precision;
use hm_domain::ramp::BatchRamp;
use hm_domain::spec::TrainingSpec;
use proptest::prelude::*;

const DOMAINS: usize = 3;

/// By domain and segment: the lengths of its documents.
type Lengths = Vec<Vec<Vec<usize>>>;

#[derive(Clone, Debug)]
struct Corpus {
    lengths: Lengths,
    seed: u64,
    sequence_length: u32,
}

fn corpus() -> impl Strategy<Value = Corpus> {
    let segment = prop::collection::vec(1usize..12, 0..6);
    let domain = prop::collection::vec(segment, 1..4)
        .prop_filter("a document to read", |segments| segments.iter().any(|s| !s.is_empty()));
    let lengths = prop::collection::vec(domain, DOMAINS);
    (lengths, any::<u64>(), 1u32..20).prop_map(|(lengths, seed, sequence_length)| Corpus {
        lengths,
        seed,
        sequence_length,
    })
}

/// A mixture and a batch size for every step; single domains may have no share at all.
fn steps() -> impl Strategy<Value = Vec<(Mixture, u32)>> {
    let shares = prop::collection::vec(prop_oneof![Just(0u32), 1u32..1000], DOMAINS)
        .prop_filter("some share", |shares| shares.iter().any(|&share| share > 0));
    let mixture = shares.prop_map(|shares| {
        let shares: Vec<f64> = shares.into_iter().map(f64::from).collect();
        Mixture::from_shares(0, &shares).unwrap()
    });
    prop::collection::vec((mixture, 1u32..9), 1..40)
}

/// The corpus on disk. Document n of a domain, counted over its segments, is n over and over.
struct Prepared {
    folder: tempfile::TempDir,
    corpus: Corpus,
}

impl Prepared {
    fn new(corpus: Corpus) -> Prepared {
        let folder = tempfile::tempdir().unwrap();
        let domains = corpus.lengths.iter().enumerate().map(|(domain, segments)| {
            let mut number = 0u32;
            let segments = segments.iter().enumerate().map(|(segment, lengths)| {
                let stem = format!("train-{domain}{segment}");
                let mut writer = ShardWriter::create(&folder.path().join(&stem), 1000).unwrap();
                for &length in lengths {
                    writer.add(&vec![number; length]).unwrap();
                    number += 1;
                }
                let (digest, tokens) = writer.finish().unwrap();
                let documents = lengths.len() as u64;
                SegmentEntry { stem, digest, documents, tokens, bytes: tokens }
            });
            let segments = segments.collect();
            let name = domain.to_string();
            DomainEntry { name, segments, validation: None, held_out_by_hash: true }
        });
        let manifest = Manifest {
            spec: Digest::ZERO,
            origin: Origin::default(),
            tokenizer: Digest::ZERO,
            vocabulary: 1000,
            end_of_document: END_OF_DOCUMENT.to_owned(),
            domains: domains.collect(),
            files: Vec::new(),
            warnings: Vec::new(),
        };
        let text = serde_json::to_vec(&manifest).unwrap();
        std::fs::write(folder.path().join("manifest.json"), text).unwrap();
        Prepared { folder, corpus }
    }

    fn sampler(&self) -> Sampler {
        let Corpus { seed, sequence_length, .. } = self.corpus;
        Sampler::open(self.folder.path(), seed, sequence_length).unwrap()
    }

    /// The first `tokens` and more of a domain's stream, drawn with nothing else in the mixture.
    fn alone(&self, domain: usize, tokens: usize) -> Vec<u32> {
        let mut shares = [0.0; DOMAINS];
        shares[domain] = 1.0;
        let mixture = Mixture::from_shares(0, &shares).unwrap();
        let (mut sampler, mut streams) = (self.sampler(), Streams::default());
        while streams.0[domain].len() <= tokens {
            streams.add(&sampler.draw(&mixture, 4).unwrap());
        }
        std::mem::take(&mut streams.0[domain])
    }
}

/// What was drawn of each domain, joined: sequences overlap by one token.
#[derive(Default)]
struct Streams([Vec<u32>; DOMAINS]);

impl Streams {
    fn add(&mut self, batch: &Batch) {
        for sequence in &batch.sequences {
            let stream = &mut self.0[sequence.domain.index()];
            let overlap = stream.pop();
            assert!(overlap.is_none_or(|last| last == sequence.tokens[0]));
            stream.extend(&sequence.tokens);
        }
    }
}

fn cursors_and_carries(batch: &Batch) -> (Vec<Cursor>, Vec<i64>) {
    batch.draws.iter().map(|draw| (draw.to, draw.carry)).unzip()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_mixture_or_batch_size_moves_repeats_or_loses_a_document(corpus in corpus(), steps in steps()) {
        let prepared = Prepared::new(corpus);
        let (mut sampler, mut streams) = (prepared.sampler(), Streams::default());
        let mut stands = [Cursor::default(); DOMAINS];
        for (mixture, sequences) in &steps {
            let batch = sampler.draw(mixture, *sequences).unwrap();
            for (stand, draw) in stands.iter_mut().zip(&batch.draws) {
                prop_assert_eq!(*stand, draw.from, "a draw begins where the last one ended");
                prop_assert!(draw.sequences > 0 || draw.from == draw.to);
                *stand = draw.to;
            }
            streams.add(&batch);
        }
        for (domain, stream) in streams.0.iter().enumerate() {
            // What other domains were given, and when, leaves no trace in this one.
            let alone = prepared.alone(domain, stream.len());
            prop_assert_eq!(stream, &alone[..stream.len()]);
        }
    }

    #[test]
    fn every_epoch_reads_every_document_once_and_segments_in_order(corpus in corpus()) {
        let prepared = Prepared::new(corpus);
        for (domain, segments) in prepared.corpus.lengths.iter().enumerate() {
            let lengths: Vec<usize> = segments.iter().flatten().copied().collect();
            let epoch: usize = lengths.iter().sum();
            let stream = prepared.alone(domain, 3 * epoch);
            for tokens in stream.chunks_exact(epoch).take(3) {
                let runs: Vec<&[u32]> = tokens.chunk_by(|a, b| a == b).collect();
                let read: BTreeMap<u32, usize> =
                    runs.iter().map(|run| (run[0], run.len())).collect();
                prop_assert_eq!(runs.len(), lengths.len(), "documents are never broken up");
                prop_assert_eq!(read, (0..).zip(lengths.iter().copied()).collect());
                let mut starts = 0;
                for segment in segments {
                    let own = starts as u32..(starts + segment.len()) as u32;
                    prop_assert!(runs[starts..starts + segment.len()].iter().all(|r| own.contains(&r[0])));
                    starts += segment.len();
                }
            }
        }
    }

    #[test]
    fn batch_is_drawn_again_from_its_cursors_alone_and_its_pieces_are_its_documents(
        corpus in corpus(),
        steps in steps(),
    ) {
        let prepared = Prepared::new(corpus);
        let (mut sampler, again) = (prepared.sampler(), prepared.sampler());
        for (mixture, sequences) in &steps {
            let (cursors, carries) = sampler.state();
            let from = (cursors.to_vec(), carries.to_vec());
            let batch = sampler.draw(mixture, *sequences).unwrap();
            let mut drawn = vec![Vec::new(); batch.sequences.len()];
            let found = again.draw_at((&from.0, &from.1), mixture, *sequences, &mut |piece| {
                // A document is its number in its domain, over and over.
                let before = &prepared.corpus.lengths[piece.domain.index()][..piece.segment as usize];
                let before: usize = before.iter().map(Vec::len).sum();
                let count = (piece.tokens.end - piece.tokens.start) as usize;
                drawn[piece.sequence].extend(vec![before as u32 + piece.document as u32; count]);
            });
            prop_assert_eq!(&found.unwrap(), &batch);
            let tokens: Vec<_> = batch.sequences.iter().map(|it| it.tokens.clone()).collect();
            prop_assert_eq!(drawn, tokens);
        }
        let outside = Cursor { segment: 9, ..Cursor::default() };
        let (mixture, _) = &steps[0];
        let drawn = again.draw_at((&[outside; DOMAINS], &[0; DOMAINS]), mixture, 1, &mut |_| ());
        let is_refused = matches!(drawn, Err(DataError::Cursor { .. }));
        prop_assert!(is_refused, "a cursor outside the shards");
    }

    #[test]
    fn restored_anywhere_it_draws_what_it_would_have_drawn(
        corpus in corpus(),
        steps in steps(),
        place: prop::sample::Index,
    ) {
        let prepared = Prepared::new(corpus);
        let mut unbroken = prepared.sampler();
        let breaks_after = place.index(steps.len());
        let mut resumed = prepared.sampler();
        for (step, (mixture, sequences)) in steps.iter().enumerate() {
            let batch = unbroken.draw(mixture, *sequences).unwrap();
            if step <= breaks_after {
                let (cursors, carries) = cursors_and_carries(&batch);
                prop_assert_eq!(unbroken.state(), (&cursors[..], &carries[..]));
                resumed.restore(&cursors, &carries).unwrap();
            } else {
                prop_assert_eq!(resumed.draw(mixture, *sequences).unwrap(), batch);
            }
        }
    }

    /// A ramp goes by the sequences drawn so far, which a resumed run counts from its log.
    #[test]
    fn resumed_ramp_matches_unbroken_ramp(
        corpus in corpus(),
        steps in steps(),
        ramp in (1u32..4, 1u32..4, 1u32..5, 1u64..60),
        place: prop::sample::Index,
    ) {
        let (from, by, increments, over_sequences) = ramp;
        let training = TrainingSpec {
            steps: 100,
            sequences_per_step: from + by * increments,
            micro_batch_sequences: 2,
            recompute_blocks: false,
            precision: Precision::F32,
            z_loss: 0.0,
            batch_ramp: Some(BatchRamp { from, by, over_sequences }),
        };
        let prepared = Prepared::new(corpus);
        let (mut unbroken, mut drawn, mut log) = (prepared.sampler(), 0, Vec::new());
        for (mixture, _) in &steps {
            let batch = unbroken.draw(mixture, training.sequences_at(drawn)).unwrap();
            drawn += batch.sequences.len() as u64;
            log.push(batch);
        }
        let kept = place.index(steps.len());
        let (cursors, carries) = cursors_and_carries(&log[kept]);
        let count = |batch: &Batch| batch.draws.iter().map(|draw| u64::from(draw.sequences)).sum::<u64>();
        let mut drawn: u64 = log[..=kept].iter().map(count).sum();
        let mut resumed = prepared.sampler();
        resumed.restore(&cursors, &carries).unwrap();
        for ((mixture, _), batch) in steps.iter().zip(&log).skip(kept + 1) {
            prop_assert_eq!(&resumed.draw(mixture, training.sequences_at(drawn)).unwrap(), batch);
            drawn += count(batch);
        }
    }

    #[test]
    fn every_domain_is_served_to_within_a_bounded_number_of_sequences_of_its_due(
        corpus in corpus(),
        steps in steps(),
    ) {
        let prepared = Prepared::new(corpus);
        let mut sampler = prepared.sampler();
        let (mut due, mut served) = ([0i128; DOMAINS], [0i128; DOMAINS]);
        for (mixture, sequences) in &steps {
            let batch = sampler.draw(mixture, *sequences).unwrap();
            let sequences = i128::from(*sequences);
            prop_assert_eq!(batch.sequences.len() as i128, sequences);
            prop_assert_eq!(batch.draws.iter().map(|draw| draw.carry).sum::<i64>(), 0);
            for (domain, draw) in batch.draws.iter().enumerate() {
                due[domain] += i128::from(mixture.weights[domain]) * sequences;
                served[domain] += i128::from(draw.sequences) * i128::from(WEIGHT_TOTAL);
                let error = due[domain] - served[domain];
                prop_assert_eq!(error, i128::from(draw.carry));
                prop_assert!(error.abs() <= (DOMAINS as i128) * i128::from(WEIGHT_TOTAL));
            }
        }
    }

    #[test]
    fn cursors_of_other_data_are_refused_and_change_nothing(
        corpus in corpus(),
        cursor in (0u32..5, 0u32..5, 0u64..9, 0u64..15),
        domain in 0..DOMAINS,
    ) {
        let prepared = Prepared::new(corpus);
        let mut sampler = prepared.sampler();
        let (epoch, segment, rank, token_offset) = cursor;
        let mut cursors = vec![Cursor::default(); DOMAINS];
        cursors[domain] = Cursor { epoch, segment, rank, token_offset };
        let even = Mixture::from_shares(0, &[1.0; DOMAINS]).unwrap();
        let segments = &prepared.corpus.lengths[domain];
        let outside = segment as usize > segments.len()
            || rank > segments.get(segment as usize).map_or(0, |segment| segment.len() as u64)
            || token_offset > 11;
        match sampler.restore(&cursors, &[0; DOMAINS]) {
            // A cursor that is let in can be drawn from.
            Ok(()) => {
                prop_assert!(!outside);
                sampler.draw(&even, 4).unwrap();
            }
            Err(error) => {
                prop_assert!(error.to_string().starts_with("the cursor of domain"), "{error}");
                let untouched = prepared.sampler().draw(&even, 4).unwrap();
                prop_assert_eq!(sampler.draw(&even, 4).unwrap(), untouched);
            }
        }
    }
}
