//! Chooses which tokens the next step sees: domain-pure sequences, integer quotas, cursors.
//!
//! A draw depends on seed, cursors, carried errors, the mixture and the number of sequences alone, so a
//! resumed run sees what an unbroken one would have. A mixture change never moves a cursor.

use std::ops::Range;
use std::path::Path;

use hm_domain::batch::{Batch, Cursor, DomainDraw, Sequence};
use hm_domain::id::DomainId;
use hm_domain::mixture::{Mixture, quotas};
use serde::Serialize;

use crate::error::{DataError, Result};
use crate::manifest::Manifest;
use crate::permutation::Permutation;
use crate::shard::Shard;

/// Shards whose files stay open, of all domains together: well below the 256 files that some systems allow.
const KEPT_OPEN_MAX: usize = 64;

/// What a sequence holds of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// Position of the sequence in its batch.
    pub sequence: usize,
    /// Its domain.
    pub domain: DomainId,
    /// Full passes over the domain before.
    pub epoch: u32,
    /// Position in the domain's ordered list of segments.
    pub segment: u32,
    /// The document's number in the segment's shard, from 0.
    pub document: u64,
    /// Its tokens. The last one of a sequence is a target only, and comes again in the next.
    pub tokens: Range<u64>,
}

struct Source {
    segments: Vec<Shard>,
    validation: Option<Shard>,
}

/// Draws the batches of one run.
pub struct Sampler {
    sources: Vec<Source>,
    seed: u64,
    sequence_length: usize,
    cursors: Vec<Cursor>,
    carries: Vec<i64>,
}

