//! Whether a tokenizer that somebody brings can say the text at all.

use std::collections::BTreeMap;

use crate::error::{DataError, Result};
use crate::tokenizer::{Tokenizer, refused};

/// Bytes of text by which a domain is judged.
const JUDGED_BYTES: usize = 256 << 10;
/// Share of a domain's characters that may be lost: a stray symbol in a thousand, not an alphabet.
const LOST_SHARE_MAX: f64 = 1e-3;
/// Lost characters that a refusal shows.
const SHOWN_MAX: usize = 8;

/// Characters of a domain, those that no token says, and some of these.
#[derive(Default)]
struct Count {
    bytes: usize,
    characters: u64,
    lost: u64,
    shown: Vec<char>,
}

impl Count {
    fn share(&self) -> f64 {
        self.lost as f64 / self.characters.max(1) as f64
    }

    fn sentence(&self, domain: &str) -> String {
        let shown: String = self.shown.iter().collect();
        format!(
            "{:.2} % of domain `{domain}` ({} of {} characters, such as {shown})",
            self.share() * 100.0,
            self.lost,
            self.characters
        )
    }
}

/// Judges every domain of a sample; gives what a person should know where little is lost.
///
/// # Errors
/// When much of a domain's text would become unknown, or vanish.
pub(crate) fn refuse_losses(
    tokenizer: &Tokenizer,
    sample: &[(String, String)],
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Vec<String>> {
    let unknown = tokenizer.unknown_id();
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    for (domain, text) in sample {
        let count = counts.entry(domain).or_default();
        if count.bytes < JUDGED_BYTES {
            count.bytes += text.len();
            tokenizer.count_lost(text, unknown, count)?;
            go_on()?;
        }
    }
    let lossy = counts.iter().filter(|(_, count)| count.lost > 0);
    let worst = lossy.clone().max_by(|(_, a), (_, b)| a.share().total_cmp(&b.share()));
    if let Some((domain, count)) = worst.filter(|(_, count)| count.share() > LOST_SHARE_MAX) {
        let sentence = count.sentence(domain);
        let reason = format!(
            "it cannot say {sentence}: bring one made for this text, or leave data.tokenizer out to train one"
        );
        return Err(DataError::Tokenizer(reason));
    }
    let told = |(domain, count): (&&str, &Count)| {
        format!("the tokenizer cannot say {}: they are lost", count.sentence(domain))
    };
    Ok(lossy.map(told).collect())
}

impl Tokenizer {
    fn count_lost(&self, text: &str, unknown: Option<u32>, count: &mut Count) -> Result<()> {
        let encoding = self.encoder.encode(text, false).map_err(refused)?;
        let mut said = vec![false; text.len() + 1];
        for (id, (start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            if Some(*id) != unknown {
                said[*start..(*end).min(text.len())].fill(true);
            }
        }
        // White space is left out of offsets, and of many vocabularies by intent.
        for (place, character) in text.char_indices().filter(|(_, c)| !c.is_whitespace()) {
            count.characters += 1;
            if !said[place] {
                count.lost += 1;
                if count.shown.len() < SHOWN_MAX && !count.shown.contains(&character) {
                    count.shown.push(character);
                }
            }
        }
        Ok(())
    }

    /// The token that stands for what cannot be said.
    fn unknown_id(&self) -> Option<u32> {
        use tokenizers::ModelWrapper;
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sample(texts: &[(&str, &str)]) -> Vec<(String, String)> {
        texts.iter().map(|(domain, text)| ((*domain).to_owned(), (*text).to_owned())).collect()
    }

    /// A tokenizer of letters only, with or without a token for the rest.
    fn letters(unknown: Option<&str>) -> Tokenizer {
        let mut vocabulary: Vec<String> = ('a'..='z').map(String::from).collect();
        vocabulary.extend(["<unk>".to_owned(), "</s>".to_owned()]);
        let ids: serde_json::Map<String, Value> =
            vocabulary.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
            "decoder": null,
            "model": {"type": "BPE", "unk_token": unknown, "vocab": ids, "merges": []},
        });
        Tokenizer::of(json.to_string().as_bytes(), None).unwrap()
    }

    #[test]
    fn a_tokenizer_that_cannot_say_a_domain_is_refused_with_the_share() {
        for unknown in [Some("<unk>"), None] {
            let tokenizer = letters(unknown);
            let texts = sample(&[("en", "plain words"), ("zh", "数据 mix 混合"), ("en", "more")]);
            let refused = refuse_losses(&tokenizer, &texts, &|| Ok(())).unwrap_err().to_string();
            let share = "57.14 % of domain `zh` (4 of 7 characters, such as 数据混合)";
            assert!(refused.contains(share), "{refused}");
            assert_eq!(refuse_losses(&tokenizer, &texts[..1], &|| Ok(())).unwrap(), [""; 0]);
        }
    }

    #[test]
    fn a_stray_symbol_is_told() {
        let text = format!("{} 数", "word ".repeat(1000));
        let told = refuse_losses(&letters(Some("<unk>")), &sample(&[("en", &text)]), &|| Ok(()));
        let told = told.unwrap();
        assert!(
            told[0].contains("0.02 % of domain `en` (1 of 4001 characters, such as 数)"),
            "{told:?}"
        );
    }

    #[test]
    fn bytes_say_everything() {
        let tokenizer = Tokenizer::train(&["plain words".to_owned()], 300).unwrap();
        let texts = sample(&[("all", "数据 mix é \u{1f600} \0 \u{feff}x")]);
        assert_eq!(refuse_losses(&tokenizer, &texts, &|| Ok(())).unwrap(), [""; 0]);
    }
}
