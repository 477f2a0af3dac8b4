//! What of the text a tokenizer that somebody brings cannot say. All text is counted while it is encoded, and
//! much loss is refused with numbers; a sample is judged before, so that hours are not spent for a refusal.
//!
//! Where a model has a token for the unknown, the places of that token are counted. A byte-pair model without
//! one drops what it lacks in silence, and its offsets slide; so each distinct character is taken apart as the
//! tokenizer does it, once, and is lost if the model lacks any of its symbols.

use std::collections::BTreeMap;
use std::ops::Range;

use tokenizers::{
    Model, ModelWrapper, NormalizedString, Normalizer, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer,
};

use crate::error::{DataError, Result};
use crate::tokenizer::{Tokenizer, refused};

/// Share of a domain's characters that may be lost: a stray symbol in a thousand, not an alphabet.
const LOST_SHARE_MAX: f64 = 1e-3;
/// Share of a sample's: what it says of the whole is not exact.
const LOST_SHARE_OF_SAMPLE_MAX: f64 = 10.0 * LOST_SHARE_MAX;
/// Bytes of a sample by which a domain is judged, from all over it.
const JUDGED_BYTES: usize = 256 << 10;
/// Lost texts that a sentence shows, and characters of one.
const SHOWN_MAX: usize = 8;
const SHOWN_CHARACTERS_MAX: usize = 16;
/// Domains that a refusal names.
const DOMAINS_MAX: usize = 3;

/// Characters of a domain, those that are lost, and some of these.
#[derive(Default)]
struct Count {
    characters: u64,
    lost: u64,
    shown: Vec<String>,
}

impl Count {
    fn share(&self) -> f64 {
        self.lost as f64 / self.characters.max(1) as f64
    }

    fn show(&mut self, text: &str) {
        if self.shown.len() < SHOWN_MAX {
            let text: String = text.trim().chars().take(SHOWN_CHARACTERS_MAX).collect();
            if !text.is_empty() && !self.shown.contains(&text) {
                self.shown.push(text);
            }
        }
    }

    fn sentence(&self, domain: &str, of: &str) -> String {
        format!(
            "{:.2} % of domain `{domain}` ({} of {} characters{of}, such as {})",
            self.share() * 100.0,
            self.lost,
            self.characters,
            self.shown.join(" ")
        )
    }
}

/// What is known of a character.
#[derive(Clone, Copy, PartialEq)]
enum Said {
    Unasked,
    Yes,
    No,
}

/// What is lost of the text that goes by, by domain.
pub(crate) struct Losses<'a> {
    tokenizer: &'a Tokenizer,
    unknown: Option<u32>,
    /// By character.
    said: Vec<Said>,
    counts: BTreeMap<String, Count>,
}

impl<'a> Losses<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Losses<'a> {
        let said = vec![Said::Unasked; char::MAX as usize + 1];
        Losses { tokenizer, unknown: tokenizer.unknown_id(), said, counts: BTreeMap::new() }
    }

    /// Counts a piece of a domain's text, encoded as `ids`.
    pub(crate) fn count(&mut self, domain: &str, piece: &str, ids: &[u32]) -> Result<()> {
        let unknown = match self.unknown {
            Some(unknown) if ids.contains(&unknown) => self.tokenizer.places(piece, unknown)?,
            _ => Vec::new(),
        };
        if !self.counts.contains_key(domain) {
            self.counts.insert(domain.to_owned(), Count::default());
        }
        let count = self.counts.get_mut(domain).expect("inserted above");
        unknown.iter().for_each(|place| count.show(piece.get(place.clone()).unwrap_or_default()));
        let mut unknown = unknown.into_iter().peekable();
        for (place, character) in piece.char_indices() {
            while unknown.next_if(|range| range.end <= place).is_some() {}
            let said = &mut self.said[character as usize];
            if *said == Said::Unasked {
                let is_said = self.tokenizer.says(character, self.unknown.is_none())?;
                *said = if is_said { Said::Yes } else { Said::No };
            }
            // White space counts only where a model has a place for it and no token: many leave it out by
            // intent, and it is left out of offsets.
            let is_white = character.is_whitespace();
            let is_unknown =
                !is_white && unknown.peek().is_some_and(|range| range.contains(&place));
            let is_lost = is_unknown || *said == Said::No;
            count.characters += u64::from(is_lost || !is_white);
            count.lost += u64::from(is_lost);
            if is_lost && !is_unknown {
                count.show(&shown(character));
            }
        }
        Ok(())
    }

    /// What a person should know where little is lost.
    ///
    /// # Errors
    /// When much of a domain's text became unknown, or vanished.
    pub(crate) fn told(&self) -> Result<Vec<String>> {
        self.refuse(LOST_SHARE_MAX, "")?;
        let lossy = self.counts.iter().filter(|(_, count)| count.lost > 0);
        let told = |(domain, count): (&String, &Count)| {
            format!("the tokenizer cannot say {}: they are lost", count.sentence(domain, ""))
        };
        Ok(lossy.map(told).collect())
    }

    fn refuse(&self, share_max: f64, of: &str) -> Result<()> {
        let mut worst: Vec<(&String, &Count)> =
            self.counts.iter().filter(|(_, count)| count.share() > share_max).collect();
        worst.sort_by(|(_, a), (_, b)| b.share().total_cmp(&a.share()));
        if worst.is_empty() {
            return Ok(());
        }
        let shown = worst.iter().take(DOMAINS_MAX);
        let shown: Vec<String> = shown.map(|(domain, count)| count.sentence(domain, of)).collect();
        let more = match worst.len().saturating_sub(DOMAINS_MAX) {
            0 => String::new(),
            more => format!(", and of {more} more domains"),
        };
        let reason = format!(
            "it cannot say {}{more}: bring one made for this text, or leave data.tokenizer out to train one",
            shown.join(", ")
        );
        Err(DataError::Tokenizer(reason))
    }
}

