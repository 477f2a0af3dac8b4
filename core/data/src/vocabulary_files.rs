//! Tokenizers as GPT-2 kept them, and Aquila2's with it: `vocab.json`, `merges.txt` and, where tokens
//! were added, `added_tokens.json`.

use std::collections::BTreeMap;
use std::path::Path;

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, Tokenizer as Inner, TokenizerBuilder};

use crate::error::{DataError, Result, at};
use crate::tokenizer::Tokenizer;

const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const ADDED: &str = "added_tokens.json";

/// The `tokenizer.json` that says what these files of `folder` say; `None` where the first two are not
/// both there.
///
/// Text is split by GPT-2's pattern into the bytes' characters, without a space before it and without
/// Unicode normalisation, as Aquila2's training code does.
///
/// # Errors
/// When a file is damaged, or an added token has another id than the next one: no `tokenizer.json` could
/// say that.
pub fn tokenizer_of_vocabulary_files(folder: &Path) -> Result<Option<String>> {
    let [vocabulary, merges, added] = [VOCABULARY, MERGES, ADDED].map(|name| folder.join(name));
    if !vocabulary.is_file() || !merges.is_file() {
        return Ok(None);
    }
    let broken = |path: &Path, reason: String| DataError::Broken { path: path.to_owned(), reason };
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| {
            broken(path, "the tokenizers library reads paths of Unicode text only".to_owned())
        })
    };
    let model = BPE::from_file(&text(&vocabulary)?, &text(&merges)?)
        .build()
        .map_err(|error| broken(&vocabulary, format!("with {MERGES}: {error}")))?;
    let mut inner: Inner = TokenizerBuilder::new()
        .with_model(model)
        .with_normalizer(None::<NormalizerWrapper>)
        .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
        .with_post_processor(Some(ByteLevel::default()))
        .with_decoder(Some(ByteLevel::default()))
        .build()
        .map_err(|error| broken(&vocabulary, error.to_string()))?
        .into();
    if added.is_file() {
        for (id, token) in in_order(&added)? {
            inner
                .add_special_tokens([AddedToken::from(token.clone(), true)])
                .map_err(|error| broken(&added, error.to_string()))?;
            let given = inner.token_to_id(&token);
            if given != Some(id) {
                let given = given.map_or("none".to_owned(), |given| given.to_string());
                return Err(broken(&added, format!("`{token}` has id {id}, it would get {given}")));
            }
        }
    }
    let json = inner.to_string(true).map_err(|error| broken(&vocabulary, error.to_string()))?;
    // Whatever cannot be trained on is refused here, while its files can be named.
    Tokenizer::of_json(&vocabulary, json.as_bytes(), None)?;
    Ok(Some(json))
}

fn in_order(path: &Path) -> Result<BTreeMap<u32, String>> {
    let bytes = std::fs::read(path).map_err(at(path))?;
    let ids: BTreeMap<String, u32> = serde_json::from_slice(&bytes)
        .map_err(|error| DataError::Broken { path: path.to_owned(), reason: error.to_string() })?;
    Ok(ids.into_iter().map(|(token, id)| (id, token)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const TEXTS: [&str; 3] = [
        "The data, the  data and what it's made of.\n\n\tfn main() {}",
        "训练数据的配比 decides 模型 quality </s> [CLS]",
        "e\u{301}\u{1F600} 0123456789 'll",
    ];

    /// A trained tokenizer, and its parts as GPT-2's files.
    fn files(folder: &Path) -> Tokenizer {
        let texts: Vec<String> = TEXTS.iter().map(|text| text.repeat(4)).collect();
        let whole = Tokenizer::train(&texts, 320).unwrap();
        let json: Value = serde_json::from_str(&whole.to_json().unwrap()).unwrap();
        let merges: Vec<String> = json["model"]["merges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .collect();
        let vocabulary = &json["model"]["vocab"];
        let added: serde_json::Map<String, Value> = json["added_tokens"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|token| vocabulary.get(token["content"].as_str().unwrap()).is_none())
            .map(|token| (token["content"].as_str().unwrap().to_owned(), token["id"].clone()))
            .collect();
        assert_eq!(added.len(), 8);
        let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
        write(VOCABULARY, vocabulary.to_string());
        write(MERGES, format!("#version: 0.2\n{}\n", merges.join("\n")));
        write(ADDED, Value::Object(added).to_string());
        whole
    }

    #[test]
    fn files_of_old_say_the_same_tokenizer() {
        let folder = tempfile::tempdir().unwrap();
        let whole = files(folder.path());
        let json = tokenizer_of_vocabulary_files(folder.path()).unwrap().expect("they are there");
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, json).unwrap();
        let (read, _) = Tokenizer::read(&path).unwrap();
        assert_eq!(read.vocabulary(), whole.vocabulary());
        for text in TEXTS {
            let ids = whole.encode(text).unwrap();
            assert_eq!(read.encode(text).unwrap(), ids, "{text}");
            assert_eq!(read.decode(&ids).unwrap(), whole.decode(&ids).unwrap());
        }
    }

    #[test]
    fn files_that_are_missing_or_do_not_fit_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        assert!(tokenizer_of_vocabulary_files(folder.path()).unwrap().is_none());
        files(folder.path());
        let error = |name: &str, text: &str| {
            let kept = std::fs::read(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name), text).unwrap();
            let error = tokenizer_of_vocabulary_files(folder.path()).unwrap_err().to_string();
            std::fs::write(folder.path().join(name), kept).unwrap();
            error
        };
        let added = json!({"</s>": 4000}).to_string();
        assert!(error(ADDED, &added).contains("`</s>` has id 4000, it would get 3"));
        assert!(error(ADDED, "{").contains(ADDED));
        assert!(error(VOCABULARY, "[1]").contains(VOCABULARY));
        assert!(error(MERGES, "#version: 0.2\nnot-a-pair\n").contains(MERGES));
    }
}
