//! Where a text can be cut so that the ids of its pieces, one behind the other, are those of the whole.
//!
//! The `tokenizers` crate takes some hundred bytes of memory for every byte of a text. A cut is safe where
//! the tokenizer itself always splits, whatever stands before and behind: behind a letter or digit and
//! before a blank or a punctuation mark. The patterns of the GPT family, by which byte-level tokenizers
//! split, take letters and digits in runs; no token goes on behind the end of one but for contractions such
//! as `'s`, so that an apostrophe is no place; none looks back; and white space, of which they do look at
//! what follows, stands whole in the piece behind.
//!
//! A tokenizer of another make is not cut: it encodes a document whole, and a document of more than
//! [`PIECE_BYTES_MAX`] cannot be used with it.

use serde_json::Value;

/// Bytes from which on a piece ends at the next safe place.
pub(super) const PIECE_BYTES: usize = 128 << 10;

/// Most bytes that are encoded at once: two gigabytes of memory.
pub(crate) const PIECE_BYTES_MAX: usize = 16 << 20;

/// Patterns of Llama 3 and GPT-4, and of Qwen 2.
const PATTERNS: [&str; 2] = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];

/// Whether the tokenizer that this `tokenizer.json` says splits at every such place.
pub(super) fn are_safe(json: &Value) -> bool {
    // Composition never reaches over a blank or a punctuation mark.
    let normalizer = &json["normalizer"];
    let plain = normalizer.is_null() || normalizer["type"] == "NFC";
    let by_bytes = |step: &Value, splits: bool| {
        step["type"] == "ByteLevel"
            && step["add_prefix_space"] == false
            && step["use_regex"].as_bool().unwrap_or(true) == splits
    };
    let by_pattern = |step: &Value| {
        let known = step["pattern"]["Regex"].as_str().is_some_and(|text| PATTERNS.contains(&text));
        known
            && step["type"] == "Split"
            && step["behavior"] == "Isolated"
            && step["invert"] == false
    };
    let splitter = &json["pre_tokenizer"];
    let splits = by_bytes(splitter, true)
        || match splitter["pretokenizers"].as_array().map(Vec::as_slice) {
            Some([only]) => by_bytes(only, true),
            Some([first, second]) => by_pattern(first) && by_bytes(second, false),
            _ => false,
        };
    let dropout = json["model"]["dropout"].as_f64().unwrap_or_default();
    plain && splits && dropout == 0.0 && added_tokens_stay_whole(json)
}

/// Whether no added token reaches over a cut, or looks beyond itself.
fn added_tokens_stay_whole(json: &Value) -> bool {
    json["added_tokens"].as_array().into_iter().flatten().all(|token| {
        let looks_around =
            ["lstrip", "rstrip", "single_word"].iter().any(|flag| token[*flag] == true);
        // A disguised mark is in no text.
        token["special"] == true
            || (!looks_around
                && first_cut(token["content"].as_str().unwrap_or_default(), 0).is_none())
    })
}

/// Why a text cannot be encoded in bounded memory, if it cannot, by a tokenizer that is trained here: as the
/// end of a sentence.
pub(crate) fn own_refuses(text: &str) -> Option<String> {
    refuses(true, text)
}

/// The same, by one that is cut or not.
pub(super) fn refuses(is_cut: bool, text: &str) -> Option<String> {
    let most = PIECE_BYTES_MAX;
    if text.len() <= most {
        return None;
    }
    let pieces = if is_cut { pieces(text, PIECE_BYTES) } else { vec![text] };
    let longest = pieces.into_iter().map(str::len).max().unwrap_or_default();
    (longest > most).then(|| {
        format!(
            "has {longest} bytes in which this tokenizer cannot be cut, more than {most}: split it"
        )
    })
}

/// `text` in pieces of about `bytes`; one without a place to cut is longer.
pub(super) fn pieces(text: &str, bytes: usize) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while rest.len() > bytes
        && let Some(place) = first_cut(rest, bytes)
    {
        let piece;
        (piece, rest) = rest.split_at(place);
        pieces.push(piece);
    }
    pieces.push(rest);
    pieces
}

/// The first safe place at or behind byte `from`.
fn first_cut(text: &str, from: usize) -> Option<usize> {
    let from = text.floor_char_boundary(from.saturating_sub(1));
    let mut before = None;
    for (place, character) in text[from..].char_indices() {
        if before.is_some_and(ends_a_run) && begins_anew(character) {
            return Some(from + place);
        }
        before = Some(character);
    }
    None
}

