//! The file that `data.tokenizer` names, and what it is where it is no `tokenizer.json`.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use crate::error::{DataError, Result, at};

const WANTED: &str = "data.tokenizer wants Hugging Face's tokenizer.json";
const MAKE: &str =
    "transformers writes one with `AutoTokenizer.from_pretrained(...).save_pretrained(...)`";

/// The bytes of the file at `path`.
///
/// # Errors
/// When there is none, or a folder; then it says what is there instead.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let broken = |reason: String| Err(DataError::Broken { path: path.to_owned(), reason });
    let inside = path.join("tokenizer.json");
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(_) if inside.is_file() => {
            broken(format!("is a folder: {WANTED}, which is {}", inside.display()))
        }
        Err(_) if path.is_dir() => broken(format!("is a folder without one: {WANTED}; {MAKE}")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            broken(format!("is not there: {WANTED}"))
        }
        Err(error) => Err(at(path)(error)),
    }
}

/// What is wrong with the bytes of a file that the tokenizers library refuses with `error`.
pub(crate) fn refusal(path: &Path, bytes: &[u8], error: &str) -> String {
    let Some(kind) = kind(bytes) else {
        return format!("not a tokenizer: {error}: {WANTED}");
    };
    let beside = path.with_file_name("tokenizer.json");
    let remedy = if beside.is_file() && beside != path {
        format!("which is {}", beside.display())
    } else {
        MAKE.to_owned()
    };
    format!("not a tokenizer but {kind}: {WANTED}; {remedy}")
}

/// What a file that is no tokenizer seems to be.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => {
            let has = |name: &str| fields.contains_key(name);
            let is_vocabulary = !fields.is_empty() && fields.values().all(Value::is_u64);
            return match () {
                () if has("model") && fields["model"].is_object() => None,
                () if has("tokenizer_class") || has("added_tokens_decoder") => {
                    Some("a tokenizer_config.json, which holds settings and no vocabulary")
                }
                () if has("model_type") || has("architectures") => Some("a model's config.json"),
                () if has("eos_token") || has("unk_token") => Some("a special_tokens_map.json"),
                () if is_vocabulary => Some("a vocabulary alone, such as vocab.json"),
                () => Some("some other JSON"),
            };
        }
        Ok(_) => return Some("some other JSON"),
        Err(_) => {}
    }
    if bytes.is_empty() {
        return Some("an empty file");
    }
    // Eight bytes of a length, then a header of JSON.
    if bytes.get(8) == Some(&b'{') && bytes[5..8] == [0; 3] {
        return Some("weights in safetensors");
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        return Some("weights of PyTorch");
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        // Its first field is a list of pieces: a text and a score each.
        let is_pieces = bytes.first() == Some(&0x0a) && bytes.get(2) == Some(&0x0a);
        return Some(if is_pieces { "a SentencePiece model" } else { "no text" });
    };
    let first = text.lines().next().unwrap_or_default();
    let is_rank = |line: &str| {
        line.split_once(' ').is_some_and(|(token, rank)| {
            token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
                && rank.parse::<u32>().is_ok()
        })
    };
    match () {
        () if text.starts_with("#version") => Some("merges alone, such as merges.txt"),
        () if is_rank(first) => Some("a vocabulary of tiktoken"),
        () if first.starts_with('{') => None,
        () => Some("some other text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_for_a_tokenizer_is_named_for_what_it_is() {
        for (bytes, said) in [
            (&b"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\xff"[..], "a SentencePiece model"),
            (b"IQ== 0\nIg== 1\n", "a vocabulary of tiktoken"),
            (b"\x40\0\0\0\0\0\0\0{\"a\":{}}\xff\xff", "weights in safetensors"),
            (b"PK\x03\x04\xff", "weights of PyTorch"),
            (br#"{"tokenizer_class": "LlamaTokenizer"}"#, "a tokenizer_config.json"),
            (br#"{"model_type": "llama"}"#, "a model's config.json"),
            (br#"{"eos_token": "</s>"}"#, "a special_tokens_map.json"),
            (br#"{"a": 0, "b": 1}"#, "a vocabulary alone"),
            (b"#version: 0.2\na b\n", "merges alone"),
            (b"[]", "some other JSON"),
            (b"", "an empty file"),
        ] {
            let refusal = refusal(Path::new("x"), bytes, "no");
            assert!(refusal.starts_with(&format!("not a tokenizer but {said}")), "{refusal}");
            assert!(refusal.contains("data.tokenizer wants Hugging Face's tokenizer.json"));
        }
        let cut = refusal(Path::new("x"), b"{\"model\": {", "EOF while parsing");
        assert!(cut.starts_with("not a tokenizer: EOF while parsing: data.tokenizer"), "{cut}");
    }

    #[test]
    fn the_right_file_is_named_where_it_is_at_hand() {
        let folder = tempfile::tempdir().unwrap();
        let said = |path: &Path| read(path).unwrap_err().to_string();
        assert!(said(folder.path()).contains("is a folder without one"));
        assert!(
            said(&folder.path().join("x.json")).contains("x.json: is not there: data.tokenizer")
        );
        let right = folder.path().join("tokenizer.json");
        std::fs::write(&right, "{}").unwrap();
        let which = format!("which is {}", right.display());
        assert!(said(folder.path()).ends_with(&which));
        let config = folder.path().join("tokenizer_config.json");
        assert!(refusal(&config, br#"{"tokenizer_class": "X"}"#, "").ends_with(&which));
    }
}
