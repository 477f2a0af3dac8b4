//! Byte-level BPE with Aquila2's special tokens, trained and applied by the `tokenizers` crate; or a
//! tokenizer that somebody brings.
//!
//! A text is encoded by a copy of the tokenizer that does not know its marks (`marks`), in pieces where that
//! changes nothing (`cuts`).

mod cuts;
mod losses;
mod marks;

use std::collections::BTreeMap;
use std::path::Path;

use hm_domain::id::Digest;
use serde_json::Value;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Inner, TokenizerBuilder};

use crate::error::{DataError, Result};
use crate::manifest::Manifest;
use crate::tokenizer_file;

pub(crate) use cuts::own_refuses;
pub(crate) use losses::{Losses, refuse_losses};

/// Id 0: padding and unknown.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Begins a text in Aquila2's chat templates; no document begins with it.
pub const BEGIN_OF_TEXT: &str = "[CLS]";
/// Ends every document, where a tokenizer is trained here.
pub const END_OF_DOCUMENT: &str = "</s>";
/// Appended after the trained vocabulary, in Aquila2's order.
const APPENDED: [&str; 8] = [
    "<|startofpiece|>",
    "<|endofpiece|>",
    "<|LDWANG|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    BEGIN_OF_TEXT,
    END_OF_DOCUMENT,
];
/// Whether a tokenizer that is trained here has this mark.
pub(crate) fn is_own_mark(mark: &str) -> bool {
    mark == END_OF_TEXT || APPENDED.contains(&mark)
}

/// The marks of a tokenizer that is trained here, in a sentence.
pub(crate) fn own_marks() -> String {
    format!("{END_OF_TEXT}, {}", APPENDED.join(", "))
}

/// Fewest tokens of a vocabulary that is trained here: all bytes and the marks.
pub(crate) const VOCABULARY_MIN: usize = 256 + 1 + APPENDED.len();
/// Most tokens of a vocabulary that is trained here: four times the largest in use.
pub(crate) const VOCABULARY_MAX: usize = 1 << 20;

/// A tokenizer and the mark that ends documents.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Inner,
    /// Knows no mark.
    encoder: Inner,
    /// Whether a text may be encoded in pieces.
    is_cut: bool,
    end_of_document: (String, u32),
    vocabulary: usize,
}

/// How two tokenizers differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Ids that both have.
    pub ids: usize,
    /// Those of them that mean another token.
    pub differ: usize,
    /// The first of these, and its token in the one and in the other.
    pub first: (u32, String, String),
}

fn refused(error: tokenizers::Error) -> DataError {
    DataError::Tokenizer(error.to_string())
}

impl Tokenizer {
    /// Trains one on `texts`; `vocabulary` counts everything, special tokens included. A small text gives
    /// fewer.
    pub fn train(texts: &[String], vocabulary: usize) -> Result<Tokenizer> {
        if vocabulary < VOCABULARY_MIN {
            let reason = format!(
                "vocabulary {vocabulary} is below {VOCABULARY_MIN}: 256 bytes and 9 special tokens"
            );
            return Err(DataError::Tokenizer(reason));
        }
        let mut trainer = BpeTrainerBuilder::new()
            .show_progress(false)
            .vocab_size(vocabulary - APPENDED.len())
            .min_frequency(2)
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut tokenizer = TokenizerBuilder::new()
            .with_model(BPE::default())
            .with_normalizer(None::<tokenizers::NormalizerWrapper>)
            .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
            .with_post_processor(Some(ByteLevel::default()))
            .with_decoder(Some(ByteLevel::default()))
            .build()
            .map_err(refused)?;
        tokenizer.train(&mut trainer, texts.iter().map(String::as_str)).map_err(refused)?;
        let mut inner: Inner = tokenizer.into();
        inner
            .add_special_tokens(APPENDED.map(|token| AddedToken::from(token, true)))
            .map_err(refused)?;
        let json = inner.to_string(false).map_err(refused)?;
        Tokenizer::of(json.as_bytes(), None).map_err(DataError::Tokenizer)
    }