impl Sampler {
    /// Opens the shards of a prepared folder; domains in the manifest's order.
    pub fn open(folder: &Path, seed: u64, sequence_length: u32) -> Result<Sampler> {
        let manifest = Manifest::read(folder)?;
        let (mut sources, mut opened) = (Vec::new(), 0);
        let mut open = |stem: &str| -> Result<Shard> {
            let mut shard = Shard::open(&folder.join(stem))?;
            opened += 1;
            if opened > KEPT_OPEN_MAX {
                shard.close();
            }
            Ok(shard)
        };
        for domain in &manifest.domains {
            let segments = domain
                .segments
                .iter()
                .map(|segment| open(&segment.stem))
                .collect::<Result<Vec<_>>>()?;
            if segments.iter().all(|shard| shard.documents() == 0) {
                let (domain, why) = (domain.name.clone(), "none was prepared".to_owned());
                return Err(DataError::EmptyDomain { domain, why });
            }
            let validation = match &domain.validation {
                Some(segment) => Some(open(&segment.stem)?),
                None => None,
            };
            sources.push(Source { segments, validation });
        }
        let count = sources.len();
        Ok(Sampler {
            sources,
            seed,
            sequence_length: sequence_length as usize,
            cursors: vec![Cursor::default(); count],
            carries: vec![0; count],
        })
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// When it holds another number of domains, or a cursor points outside these shards. Nothing has
    /// changed then.
    pub fn restore(&mut self, cursors: &[Cursor], carries: &[i64]) -> Result<()> {
        self.check(cursors, carries)?;
        self.cursors = cursors.to_vec();
        self.carries = carries.to_vec();
        Ok(())
    }

    fn check(&self, cursors: &[Cursor], carries: &[i64]) -> Result<()> {
        self.fits("cursors", cursors.len())?;
        self.fits("carried errors", carries.len())?;
        cursors
            .iter()
            .enumerate()
            .try_for_each(|(domain, cursor)| self.check_cursor(domain, cursor))
    }

    fn check_cursor(&self, domain: usize, cursor: &Cursor) -> Result<()> {
        let within = |what, found: u64, has: u64| {
            if found <= has { Ok(()) } else { Err(DataError::Cursor { domain, what, found, has }) }
        };
        let segments = &self.sources[domain].segments;
        within("segment", cursor.segment.into(), segments.len() as u64)?;
        // Past the last segment and past a segment's last document there is nothing left to be inside of.
        let shard = segments.get(cursor.segment as usize);
        let documents = shard.map_or(0, Shard::documents);
        within("document", cursor.rank, documents)?;
        let length = match shard {
            Some(shard) if cursor.rank < documents => {
                shard.length(self.order(domain, cursor, shard).at(cursor.rank))?
            }
            _ => 0,
        };
        within("token", cursor.token_offset, length as u64)
    }

    /// The order in which a segment is read in the cursor's epoch.
    fn order(&self, domain: usize, cursor: &Cursor, shard: &Shard) -> Permutation {
        let (epoch, segment) = (cursor.epoch, cursor.segment);
        Permutation::new(shard.documents(), self.seed, domain as u32, epoch, segment)
    }

    fn fits(&self, what: &'static str, got: usize) -> Result<()> {
        let expected = self.sources.len();
        if got == expected { Ok(()) } else { Err(DataError::OtherData { what, got, expected }) }
    }

    /// Cursors and carried errors, for a checkpoint.
    pub fn state(&self) -> (&[Cursor], &[i64]) {
        (&self.cursors, &self.carries)
    }

    /// The next step's `sequences` under `mixture`: how many is the run's to say, at every step anew.
    ///
    /// # Errors
    /// When the mixture is over another number of domains, or the shards cannot be read. Nothing has changed
    /// then.
    pub fn draw(&mut self, mixture: &Mixture, sequences: u32) -> Result<Batch> {
        let batch = self.drawn(&self.cursors, &self.carries, mixture, sequences, &mut |_| ())?;
        self.cursors = batch.draws.iter().map(|draw| draw.to).collect();
        self.carries = batch.draws.iter().map(|draw| draw.carry).collect();
        Ok(batch)
    }

    /// The same from any cursors and carried errors, wherever this sampler stands. `seen` hears of every
    /// piece of a document, in the order of the batch.
    ///
    /// # Errors
    /// Also as [`Sampler::restore`] has them.
    pub fn draw_at(
        &self,
        (cursors, carries): (&[Cursor], &[i64]),
        mixture: &Mixture,
        sequences: u32,
        seen: &mut dyn FnMut(Piece),
    ) -> Result<Batch> {
        self.check(cursors, carries)?;
        self.drawn(cursors, carries, mixture, sequences, seen)
    }

    fn drawn(
        &self,
        cursors: &[Cursor],
        carries: &[i64],
        mixture: &Mixture,
        sequences: u32,
        seen: &mut dyn FnMut(Piece),
    ) -> Result<Batch> {
        self.fits("a mixture", mixture.weights.len())?;
        let mut carries = carries.to_vec();
        let counts = quotas(mixture, sequences, &mut carries);
        let mut batch = Batch { sequences: Vec::new(), draws: Vec::new() };
        for (index, &count) in counts.iter().enumerate() {
            let (from, domain) = (cursors[index], DomainId(index as u32));
            let mut cursor = from;
            for _ in 0..count {
                let sequence = batch.sequences.len();
                let tokens = self.take(index, &mut cursor, &mut |cursor, document, tokens| {
                    let Cursor { epoch, segment, .. } = *cursor;
                    seen(Piece { sequence, domain, epoch, segment, document, tokens });
                })?;
                batch.sequences.push(Sequence { domain, tokens });
            }
            let carry = carries[index];
            batch.draws.push(DomainDraw { sequences: count, from, to: cursor, carry });
        }
        Ok(batch)
    }

    /// `sequence_length + 1` tokens; the last one is the first of the next sequence. `seen` hears of every
    /// document's tokens in it.
    fn take(
        &self,
        index: usize,
        cursor: &mut Cursor,
        seen: &mut dyn FnMut(&Cursor, u64, Range<u64>),
    ) -> Result<Vec<u32>> {
        let segments = &self.sources[index].segments;
        let mut tokens = Vec::with_capacity(self.sequence_length + 1);
        let mut reading = *cursor;
        while tokens.len() <= self.sequence_length {
            // The last token wanted is looked at, not consumed.
            if tokens.len() == self.sequence_length {
                *cursor = reading;
            }
            let Some(shard) = segments.get(reading.segment as usize) else {
                reading = Cursor { epoch: reading.epoch + 1, ..Cursor::default() };
                continue;
            };
            if reading.rank == shard.documents() {
                let segment = reading.segment + 1;
                reading = Cursor { epoch: reading.epoch, segment, rank: 0, token_offset: 0 };
                continue;
            }
            let document = self.order(index, &reading, shard).at(reading.rank);
            let length = shard.length(document)?;
            let start = reading.token_offset as usize;
            let stop = if tokens.len() == self.sequence_length {
                1
            } else {
                self.sequence_length - tokens.len()
            };
            let end = length.min(start + stop);
            shard.copy(document, start, end, &mut tokens)?;
            seen(&reading, document, start as u64..end as u64);
            reading.token_offset = end as u64;
            if end == length {
                reading.rank += 1;
                reading.token_offset = 0;
            }
        }
        Ok(tokens)
    }

    /// Held-out sequences, a batch a domain, from the start of its held-out documents in file order.
    ///
    /// # Errors
    /// When the shards cannot be read.
    pub fn validation_batches(&self, sequences_per_domain: u32) -> Result<Vec<Batch>> {
        let mut batches = Vec::new();
        for (index, source) in self.sources.iter().enumerate() {
            let Some(shard) = &source.validation else { continue };
            let wanted = sequences_per_domain as usize * self.sequence_length + 1;
            let mut tokens = Vec::new();
            for document in 0..shard.documents() {
                if tokens.len() >= wanted {
                    break;
                }
                let length = shard.length(document)?.min(wanted - tokens.len());
                shard.copy(document, 0, length, &mut tokens)?;
            }
            let sequences: Vec<Sequence> = (0..tokens.len().saturating_sub(1)
                / self.sequence_length)
                .map(|place| {
                    let start = place * self.sequence_length;
                    let tokens = tokens[start..=start + self.sequence_length].to_vec();
                    Sequence { domain: DomainId(index as u32), tokens }
                })
                .collect();
            if !sequences.is_empty() {
                batches.push(Batch { sequences, draws: Vec::new() });
            }
        }
        Ok(batches)
    }
}
