//! The first look at all text: which domains there are, what is held out, and a sample. What cannot be
//! prepared is refused here, before anything is encoded. Files of validation come before all others: only
//! then it is known which domain has any, and which texts.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::error::{DataError, Result, at};
use crate::hold_out::{Side, Sides};
use crate::inputs::Input;
use crate::progress::Meter;
use crate::reading::{Document, ReadReport};
use crate::sample::Sample;
use crate::source::SourceSpec;
use crate::spec::PrepareSpec;

/// Most domains of a run: each has its place in every step of the log.
const DOMAINS_MAX: usize = 4096;

/// Documents of a domain.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    train: u64,
    held_out: u64,
    dropped: u64,
    blank: u64,
}

/// What there is.
pub(crate) struct Survey<'a> {
    /// Decides the same at the second reading.
    pub(crate) sides: Sides<'a>,
    /// Text that is trained on, by domain.
    pub(crate) sample: Vec<(String, String)>,
}

/// Reads everything once.
pub(crate) fn survey<'a>(
    spec: &'a PrepareSpec,
    inputs: &[Input<'_>],
    meter: &mut Meter<'_>,
) -> Result<Survey<'a>> {
    let mut sides = Sides::new(&spec.validation);
    let mut sample = Sample::new(spec.tokenizer_bytes_max);
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let reports = read_all(spec, inputs, "looking at all text", meter, &mut |input, document| {
        if counts.len() == DOMAINS_MAX && !counts.contains_key(&document.domain) {
            let (most, domain, path) = (DOMAINS_MAX, document.domain, input.path.clone());
            return Err(DataError::TooManyDomains { most, domain, path });
        }
        let count = counts.entry(document.domain.clone()).or_default();
        if document.is_blank() {
            count.blank += 1;
            return Ok(Placed::Side(Side::Dropped));
        }
        let side = sides.side(input.source.split, &document);
        match side {
            Side::Train => {
                count.train += 1;
                sample.offer(&document.domain, &document.text);
            }
            Side::HeldOut => count.held_out += 1,
            Side::Dropped => count.dropped += 1,
        }
        Ok(Placed::Side(side))
    })?;
    for source in &spec.sources {
        let of_source =
            inputs.iter().zip(&reports).filter(|(of, _)| std::ptr::eq(of.source, source));
        refuse_empty(source, of_source.map(|(_, report)| report))?;
    }
    refuse_untrainable(spec, &counts, &sides)?;
    Ok(Survey { sides, sample: sample.finish() })
}

/// What became of a document.
pub(crate) enum Placed {
    /// Its side.
    Side(Side),
    /// It counts as bad: why, as the end of a sentence that begins with its number.
    Unusable(String),
}

/// What to do with a document.
pub(crate) type Place<'a> = &'a mut dyn FnMut(&Input<'_>, Document) -> Result<Placed>;

/// Reads every file, document by document.
pub(crate) fn read_all(
    spec: &PrepareSpec,
    inputs: &[Input<'_>],
    phase: &'static str,
    meter: &mut Meter<'_>,
    place: Place<'_>,
) -> Result<Vec<ReadReport>> {
    let mut sizes = Vec::new();
    for input in inputs {
        sizes.push(std::fs::metadata(&input.path).map_err(at(&input.path))?.len());
    }
    meter.begin(phase, inputs.len(), sizes.iter().sum());
    let mut reports = Vec::new();
    for (input, size) in inputs.iter().zip(sizes) {
        let (mut number, mut in_validation, mut unusable) = (0u64, 0, Vec::new());
        let (names, stop) = ((input.path.as_path(), input.shown.as_str()), meter.stop());
        let mut take = |document: Document, bytes: u64| {
            number += 1;
            let has_text = !document.is_blank();
            match place(input, document)? {
                Placed::Side(Side::Dropped) => in_validation += u64::from(has_text),
                Placed::Side(_) => {}
                Placed::Unusable(reason) => unusable.push(format!("document {number} {reason}")),
            }
            meter.document(bytes);
            Ok(ControlFlow::Continue(()))
        };
        let mut report =
            input.source.read(names, &input.naming, spec.on_bad_line, stop, &mut take)?;
        report.in_validation = in_validation;
        report.set_aside(&input.path, spec.on_bad_line, unusable)?;
        reports.push(report);
        meter.file(size);
    }
    Ok(reports)
}

/// A source that gave nothing to train on or to hold out is a mistake: it says what was read.
fn refuse_empty<'a>(
    source: &SourceSpec,
    reports: impl Iterator<Item = &'a ReadReport>,
) -> Result<()> {
    let (mut files, mut blank, mut bad, mut first_bad) = (0, 0, 0, None);
    for report in reports {
        if report.documents > 0 {
            return Ok(());
        }
        files += 1;
        blank += report.blank;
        bad += report.bad;
        if let (None, Some(reason)) = (&first_bad, &report.first_bad) {
            first_bad = Some(format!("; the first in {}: {reason}", report.path.display()));
        }
    }
    let first_bad = first_bad.unwrap_or_default();
    let source_path = source.path.clone();
    Err(DataError::EmptySource { source_path, files, blank, bad, first_bad })
}

/// Refuses domains that nothing could be trained on, or too little is held out of.
fn refuse_untrainable(
    spec: &PrepareSpec,
    counts: &BTreeMap<String, Count>,
    sides: &Sides<'_>,
) -> Result<()> {
    let hold_out = &spec.validation;
    for (domain, &Count { train, held_out, dropped, blank }) in counts {
        let domain = domain.clone();
        if train == 0 {
            return Err(DataError::EmptyDomain { domain, held_out, blank, dropped });
        }
        let minimum = hold_out.minimum_documents;
        let by_hash = hold_out.fraction > 0.0 && !sides.named_domains().contains(&domain);
        if by_hash && held_out < minimum {
            return Err(DataError::TooFewHeldOut { domain, found: held_out, minimum });
        }
    }
    Ok(())
}