/// Letters and digits of which every version of Unicode says so.
fn ends_a_run(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || matches!(character, '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7a3}')
}

/// Neither letter, digit nor anything that joins them.
fn begins_anew(character: char) -> bool {
    matches!(character, ' ' | '\n' | '，' | '。' | '、' | '；' | '：' | '？' | '！')
        || (character.is_ascii_punctuation() && character != '\'')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use serde_json::json;

    use super::*;
    use crate::tokenizer::Tokenizer;

    /// Ours, and one that splits as Llama 3 does.
    fn tokenizers() -> [Tokenizer; 2] {
        let text = "The cat's mat, 12345 of it; don't! 数据混合的比例，训练。\n\n  fn main() { x += 1; }\n\t\té\u{301}".repeat(20);
        let ours = Tokenizer::train(&[text], 420).unwrap();
        let mut json: Value = serde_json::from_str(&ours.to_json().unwrap()).unwrap();
        json["normalizer"] = json!({"type": "NFC"});
        json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERNS[0]}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]});
        let theirs = Tokenizer::of(json.to_string().as_bytes(), None).unwrap();
        assert!(ours.is_cut && theirs.is_cut);
        [ours, theirs]
    }

    /// Ids of `text` whole, and in pieces of about `bytes`.
    fn both(tokenizer: &Tokenizer, text: &str, bytes: usize) -> (Vec<u32>, Vec<u32>) {
        let whole = tokenizer.encode_piece(text).unwrap();
        let cut = pieces(text, bytes);
        assert_eq!(cut.concat(), text);
        let joined = cut.iter().flat_map(|piece| tokenizer.encode_piece(piece).unwrap());
        (whole, joined.collect())
    }

    fn text() -> impl Strategy<Value = String> {
        let bit = prop_oneof![
            "[a-z]{1,4}",
            "[0-9]{1,5}",
            "[ \n\r\t]{1,3}",
            "['.,!<>()-]{1,2}",
            "[数据混合，。！？、]{1,3}",
            Just("'s".to_owned()),
            Just("\u{301}".to_owned()),
            Just("\u{338}".to_owned()),
            Just("\u{a0}\u{3000}\u{2028}".to_owned()),
            "\\PC{1,2}",
        ];
        prop::collection::vec(bit, 0..40).prop_map(|bits| bits.concat())
    }

    #[test]
    fn pieces_are_encoded_as_the_whole_is() {
        let tokenizers = tokenizers();
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut cut = 0;
        for _ in 0..2000 {
            let text = text().new_tree(&mut runner).unwrap().current();
            for tokenizer in &tokenizers {
                cut += usize::from(pieces(&text, 1).len() > 2);
                for bytes in [1, 9] {
                    let (whole, joined) = both(tokenizer, &text, bytes);
                    assert_eq!(joined, whole, "{text:?}");
                }
            }
        }
        assert!(cut > 1000, "{cut} were cut at all");
    }

    #[test]
    fn no_piece_is_much_longer_than_asked_in_prose_of_any_script() {
        for text in
            ["The cat sat on the mat. ", "训练数据的混合比例决定模型，也决定其它。", "0a1b+/="]
        {
            let text = text.repeat(2000);
            let longest = pieces(&text, 1000).into_iter().map(str::len).max().unwrap();
            assert!(longest < 1100, "{longest}");
        }
        assert_eq!(pieces(&"a".repeat(5000), 1000).len(), 1, "no place to cut");
    }

    #[test]
    fn a_tokenizer_of_another_make_is_not_cut() {
        let json: Value = serde_json::from_str(&tokenizers()[0].to_json().unwrap()).unwrap();
        let mut disguised = json.clone();
        super::super::marks::disguise(&mut disguised, "</s>");
        assert!(are_safe(&disguised));
        for (place, value) in [
            ("/normalizer", json!({"type": "Lowercase"})),
            ("/pre_tokenizer", json!({"type": "Metaspace", "replacement": "▁"})),
            ("/pre_tokenizer/add_prefix_space", json!(true)),
            ("/pre_tokenizer", Value::Null),
            ("/model/dropout", json!(0.1)),
        ] {
            let mut other = disguised.clone();
            *other.pointer_mut(place).unwrap() = value;
            assert!(!are_safe(&other), "{place}");
        }
        for token in [json!({"content": "new york"}), json!({"content": "  ", "lstrip": true})] {
            let mut other = disguised.clone();
            other["added_tokens"].as_array_mut().unwrap().push(token);
            assert!(!are_safe(&other));
        }
    }
}
