//! What was found of every domain, and what of it cannot be prepared.

use std::collections::{BTreeMap, BTreeSet};

use crate::bad_lines::{self, BadLines};
use crate::error::{DataError, Result};
use crate::hold_out::{HoldOut, Side, Sides};
use crate::inputs::Input;
use crate::layout::Naming;
use crate::minimum::{self, HeldOut};
use crate::reading::{Document, ReadReport};
use crate::source::SourceSpec;
use crate::spec::PrepareSpec;

/// Most domains of a run: each has its place in every step of the log.
const DOMAINS_MAX: usize = 4096;
/// Lost domains that a warning names.
const DOMAINS_TOLD_MAX: usize = 6;

/// Documents of a domain.
#[derive(Clone, Debug, Default)]
struct Count {
    train: u64,
    held_out: u64,
    dropped: u64,
    blank: u64,
    by_hash: HeldOut,
}

/// Documents by domain.
#[derive(Default)]
pub(crate) struct Tally(BTreeMap<String, Count>);

impl Tally {
    /// One more document; its side, if it has text.
    ///
    /// # Errors
    /// When there are more domains than a run can steer.
    pub(crate) fn add(
        &mut self,
        input: &Input<'_>,
        document: &Document,
        sides: &mut Sides<'_>,
    ) -> Result<Side> {
        if self.0.len() == DOMAINS_MAX && !self.0.contains_key(&document.domain) {
            let (most, domain, path) = (DOMAINS_MAX, document.domain.clone(), input.path.clone());
            return Err(DataError::TooManyDomains { most, domain, path });
        }
        let count = match self.0.get_mut(&document.domain) {
            Some(count) => count,
            None => self.0.entry(document.domain.clone()).or_default(),
        };
        if document.is_blank() {
            count.blank += 1;
            return Ok(Side::Dropped);
        }
        let (side, draw) = sides.side_and_draw(input.source.split, document);
        if let Some(draw) = draw {
            count.by_hash.add(draw, sides.hold_out);
        }
        *match side {
            Side::Train => &mut count.train,
            Side::HeldOut => &mut count.held_out,
            Side::Dropped => &mut count.dropped,
        } += 1;
        Ok(side)
    }

    /// Refuses domains that nothing could be trained on, or too little is held out of; only those that
    /// `known` knows everything of.
    pub(crate) fn refuse_untrainable(
        &self,
        hold_out: &HoldOut,
        named: &BTreeSet<String>,
        known: &dyn Fn(&str) -> bool,
    ) -> Result<()> {
        let all = || self.0.iter().filter(|(domain, _)| known(domain));
        for (domain, Count { train, held_out, dropped, blank, .. }) in all() {
            if *train == 0 {
                let (held_out, blank, dropped) = (*held_out, *blank, *dropped);
                let domain = domain.clone();
                return Err(DataError::EmptyDomain { domain, held_out, blank, dropped });
            }
        }
        let by_hash = all().filter(|(domain, _)| !named.contains(*domain));
        minimum::refuse(hold_out, by_hash.map(|(domain, count)| (domain.as_str(), &count.by_hash)))
    }

    /// Domains that files name and no document came to: they are missing from the mixture.
    pub(crate) fn lost(
        &self,
        inputs: &[Input<'_>],
        known: &dyn Fn(&str) -> bool,
    ) -> Option<String> {
        let named = inputs.iter().filter_map(|input| match &input.naming {
            Naming::Named(name) => Some(name.as_str()),
            Naming::Field(_) => None,
        });
        let has_text = |name: &str| self.0.get(name).is_some_and(|c| c.train + c.held_out > 0);
        let lost: BTreeSet<&str> = named.filter(|name| known(name) && !has_text(name)).collect();
        let names: Vec<String> =
            lost.iter().take(DOMAINS_TOLD_MAX).map(|name| format!("`{name}`")).collect();
        let more = match lost.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let domains = if lost.len() == 1 { "domain" } else { "domains" };
        (!lost.is_empty()).then(|| {
            format!(
                "LOST: {domains} {}{more}: no line of its files could be used, and nothing of it is trained on",
                names.join(", ")
            )
        })
    }
}

/// Refuses sources that gave nothing to train on or to hold out: they say what was read.
pub(crate) fn refuse_empty_sources(
    spec: &PrepareSpec,
    inputs: &[Input<'_>],
    reports: &[ReadReport],
) -> Result<()> {
    spec.sources.iter().try_for_each(|source| {
        let own = inputs.iter().zip(reports).filter(|(of, _)| std::ptr::eq(of.source, source));
        refuse_empty(source, own.map(|(_, report)| report))
    })
}

fn refuse_empty<'a>(
    source: &SourceSpec,
    reports: impl Iterator<Item = &'a ReadReport>,
) -> Result<()> {
    let (mut files, mut blank, mut bad, mut reasons) = (0, 0, 0, Vec::new());
    for report in reports {
        if report.documents > 0 || report.in_part.is_some() {
            return Ok(());
        }
        files += 1;
        blank += report.blank;
        bad += report.bad;
        for reason in &report.reasons {
            let first = format!("in {}: {}", report.path.display(), reason.first);
            bad_lines::count(&mut reasons, BadLines { first, ..reason.clone() });
        }
    }
    let commonest = match bad_lines::commonest(&reasons) {
        Some(BadLines { count, first, .. }) if *count < bad => {
            format!("; {count} of them as {first}")
        }
        Some(BadLines { first, .. }) => format!("; the first {first}"),
        None => String::new(),
    };
    let source_path = source.path.clone();
    Err(DataError::EmptySource { source_path, files, blank, bad, commonest })
}
