//! The files beside the weights: what the tokenizer is and which of its tokens begin, end and pad.

use hm_domain::spec::ModelSpec;
use serde_json::{Value, json};

/// A tokenizer to be exported. Tokens that it has not are none.
#[derive(Clone, Debug)]
pub struct TokenizerFiles {
    /// `tokenizer.json` as it is.
    pub json: Vec<u8>,
    /// The largest id and one.
    pub vocabulary: usize,
    /// Begins a text, by name and id.
    pub begin: Option<(String, u32)>,
    /// Ends a document.
    pub end: Option<(String, u32)>,
    /// Fills, and stands for what is unknown.
    pub padding: Option<(String, u32)>,
}

impl TokenizerFiles {
    pub(super) fn begin_id(&self) -> Option<u32> {
        self.begin.as_ref().map(|(_, id)| *id)
    }

    pub(super) fn end_id(&self) -> Option<u32> {
        self.end.as_ref().map(|(_, id)| *id)
    }

    pub(super) fn padding_id(&self) -> Option<u32> {
        self.padding.as_ref().map(|(_, id)| *id)
    }

    /// Names and contents of the small files for a model of this shape.
    pub(super) fn texts(&self, model: &ModelSpec) -> [(&'static str, String); 2] {
        let name = |token: &Option<(String, u32)>| token.as_ref().map(|(name, _)| name.clone());
        let special = json!({
            "bos_token": name(&self.begin),
            "eos_token": name(&self.end),
            "pad_token": name(&self.padding),
            "unk_token": name(&self.padding),
        });
        let mut config = json!({
            "add_bos_token": false,
            "add_eos_token": false,
            // Text comes back as it was, blanks before commas included.
            "clean_up_tokenization_spaces": false,
            "model_max_length": model.sequence_length,
            "tokenizer_class": "PreTrainedTokenizerFast",
        });
        for (key, token) in special.as_object().into_iter().flatten() {
            config[key] = token.clone();
        }
        [("tokenizer_config.json", pretty(&config)), ("special_tokens_map.json", pretty(&special))]
    }
}

/// `generation_config.json`: where text ends, and nothing about sampling.
pub(super) fn generation_text(tokenizer: Option<&TokenizerFiles>) -> String {
    pretty(&json!({
        "bos_token_id": tokenizer.and_then(TokenizerFiles::begin_id),
        "eos_token_id": tokenizer.and_then(TokenizerFiles::end_id),
        "pad_token_id": tokenizer.and_then(TokenizerFiles::padding_id),
    }))
}

/// JSON as people read it.
pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