    /// One that was made here, whose documents end with this mark.
    pub(crate) fn of(json: &[u8], end: Option<&str>) -> std::result::Result<Tokenizer, String> {
        Tokenizer::of_bytes(Path::new("tokenizer.json"), json, end)
    }

    /// `end` is the mark that ends documents, where a person names it. An error names the file as `path`.
    fn of_bytes(
        path: &Path,
        json: &[u8],
        end: Option<&str>,
    ) -> std::result::Result<Tokenizer, String> {
        let loaded = |json: &[u8]| -> std::result::Result<Inner, String> {
            let mut inner = Inner::from_bytes(json).map_err(|error| error.to_string())?;
            // What a file asks for beyond encoding: shards hold whole documents and nothing else.
            inner.with_truncation(None).map_err(|error| error.to_string())?;
            inner.with_padding(None);
            inner.set_encode_special_tokens(true);
            Ok(inner)
        };
        let refused = |error: String| tokenizer_file::refusal(path, json, &error);
        let inner = loaded(json).map_err(refused)?;
        let value: std::result::Result<Value, _> = serde_json::from_slice(json);
        let mut value = value.map_err(|error| refused(error.to_string()))?;
        let end = marks::end_of_document(&inner, end)?;
        marks::disguise(&mut value, &end.0);
        let is_cut = cuts::are_safe(&value);
        let encoder = loaded(&serde_json::to_vec(&value).expect("it was JSON before"))?;
        let largest = inner.get_vocab(true).into_values().max().unwrap_or_default();
        let vocabulary = largest as usize + 1;
        Ok(Tokenizer { inner, encoder, is_cut, end_of_document: end, vocabulary })
    }

    /// The tokenizer that the bytes of a `tokenizer.json` say, with this mark for the end of documents.
    pub(crate) fn of_json(path: &Path, bytes: &[u8], end: Option<&str>) -> Result<Tokenizer> {
        let broken = |reason: String| DataError::Broken { path: path.to_owned(), reason };
        Tokenizer::of_bytes(path, bytes, end).map_err(broken)
    }

    /// Reads a `tokenizer.json`, and its digest. In a prepared folder documents end as they do there.
    pub fn read(path: &Path) -> Result<(Tokenizer, Digest)> {
        let bytes = tokenizer_file::read(path)?;
        let digest = Digest::of(&bytes);
        let beside = path.parent().and_then(|folder| Manifest::read(folder).ok());
        let end = beside.filter(|manifest| manifest.tokenizer == digest);
        let end = end.map(|manifest| manifest.end_of_document);
        Ok((Tokenizer::of_json(path, &bytes, end.as_deref())?, digest))
    }

