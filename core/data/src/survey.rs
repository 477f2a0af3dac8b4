//! The first look at all text: which domains there are, what is held out, and a sample. What cannot be
//! prepared is refused here, before anything is encoded. Files of validation come before all others: only
//! then it is known which domain has any, and which texts.

use std::ops::ControlFlow;

use crate::error::{Result, at};
use crate::hold_out::{Side, Sides};
use crate::inputs::Input;
use crate::progress::Meter;
use crate::reading::{Document, Manner, ReadReport};
use crate::repeats::Copies;
use crate::sample::Sample;
use crate::spec::PrepareSpec;
use crate::tally::{Tally, refuse_empty_sources};

/// What there is.
pub(crate) struct Survey<'a> {
    /// Decides the same at the second reading.
    pub(crate) sides: Sides<'a>,
    /// Text that is trained on, by domain.
    pub(crate) sample: Vec<(String, String)>,
    /// Whether that is all of it.
    pub(crate) sample_is_all: bool,
    /// What a person should know, in sentences.
    pub(crate) warnings: Vec<String>,
}

/// Says of a text why its tokenizer cannot take it, if it cannot.
pub(crate) type Refuses<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads everything once.
pub(crate) fn survey<'a>(
    spec: &'a PrepareSpec,
    inputs: &[Input<'_>],
    refuses: Refuses<'_>,
    meter: &mut Meter<'_>,
) -> Result<Survey<'a>> {
    let mut sides = Sides::new(&spec.validation);
    let mut sample = Sample::new(spec.tokenizer_bytes_max);
    let (mut tally, mut copies, mut bytes) = (Tally::default(), Copies::new(inputs), 0);
    let reports = read_all(spec, inputs, "looking at all text", meter, &mut |place, document| {
        if let Some(reason) = refuses(&document.text) {
            return Ok(Placed::Unusable(reason));
        }
        let side = tally.add(&inputs[place], &document, &mut sides)?;
        copies.document(place, &document.text);
        if side == Side::Train {
            bytes += document.text.len();
            sample.offer(&document.domain, &document.text);
        }
        Ok(Placed::Side(side))
    })?;
    refuse_empty_sources(spec, inputs, &reports)?;
    let mut warnings = copies.refuse(&reports)?;
    let known = |_: &str| true;
    tally.refuse_untrainable(&spec.validation, inputs, sides.named_domains(), &known)?;
    warnings.extend(tally.lost(inputs, &known));
    warnings.extend(tally.json_as_text());
    let sample = sample.finish();
    let sample_is_all = sample.iter().map(|(_, text)| text.len()).sum::<usize>() == bytes;
    Ok(Survey { sides, sample, sample_is_all, warnings })
}

/// What became of a document.
pub(crate) enum Placed {
    /// Its side.
    Side(Side),
    /// It counts as bad: why, as the end of a sentence that begins with its number.
    Unusable(String),
}

/// What to do with a document of the input at this place.
pub(crate) type Place<'a> = &'a mut dyn FnMut(usize, Document) -> Result<Placed>;

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
    let manner = Manner { on_bad: spec.on_bad_line, stop: meter.stop(), bytes_max: u64::MAX };
    for (place_of_input, (input, size)) in inputs.iter().zip(sizes).enumerate() {
        let (mut number, mut in_validation, mut unusable) = (0u64, 0, Vec::new());
        let names = (input.path.as_path(), input.shown.as_str());
        let mut take = |document: Document, bytes: u64| {
            number += 1;
            let has_text = !document.is_blank();
            match place(place_of_input, document)? {
                Placed::Side(Side::Dropped) => in_validation += u64::from(has_text),
                Placed::Side(_) => {}
                Placed::Unusable(reason) => unusable.push((number, reason)),
            }
            meter.document(bytes);
            Ok(ControlFlow::Continue(()))
        };
        let mut report = input.source.read(names, &input.naming, manner, &mut take)?;
        report.in_validation = in_validation;
        report.set_aside(&input.path, spec.on_bad_line, unusable)?;
        reports.push(report);
        meter.file(size);
    }
    Ok(reports)
}
