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
mod tests;