    /// As `tokenizer.json`.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(refused)
    }

    /// The largest id and one, special tokens included: rows that an embedding needs. Ids that a file
    /// leaves out count too.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The id of a token by its exact text, special ones included.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The mark that ends documents: its text and id.
    pub fn end_of_document(&self) -> (&str, u32) {
        (&self.end_of_document.0, self.end_of_document.1)
    }

    /// Where ids mean other tokens than in `other`, of those that both have. Marks may be renamed, and more may
    /// be added behind: what was learned of the others stays true.
    pub fn differs_from(&self, other: &Tokenizer) -> Option<Difference> {
        let (ours, theirs) = (self.tokens(), other.tokens());
        let marks = [&self.inner, &other.inner].map(|inner| inner.get_added_tokens_decoder());
        let is_mark = |id: &u32| marks.iter().all(|marks| marks.contains_key(id));
        let both: Vec<(u32, &String, &String)> = ours
            .iter()
            .filter_map(|(id, ours)| theirs.get(id).map(|theirs| (*id, ours, theirs)))
            .collect();
        let mut other = both.iter().filter(|(id, ours, theirs)| ours != theirs && !is_mark(id));
        let (id, ours, theirs) = other.next()?;
        let (ours, theirs) = (ours.to_string(), theirs.to_string());
        Some(Difference { ids: both.len(), differ: other.count() + 1, first: (*id, ours, theirs) })
    }

    fn tokens(&self) -> BTreeMap<u32, String> {
        self.inner.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect()
    }

    /// Ids of one document, its end mark included.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.encode_open(text)?;
        ids.push(self.end_of_document.1);
        Ok(ids)
    }

    /// Ids of a text that goes on: no end mark.
    pub fn encode_open(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for piece in self.pieces(text) {
            ids.extend(self.encode_piece(piece)?);
        }
        Ok(ids)
    }

    /// The text in pieces whose ids, one behind the other, are those of the whole.
    pub(crate) fn pieces<'a>(&self, text: &'a str) -> Vec<&'a str> {
        if self.is_cut { cuts::pieces(text, cuts::PIECE_BYTES) } else { vec![text] }
    }

    /// Why a text cannot be encoded in bounded memory, if it cannot: as the end of a sentence.
    pub(crate) fn refuses(&self, text: &str) -> Option<String> {
        cuts::refuses(self.is_cut, text)
    }

    /// Ids of one of them.
    pub(crate) fn encode_piece(&self, piece: &str) -> Result<Vec<u32>> {
        let ids = self.encoder.encode_fast(piece, false).map_err(refused)?.get_ids().to_vec();
        if ids.contains(&self.end_of_document.1) {
            let end = &self.end_of_document.0;
            let reason = format!(
                "some text is encoded as its end mark {end}, so that documents would end within: name another as data.end_of_document"
            );
            return Err(DataError::Tokenizer(reason));
        }
        Ok(ids)
    }

    /// Text of `ids`, special tokens left out, and the mark that ends documents, special or not.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let end = self.end_of_document.1;
        let ids: Vec<u32> = ids.iter().copied().filter(|id| *id != end).collect();
        self.inner.decode(&ids, true).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_language_round_trips_and_special_tokens_stand_where_aquila2_has_them() {
        let texts = vec!["the cat sat on the mat. 数据混合的比例 ".repeat(50)];
        let tokenizer = Tokenizer::train(&texts, 300).unwrap();
        let id = |token: &str| tokenizer.token_id(token).unwrap() as usize;
        assert_eq!(id(END_OF_TEXT), 0);
        assert_eq!(id(END_OF_DOCUMENT), tokenizer.vocabulary() - 1);
        assert_eq!(id(BEGIN_OF_TEXT), tokenizer.vocabulary() - 2);
        let text = "a cat, 数据 — naïve\n\tend";
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(*ids.last().unwrap() as usize, id(END_OF_DOCUMENT));
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }

    #[test]
    fn vocabulary_too_small_for_bytes_is_refused() {
        assert!(Tokenizer::train(&[], 100).is_err());
    }

    #[test]
    fn text_that_looks_like_a_special_token_is_text() {
        let tokenizer = Tokenizer::train(&["<s>struck</s> out".repeat(20)], 300).unwrap();
        let ids = tokenizer.encode("struck</s> out[MASK]").unwrap();
        let end = tokenizer.end_of_document().1;
        assert_eq!(ids.iter().filter(|&&id| id == end).count(), 1);
        assert_eq!(tokenizer.decode(&ids).unwrap(), "struck</s> out[MASK]");
    }

    #[test]
    fn a_file_is_refused_by_name_when_it_is_no_tokenizer_or_cannot_end_documents() {
        let path = Path::new("given/tokenizer.json");
        let error = Tokenizer::of_json(path, b"{", None).err().unwrap().to_string();
        assert!(error.starts_with("given/tokenizer.json: not a tokenizer"), "{error}");
        let tokenizer = Tokenizer::train(&["a".to_owned()], 300).unwrap();
        let json = tokenizer.to_json().unwrap();
        let other = json.replace(END_OF_DOCUMENT, "<end>").replace(END_OF_TEXT, "<pad>");
        let error = Tokenizer::of_json(path, other.as_bytes(), None).err().unwrap().to_string();
        let sentence = "given/tokenizer.json: has none of the usual tokens to end documents with: name one as data.end_of_document; its added tokens are <pad>, <|startofpiece|>";
        assert!(error.starts_with(sentence) && error.ends_with("[CLS], <end>"), "{error}");
        let named = Tokenizer::of_json(path, other.as_bytes(), Some("<end>")).unwrap();
        assert_eq!(named.end_of_document().0, "<end>");
        let error = Tokenizer::of_json(path, json.as_bytes(), Some("<eos>")).err().unwrap();
        let sentence = "has no token <eos>, which data.end_of_document names";
        assert!(error.to_string().contains(sentence), "{error}");
        let read = Tokenizer::of_json(path, json.as_bytes(), None).unwrap();
        assert_eq!(read.vocabulary(), tokenizer.vocabulary());
        assert_eq!(read.encode("a b").unwrap(), tokenizer.encode("a b").unwrap());
    }

    #[test]
    fn tokenizers_differ_by_what_their_ids_mean_and_not_by_marks_or_by_what_is_added() {
        let texts = ["the cat sat on the mat ".repeat(20)];
        let ours = Tokenizer::train(&texts, 290).unwrap();
        let json = ours.to_json().unwrap();
        assert_eq!(ours.differs_from(&ours), None);
        let renamed = json.replace("[gMASK]", "<|user|>");
        let mut more: Value = serde_json::from_str(&json).unwrap();
        let mut added = more["added_tokens"][1].clone();
        added["id"] = ours.vocabulary().into();
        added["content"] = "<|tool|>".into();
        more["added_tokens"].as_array_mut().unwrap().push(added);
        for json in [renamed, more.to_string()] {
            let theirs = Tokenizer::of(json.as_bytes(), None).unwrap();
            assert_eq!((theirs.differs_from(&ours), ours.differs_from(&theirs)), (None, None));
        }
        let fewer = Tokenizer::train(&texts, 270).unwrap();
        let difference = fewer.differs_from(&ours).unwrap();
        assert_eq!((difference.ids, difference.first.0), (270, 262), "{difference:?}");
        assert_eq!(difference.first.1, "<|startofpiece|>");
    }

    #[test]
    fn ids_that_a_file_leaves_out_count_and_its_truncation_does_not() {
        let tokenizer = Tokenizer::train(&["a".to_owned()], 300).unwrap();
        let mut json: serde_json::Value =
            serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
        json["truncation"] = serde_json::json!({
            "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0
        });
        json["model"]["vocab"]["z"] = 999.into();
        let read = Tokenizer::of_json(Path::new("t"), json.to_string().as_bytes(), None).unwrap();
        let ids = read.encode("abcdefgz").unwrap();
        assert_eq!(read.decode(&ids).unwrap(), "abcdefgz");
        assert_eq!((read.vocabulary(), ids[7]), (1000, 999));
    }

    /// One end mark, at the end, and the text is a text.
    fn ends_once(tokenizer: &Tokenizer, text: &str) {
        let ids = tokenizer.encode(text).unwrap();
        let end = tokenizer.end_of_document().1;
        assert_eq!(ids.iter().filter(|id| **id == end).count(), 1, "{text}");
        assert_eq!(*ids.last().unwrap(), end);
        let said = tokenizer.decode(&ids).unwrap();
        let plain = |text: &str| text.replace([' ', '▁'], "");
        assert_eq!(plain(&said), plain(text));
    }

    #[test]
    fn marks_in_a_text_are_text_whatever_the_file_says_of_them() {
        let text = "old</s> new <|endoftext|> [CLS] </s></s>";
        let ours = Tokenizer::train(&[text.repeat(20)], 300).unwrap();
        let json: Value = serde_json::from_str(&ours.to_json().unwrap()).unwrap();
        ends_once(&ours, text);
        for flags in [
            serde_json::json!({"special": false}),
            serde_json::json!({"special": false, "normalized": true, "lstrip": true, "rstrip": true}),
            serde_json::json!({"special": true, "single_word": true}),
        ] {
            let mut theirs = json.clone();
            for token in theirs["added_tokens"].as_array_mut().unwrap() {
                for (key, value) in flags.as_object().unwrap() {
                    token[key] = value.clone();
                }
            }
            let theirs = Tokenizer::of(theirs.to_string().as_bytes(), None).unwrap();
            ends_once(&theirs, text);
            assert_eq!(theirs.encode(text).unwrap(), ours.encode(text).unwrap());
        }
    }

    #[test]
    fn marks_that_the_model_itself_can_say_are_text_too() {
        // Pieces of a sentence-piece vocabulary, and a byte-pair one that merges its way to the mark.
        let letters = "▁<>/sabetxdo|nfr";
        let mut pieces = vec![serde_json::json!(["<unk>", 0.0]), serde_json::json!(["</s>", -0.5])];
        pieces.extend(letters.chars().map(|letter| serde_json::json!([letter.to_string(), -3.0])));
        let unigram = serde_json::json!({"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": false});
        let mut vocabulary: Vec<String> = letters.chars().map(String::from).collect();
        vocabulary.extend(["<unk>", "</", "s>", "</s>"].map(String::from));
        let ids: serde_json::Map<String, Value> =
            vocabulary.into_iter().enumerate().map(|(id, piece)| (piece, id.into())).collect();
        let merges = serde_json::json!([["<", "/"], ["s", ">"], ["</", "s>"]]);
        let pairs = serde_json::json!({"type": "BPE", "unk_token": "<unk>", "vocab": ids, "merges": merges});
        for model in [unigram, pairs] {
            let json = serde_json::json!({
                "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
                "normalizer": null, "post_processor": null, "model": model,
                "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
                "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
            });
            let tokenizer = Tokenizer::of(json.to_string().as_bytes(), None).unwrap();
            assert_eq!(tokenizer.end_of_document().0, "</s>");
            ends_once(&tokenizer, "a note </s> added </s>");
        }
    }

    #[test]
    fn documents_end_with_the_mark_that_is_usual_with_a_tokenizer() {
        let ours = Tokenizer::train(&["a".to_owned()], 300).unwrap();
        let json = ours.to_json().unwrap();
        assert_eq!(ours.end_of_document(), (END_OF_DOCUMENT, 264));
        for (mark, text) in [
            (END_OF_TEXT, json.replace(END_OF_DOCUMENT, "<end>")),
            (
                "<|end_of_text|>",
                json.replace(END_OF_DOCUMENT, "<|end_of_text|>").replace(END_OF_TEXT, "<pad>"),
            ),
        ] {
            let theirs = Tokenizer::of(text.as_bytes(), None).unwrap();
            assert_eq!(theirs.end_of_document().0, mark);
            ends_once(&theirs, "a <|end_of_text|> b <|endoftext|> c");
        }
    }

    #[test]
    fn a_long_document_is_encoded_in_little_memory_and_one_without_a_place_to_cut_is_refused() {
        let tokenizer = Tokenizer::train(&["word ".repeat(20)], 300).unwrap();
        let text = "word and more of it, ".repeat(100_000);
        assert!(tokenizer.pieces(&text).iter().all(|piece| piece.len() < cuts::PIECE_BYTES + 100));
        assert_eq!(tokenizer.refuses(&text), None);
        let knot = "a".repeat(cuts::PIECE_BYTES_MAX + 1);
        assert!(tokenizer.refuses(&knot).unwrap().contains("cannot be cut, more than 16777216"));
    }
}
