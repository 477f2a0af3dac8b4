//! Byte-level BPE with Aquila2's special tokens, trained and applied by the `tokenizers` crate.

use std::path::Path;

use hm_domain::id::Digest;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Inner, TokenizerBuilder};

use crate::error::{DataError, Result, at};

/// Id 0: padding and unknown.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Begins a text in Aquila2's chat templates; no document begins with it.
pub const BEGIN_OF_TEXT: &str = "[CLS]";
/// Ends every document.
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

/// A tokenizer and the id that ends documents.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Inner,
    end_of_document: u32,
    vocabulary: usize,
}

fn refused(error: tokenizers::Error) -> DataError {
    DataError::Tokenizer(error.to_string())
}

impl Tokenizer {
    /// Trains one on `texts`; `vocabulary` counts everything, special tokens included.
    pub fn train(texts: &[String], vocabulary: usize) -> Result<Tokenizer> {
        let smallest = 256 + 1 + APPENDED.len();
        if vocabulary < smallest {
            let reason = format!(
                "vocabulary {vocabulary} is below {smallest}: 256 bytes and 9 special tokens"
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
        Tokenizer::of(inner).map_err(DataError::Tokenizer)
    }

    fn of(mut inner: Inner) -> std::result::Result<Tokenizer, String> {
        let end_of_document = inner
            .token_to_id(END_OF_DOCUMENT)
            .ok_or_else(|| format!("has no token {END_OF_DOCUMENT} to end documents with"))?;
        let largest = inner.get_vocab(true).into_values().max().unwrap_or_default();
        // What a file asks for beyond encoding: shards hold whole documents and nothing else.
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        inner.with_padding(None);
        // Text that looks like a special token is text: no document can end another.
        inner.set_encode_special_tokens(true);
        Ok(Tokenizer { inner, end_of_document, vocabulary: largest as usize + 1 })
    }

    /// The tokenizer that the bytes of a `tokenizer.json` say.
    pub(crate) fn of_json(path: &Path, bytes: &[u8]) -> Result<Tokenizer> {
        let broken = |reason: String| DataError::Broken { path: path.to_owned(), reason };
        let inner = Inner::from_bytes(bytes)
            .map_err(|error| broken(format!("not a tokenizer: {error}")))?;
        Tokenizer::of(inner).map_err(broken)
    }

    /// Reads a `tokenizer.json`, and its digest.
    pub fn read(path: &Path) -> Result<(Tokenizer, Digest)> {
        let bytes = std::fs::read(path).map_err(at(path))?;
        Ok((Tokenizer::of_json(path, &bytes)?, Digest::of(&bytes)))
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

    /// Ids of one document, its end mark included.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.encode_open(text)?;
        ids.push(self.end_of_document);
        Ok(ids)
    }

    /// Ids of a text that goes on: no end mark.
    pub fn encode_open(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.encode_fast(text, false).map_err(refused)?.get_ids().to_vec())
    }

    /// Text of `ids`, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(refused)
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
        let end = tokenizer.end_of_document;
        assert_eq!(ids.iter().filter(|&&id| id == end).count(), 1);
        assert_eq!(tokenizer.decode(&ids).unwrap(), "struck</s> out[MASK]");
    }

    #[test]
    fn a_file_is_refused_by_name_when_it_is_no_tokenizer_or_cannot_end_documents() {
        let path = Path::new("given/tokenizer.json");
        let error = Tokenizer::of_json(path, b"{").err().unwrap().to_string();
        assert!(error.starts_with("given/tokenizer.json: not a tokenizer"), "{error}");
        let tokenizer = Tokenizer::train(&["a".to_owned()], 300).unwrap();
        let json = tokenizer.to_json().unwrap();
        let other = json.replace(END_OF_DOCUMENT, "<end>");
        let error = Tokenizer::of_json(path, other.as_bytes()).err().unwrap().to_string();
        let sentence = "given/tokenizer.json: has no token </s> to end documents with";
        assert_eq!(error, sentence);
        let read = Tokenizer::of_json(path, json.as_bytes()).unwrap();
        assert_eq!(read.vocabulary(), tokenizer.vocabulary());
        assert_eq!(read.encode("a b").unwrap(), tokenizer.encode("a b").unwrap());
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
        let read = Tokenizer::of_json(Path::new("t"), json.to_string().as_bytes()).unwrap();
        let ids = read.encode("abcdefgz").unwrap();
        assert_eq!(read.decode(&ids).unwrap(), "abcdefgz");
        assert_eq!((read.vocabulary(), ids[7]), (1000, 999));
    }
}
