//! Whether every domain holds out as many documents as the run file asks for, and if not, what would do.

use std::collections::BinaryHeap;

use crate::error::{DataError, Result};
use crate::hold_out::HoldOut;
use crate::manifest::Manifest;

/// Domains that a refusal names.
const DOMAINS_TOLD_MAX: usize = 6;
/// Draws that are kept of each domain: up to that minimum the fraction is told exactly.
const DRAWS_MAX: u64 = 4096;
/// A larger share held out to reach the minimum is no help: the domain is too small.
const FRACTION_MAX: f64 = 0.5;

/// What is held out of one domain, by hash.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldOut {
    /// Documents held out.
    pub(crate) count: u64,
    /// Documents that it was drawn from.
    pub(crate) of: u64,
    /// The lowest draws of these: those that a larger fraction would hold out next.
    lowest: BinaryHeap<u64>,
}

impl HeldOut {
    /// So many documents, of which nothing more is known.
    pub(crate) fn about(count: u64, of: u64) -> HeldOut {
        HeldOut { count, of, lowest: BinaryHeap::new() }
    }

    /// One more document, with its draw.
    pub(crate) fn add(&mut self, draw: u64, hold_out: &HoldOut) {
        self.of += 1;
        self.count += u64::from(hold_out.holds_out(draw));
        self.lowest.push(draw);
        if self.lowest.len() as u64 > hold_out.minimum_documents.min(DRAWS_MAX) {
            self.lowest.pop();
        }
    }

    /// Documents that may come out where this is an estimate: three deviations more are not to be expected.
    pub(crate) fn at_most(&self) -> u64 {
        let count = self.count as f64;
        (count + 3.0 * count.sqrt()).ceil() as u64
    }

    /// A fraction that holds out enough.
    fn would_do(&self, minimum: u64) -> Option<f64> {
        let highest = self.lowest.peek().filter(|_| self.lowest.len() as u64 == minimum);
        let fraction = match highest {
            Some(draw) => (*draw as f64 + 1.0) / u64::MAX as f64,
            // So many that three deviations fewer are enough.
            None => ((3.0 + (9.0 + 4.0 * minimum as f64).sqrt()) / 2.0).powi(2) / self.of as f64,
        };
        let rounded = rounded_up(fraction);
        (rounded <= FRACTION_MAX).then_some(rounded)
    }
}

/// The next number of two digits.
fn rounded_up(fraction: f64) -> f64 {
    let scale = 10f64.powi(1 - fraction.log10().floor() as i32);
    let mut digits = (fraction * scale).ceil();
    // Exactly this fraction would not do.
    if digits / scale <= fraction {
        digits += 1.0;
    }
    digits / scale
}

/// Refuses domains of which too little is held out, all of them at once.
pub(crate) fn refuse<'a>(
    hold_out: &HoldOut,
    domains: impl Iterator<Item = (&'a str, &'a HeldOut)>,
) -> Result<()> {
    let minimum = hold_out.minimum_documents;
    let lacking: Vec<_> = domains.filter(|(_, held_out)| held_out.count < minimum).collect();
    if hold_out.fraction == 0.0 || lacking.is_empty() {
        return Ok(());
    }
    let (mut small, mut fraction) = (Vec::new(), 0f64);
    for (name, held_out) in &lacking {
        match held_out.would_do(minimum) {
            Some(would_do) => fraction = fraction.max(would_do),
            None => small.push(format!("`{name}`")),
        }
    }
    let mut remedies = Vec::new();
    if fraction > 0.0 {
        let rest = if small.is_empty() { "" } else { " for the others" };
        remedies.push(format!("data.validation.fraction {fraction} would do{rest}"));
    }
    if !small.is_empty() {
        remedies.push(format!(
            "{} too few documents to hold out of: name held-out files in a source with `split: validation`, or join domains with `domain`",
            some(&small, if small.len() == 1 { "has" } else { "have" })
        ));
    }
    remedies.push("data.validation.minimum_documents 0 lets domains go without".to_owned());
    let found = |(name, held_out): &(&str, &HeldOut)| {
        format!("domain `{name}` {} of {}", held_out.count, held_out.of)
    };
    let found: Vec<String> = lacking.iter().map(found).collect();
    Err(DataError::TooFewHeldOut {
        found: some(&found, "").trim_end().to_owned(),
        fraction: hold_out.fraction,
        minimum,
        remedies: remedies.join("; "),
    })
}

