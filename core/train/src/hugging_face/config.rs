//! `config.json` of a Llama or Aquila model, read into a shape and written from one.
//!
//! Reading refuses every key whose value asks for something that an Aquila2 decoder does not do, and
//! every key it does not know: weights under a misread configuration load well and compute nonsense.

use std::path::{Path, PathBuf};

use hm_domain::settings::Faults;
use hm_domain::spec::ModelSpec;
use serde_json::{Map, Value, json};

use super::element::ElementType;
use super::tokenizer_files::TokenizerFiles;
use crate::error::{Result, TrainError, at};

/// Classes whose weights have our names and shapes. Aquila's own differ from Llama in name only.
const ARCHITECTURES: [&str; 3] = ["LlamaForCausalLM", "AquilaForCausalLM", "AquilaModel"];

/// Keys of which no value changes what the weights compute.
const WITHOUT_EFFECT: [&str; 15] = [
    "_name_or_path",
    // A matter of how it was trained.
    "attention_dropout",
    "auto_map",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    // How a matrix product is cut into parts; the product is the same.
    "pretraining_tp",
    "return_dict",
    "torch_dtype",
    "transformers_version",
    "unk_token_id",
    "use_cache",
];

/// Keys read for their value.
const READ: [&str; 14] = [
    "architectures",
    "head_dim",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_parameters",
    "rope_theta",
    "vocab_size",
];

/// The configuration of `folder` as a shape. Norms' first values are not in it: weights bring their own.
pub(super) fn read(folder: &Path) -> Result<ModelSpec> {
    let path = folder.join(super::CONFIG_FILE);
    let bytes = std::fs::read(&path).map_err(at(&path))?;
    let keys: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| {
        TrainError::Broken { path: path.clone(), reason: format!("is no JSON object: {error}") }
    })?;
    let config = Config { path, keys };
    config.refuse_other_architectures()?;
    config.refuse_what_is_not_done()?;
    config.model()
}

/// The `config.json` under which transformers makes of our weights what we make of them.
pub(super) fn text(
    model: &ModelSpec,
    element: ElementType,
    tokenizer: Option<&TokenizerFiles>,
) -> String {
    let id = |token: fn(&TokenizerFiles) -> Option<u32>| tokenizer.and_then(token);
    // transformers 4 reads `rope_theta` and `torch_dtype`, its successor the other two.
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": id(TokenizerFiles::begin_id),
        "dtype": element.torch_name(),
        "eos_token_id": id(TokenizerFiles::end_id),
        "head_dim": model.head_size(),
        "hidden_act": "silu",
        "hidden_size": model.hidden_size,
        "initializer_range": model.init_std,
        "intermediate_size": model.ffn_size,
        "max_position_embeddings": model.sequence_length,
        "mlp_bias": false,
        "model_type": "llama",
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "num_key_value_heads": model.kv_heads,
        "pad_token_id": id(TokenizerFiles::padding_id),
        "rms_norm_eps": model.norm_epsilon,
        "rope_parameters": { "rope_theta": model.rope_base, "rope_type": "default" },
        "rope_theta": model.rope_base,
        "tie_word_embeddings": false,
        "torch_dtype": element.torch_name(),
        "use_cache": true,
        "vocab_size": model.vocabulary,
    });
    super::tokenizer_files::pretty(&config)
}

struct Config {
    path: PathBuf,
    keys: Map<String, Value>,
}

impl Config {
    fn refuse<T>(&self, key: &str, value: &Value, must: impl Into<String>) -> Result<T> {
        let (path, key) = (self.path.clone(), key.to_owned());
        Err(TrainError::Config { path, key, value: value.to_string(), must: must.into() })
    }