/// Judges every domain of a sample that is in the order of the text, by pieces from all over it.
///
/// # Errors
/// When so much is lost that all text will hardly be better.
pub(crate) fn refuse_losses(
    tokenizer: &Tokenizer,
    sample: &[(String, String)],
    go_on: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let mut bytes: BTreeMap<&str, usize> = BTreeMap::new();
    for (domain, text) in sample {
        *bytes.entry(domain).or_default() += text.len();
    }
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut losses = Losses::new(tokenizer);
    for (domain, text) in sample {
        let every = bytes[domain.as_str()].div_ceil(JUDGED_BYTES).max(1);
        let seen = seen.entry(domain).or_default();
        if seen.is_multiple_of(every) {
            losses.count(domain, text, &tokenizer.encode_piece(text)?)?;
            go_on()?;
        }
        *seen += 1;
    }
    losses.refuse(LOST_SHARE_OF_SAMPLE_MAX, " of a sample of it")
}

impl Tokenizer {
    /// Where the unknown token stands in a text.
    fn places(&self, text: &str, unknown: u32) -> Result<Vec<Range<usize>>> {
        let encoding = self.encoder.encode(text, false).map_err(refused)?;
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
        let tokens = tokens.filter(|(id, _)| **id == unknown);
        Ok(tokens.map(|(_, (start, end))| *start..(*end).min(text.len())).collect())
    }

    /// Whether a character by itself becomes tokens; where the model drops what it lacks, whether it has all
    /// symbols that the character becomes.
    fn says(&self, character: char, drops: bool) -> Result<bool> {
        let text = character.to_string();
        if self.encoder.get_added_vocabulary().get_vocab().contains_key(&text) {
            return Ok(true);
        }
        let model = self.encoder.get_model();
        if !drops || !matches!(model, ModelWrapper::BPE(_)) {
            let is_empty = self.encoder.encode_fast(text, false).map_err(refused)?.is_empty();
            return Ok(!is_empty || is_left_out(character));
        }
        let symbols = self.symbols(text)?;
        // What stands for a blank before a word is no part of the word.
        let is_part = |symbol: &char| *symbol == character || !matches!(symbol, '▁' | 'Ġ');
        for symbol in symbols.chars().filter(|symbol| character.is_whitespace() || is_part(symbol))
        {
            if model.tokenize(symbol.encode_utf8(&mut [0; 4])).map_err(refused)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(!symbols.is_empty() || is_left_out(character))
    }

    /// What the model is shown of a text.
    fn symbols(&self, text: String) -> Result<String> {
        let mut normalized = NormalizedString::from(text);
        if let Some(normalizer) = self.encoder.get_normalizer() {
            normalizer.normalize(&mut normalized).map_err(refused)?;
        }
        let mut words = PreTokenizedString::from(normalized);
        if let Some(splitter) = self.encoder.get_pre_tokenizer() {
            splitter.pre_tokenize(&mut words).map_err(refused)?;
        }
        let words = words.get_splits(OffsetReferential::Original, OffsetType::Byte);
        Ok(words.into_iter().map(|(word, ..)| word).collect())
    }

    /// The token that stands for what cannot be said.
    fn unknown_id(&self) -> Option<u32> {
        let by_text = |token: &str| self.encoder.token_to_id(token);
        match self.encoder.get_model() {
            ModelWrapper::BPE(model) => model.unk_token.as_deref().and_then(by_text),
            ModelWrapper::WordPiece(model) => by_text(&model.unk_token),
            ModelWrapper::WordLevel(model) => by_text(&model.unk_token),
            ModelWrapper::Unigram(model) => {
                let json = serde_json::to_value(model).ok()?;
                json["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok())
            }
        }
    }
}

/// A character for a person to read.
fn shown(character: char) -> String {
    let is_seen = !character.is_whitespace() && !character.is_control();
    if is_seen { character.to_string() } else { format!("{character:?}") }
}

/// White space, and what has no look of its own: no text is lost where it is taken away.
fn is_left_out(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || matches!(character, '\u{ad}' | '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

#[cfg(test)]
mod tests;