/// The first few of these words, and another behind them.
fn some(words: &[String], behind: &str) -> String {
    let head = words[..words.len().min(DOMAINS_TOLD_MAX)].join(", ");
    match words.len().saturating_sub(DOMAINS_TOLD_MAX) {
        0 => format!("{head} {behind}"),
        more => format!("{head} and {more} more {behind}"),
    }
}

/// Refuses a folder that was prepared when the run file asked for less: how much is asked for is no content.
pub(crate) fn refuse_prepared(hold_out: &HoldOut, manifest: &Manifest) -> Result<()> {
    let by_hash = manifest.domains.iter().filter(|domain| domain.held_out_by_hash);
    let counts: Vec<(&str, HeldOut)> = by_hash
        .map(|domain| {
            let train: u64 = domain.segments.iter().map(|segment| segment.documents).sum();
            let held_out = domain.validation.as_ref().map_or(0, |segment| segment.documents);
            (domain.name.as_str(), HeldOut::about(held_out, train + held_out))
        })
        .collect();
    refuse(hold_out, counts.iter().map(|(name, held_out)| (*name, held_out)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held_out(draws: &[u64], hold_out: &HoldOut) -> HeldOut {
        let mut held_out = HeldOut::default();
        draws.iter().for_each(|draw| held_out.add(*draw, hold_out));
        held_out
    }

    fn refusal(hold_out: &HoldOut, domains: &[(&str, &HeldOut)]) -> Option<String> {
        refuse(hold_out, domains.iter().copied()).err().map(|error| error.to_string())
    }

    #[test]
    fn all_domains_that_lack_documents_are_told_with_the_fraction_that_would_do() {
        let hold_out = HoldOut { fraction: 0.02, minimum_documents: 4 };
        let draws: Vec<u64> = (1..=60).map(|number| number * (u64::MAX / 60)).collect();
        let some = held_out(&draws, &hold_out);
        let one = held_out(&draws[..1], &hold_out);
        let many: Vec<u64> = (0..60).collect();
        let many = held_out(&many, &hold_out);
        let said = refusal(&hold_out, &[("a", &some), ("b", &many), ("poem", &one)]).unwrap();
        for part in [
            "holds out too few documents: domain `a` 1 of 60, domain `poem` 1 of 1; asked for are 4",
            "data.validation.fraction 0.067 would do for the others",
            "`poem` has too few documents to hold out of: name held-out files",
            "data.validation.minimum_documents 0 lets",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        for hold_out in [
            HoldOut { minimum_documents: 0, ..hold_out.clone() },
            HoldOut { fraction: 0.0, ..hold_out },
        ] {
            assert_eq!(refusal(&hold_out, &[("poem", &one)]), None);
        }
    }

    proptest! {
        #[test]
        fn the_fraction_that_is_told_does(
            draws in prop::collection::vec(any::<u64>(), 20..200), minimum in 1u64..20
        ) {
            let hold_out = HoldOut { fraction: 1e-9, minimum_documents: minimum };
            let Some(fraction) = held_out(&draws, &hold_out).would_do(minimum) else { return Ok(()) };
            let hold_out = HoldOut { fraction, minimum_documents: minimum };
            let held_out = held_out(&draws, &hold_out);
            prop_assert!(held_out.count >= minimum, "{} of {minimum}", held_out.count);
            prop_assert_eq!(refusal(&hold_out, &[("a", &held_out)]), None);
        }
    }
}