    /// The value of `key`; none where it is missing or null.
    fn value(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    fn refuse_other_architectures(&self) -> Result<()> {
        let found = self.keys.get("architectures").unwrap_or(&Value::Null);
        let known = |name: &Value| name.as_str().is_some_and(|name| ARCHITECTURES.contains(&name));
        if !found.as_array().is_some_and(|names| names.len() == 1 && names.iter().all(known)) {
            let must = format!("must be one of {}", ARCHITECTURES.join(", "));
            return self.refuse("architectures", found, must);
        }
        match self.value("model_type").unwrap_or(&json!("llama")) {
            Value::String(name) if name == "llama" || name == "aquila" => Ok(()),
            other => self.refuse("model_type", other, "must be llama or aquila"),
        }
    }

    fn refuse_what_is_not_done(&self) -> Result<()> {
        // What each key may say; null and a missing key say the same.
        let only: [(&str, Value); 11] = [
            ("attention_bias", json!(false)),
            ("hidden_act", json!("silu")),
            ("is_decoder", json!(true)),
            ("is_encoder_decoder", json!(false)),
            ("mlp_bias", json!(false)),
            ("partial_rotary_factor", json!(1.0)),
            ("quantization_config", Value::Null),
            ("rope_scaling", Value::Null),
            ("sliding_window", Value::Null),
            ("tie_word_embeddings", json!(false)),
            ("use_sliding_window", json!(false)),
        ];
        for (key, value) in self.keys.iter().filter(|(_, value)| !value.is_null()) {
            if let Some((_, may)) = only.iter().find(|(only, _)| only == key) {
                if !same(value, may) {
                    return self.refuse(key, value, format!("an Aquila2 decoder has only {may}"));
                }
            } else if !READ.contains(&key.as_str()) && !WITHOUT_EFFECT.contains(&key.as_str()) {
                let must =
                    "this key is not known here; remove it if the weights do not depend on it";
                return self.refuse(key, value, must);
            }
        }
        Ok(())
    }

    fn model(&self) -> Result<ModelSpec> {
        let heads = self.count("num_attention_heads", None)?;
        // Defaults are those of transformers' class.
        let model = ModelSpec {
            layers: self.count("num_hidden_layers", None)?,
            hidden_size: self.count("hidden_size", None)?,
            ffn_size: self.count("intermediate_size", None)?,
            heads,
            kv_heads: self.count("num_key_value_heads", Some(heads))?,
            vocabulary: self.count("vocab_size", None)?,
            sequence_length: self.count("max_position_embeddings", Some(2048))?,
            rope_base: self.rope_base()?,
            norm_epsilon: self.positive("rms_norm_eps", self.value("rms_norm_eps"), 1e-6)?,
            norm_init: 1.0,
            init_std: self.positive("initializer_range", self.value("initializer_range"), 0.02)?,
            // Weights that are there were not drawn.
            scaled_init: false,
            qk_norm: false,
        };
        self.refuse_heads_that_do_not_divide(&model)?;
        self.refuse_what_no_decoder_has(&model)?;
        Ok(model)
    }

    /// What a model's own bounds refuse, under the key that stands in the file.
    fn refuse_what_no_decoder_has(&self, model: &ModelSpec) -> Result<()> {
        let mut faults = Faults::default();
        model.check(&mut faults);
        let Some(fault) = faults.all().first() else { return Ok(()) };
        let key = match fault.key.as_str() {
            "model.layers" => "num_hidden_layers",
            "model.ffn_size" => "intermediate_size",
            "model.heads" => "num_attention_heads",
            "model.kv_heads" => "num_key_value_heads",
            "model.vocabulary" => "vocab_size",
            "model.sequence_length" => "max_position_embeddings",
            "model.rope_base" => "rope_theta",
            "model.norm_epsilon" => "rms_norm_eps",
            "model.init_std" => "initializer_range",
            other => other.trim_start_matches("model."),
        };
        let (path, key) = (self.path.clone(), key.to_owned());
        let (value, must) = (fault.value.clone(), fault.must.clone());
        Err(TrainError::Config { path, key, value, must })
    }

    fn refuse_heads_that_do_not_divide(&self, model: &ModelSpec) -> Result<()> {
        let ModelSpec { hidden_size, heads, kv_heads, .. } = *model;
        if !hidden_size.is_multiple_of(heads) {
            let must = format!("must divide hidden_size {hidden_size}");
            return self.refuse("num_attention_heads", &json!(heads), must);
        }
        if !heads.is_multiple_of(kv_heads) {
            let must = format!("must divide num_attention_heads {heads}");
            return self.refuse("num_key_value_heads", &json!(kv_heads), must);
        }
        match self.value("head_dim") {
            Some(size) if !same(size, &json!(model.head_size())) => {
                let must = format!(
                    "must be hidden_size {hidden_size} / num_attention_heads {heads} = {}",
                    model.head_size()
                );
                self.refuse("head_dim", size, must)
            }
            _ => Ok(()),
        }
    }

    fn count(&self, key: &str, default: Option<u32>) -> Result<u32> {
        let Some(value) = self.value(key) else {
            let must = "must be a whole number, at least 1";
            return default.map_or_else(|| self.refuse(key, &Value::Null, must), Ok);
        };
        match value.as_u64().and_then(|count| u32::try_from(count).ok()) {
            Some(count) if count > 0 => Ok(count),
            _ => self.refuse(key, value, format!("must be a whole number from 1 to {}", u32::MAX)),
        }
    }

    fn positive(&self, key: &str, value: Option<&Value>, default: f64) -> Result<f64> {
        let Some(value) = value else { return Ok(default) };
        match value.as_f64() {
            Some(number) if number > 0.0 => Ok(number),
            _ => self.refuse(key, value, "must be a number above 0"),
        }
    }

    /// Of `rope_theta`, where transformers 4 has it, or of `rope_parameters`; of both if they agree.
    fn rope_base(&self) -> Result<f64> {
        let old = self.value("rope_theta");
        let Some(parameters) = self.value("rope_parameters") else {
            return self.positive("rope_theta", old, 10_000.0);
        };
        let Some(parameters) = parameters.as_object() else {
            return self.refuse("rope_parameters", parameters, "must be an object");
        };
        for (key, value) in parameters.iter().filter(|(_, value)| !value.is_null()) {
            let known = match key.as_str() {
                "rope_theta" => true,
                "rope_type" => value == "default",
                "partial_rotary_factor" => same(value, &json!(1.0)),
                _ => false,
            };
            if !known {
                let must = "an Aquila2 decoder rotates whole heads, unscaled";
                return self.refuse(&format!("rope_parameters.{key}"), value, must);
            }
        }
        let new = parameters.get("rope_theta").filter(|value| !value.is_null());
        let base = self.positive("rope_parameters.rope_theta", new.or(old), 10_000.0)?;
        match old {
            Some(old) if !same(old, &json!(base)) => {
                self.refuse("rope_theta", old, format!("rope_parameters.rope_theta is {base}"))
            }
            _ => Ok(base),
        }
    }
}

/// Equal, numbers by value: 1 is 1.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}
