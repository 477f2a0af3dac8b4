//! Configurations that are read, and those that are refused by key and value.

use hm_domain::spec::ModelSpec;
use serde_json::{Value, json};

use super::config;
use super::element::ElementType;
use crate::preset;

/// As a Llama of transformers 4 says it, in the shape of `nano`.
pub(super) fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "initializer_range": 0.02, "tie_word_embeddings": false, "attention_bias": false,
        "rope_scaling": null, "torch_dtype": "float32", "transformers_version": "4.46.0",
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": null, "use_cache": true,
        "pretraining_tp": 1,
    })
}

fn read(config: &Value) -> Result<ModelSpec, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    config::read(folder.path()).map_err(|error| error.to_string())
}

fn with(key: &str, value: Value) -> Value {
    let mut config = llama();
    config[key] = value;
    config
}

#[test]
fn configurations_of_every_known_kind_give_the_same_shape() {
    let nano = ModelSpec { scaled_init: false, ..preset("nano").unwrap() };
    assert_eq!(read(&llama()).unwrap(), nano);
    let aquila = |name: &str| {
        let mut config = with("architectures", json!([name]));
        config["model_type"] = json!("aquila");
        config["auto_map"] = json!({"AutoConfig": "configuration_aquila.AquilaConfig"});
        config
    };
    // How it was trained is nothing that its weights compute.
    let dropout = with("attention_dropout", json!(0.1));
    for config in [aquila("AquilaForCausalLM"), aquila("AquilaModel"), dropout] {
        assert_eq!(read(&config).unwrap(), nano);
    }
    let mut newer = llama();
    newer.as_object_mut().unwrap().remove("rope_theta");
    newer["rope_parameters"] = json!({"rope_theta": 10000, "rope_type": "default"});
    newer["head_dim"] = json!(16);
    assert_eq!(read(&newer).unwrap(), nano);
}

#[test]
fn what_is_left_out_is_what_transformers_takes() {
    let mut config = llama();
    for key in ["num_key_value_heads", "rms_norm_eps", "rope_theta", "max_position_embeddings"] {
        config.as_object_mut().unwrap().remove(key);
    }
    let model = read(&config).unwrap();
    assert_eq!((model.kv_heads, model.sequence_length), (4, 2048));
    assert_eq!((model.norm_epsilon, model.rope_base), (1e-6, 10_000.0));
}

#[test]
fn configuration_written_is_read_to_the_same_shape() {
    for name in ["nano", "7b", "34b", "70b"] {
        // First values of norms do not pass through: weights bring their own.
        let model = ModelSpec { norm_init: 1.0, scaled_init: false, ..preset(name).unwrap() };
        let text = config::text(&model, ElementType::Bf16, None);
        assert_eq!(read(&serde_json::from_str(&text).unwrap()).unwrap(), model, "{name}");
    }
}

#[test]
fn keys_that_ask_for_something_else_are_refused_with_their_values() {
    let linear = json!({"type": "linear", "factor": 4.0});
    let long = json!({"rope_type": "llama3", "rope_theta": 500_000.0});
    let cases = [
        ("rope_scaling", linear, "rope_scaling is {\"factor\":4.0,\"type\":\"linear\"}"),
        ("rope_parameters", long, "rope_parameters.rope_type is \"llama3\""),
        ("rope_parameters", json!({"rope_theta": 5.0}), "rope_theta is 10000.0"),
        ("rope_theta", json!(-1.0), "rope_theta is -1.0: must be a number above 0"),
        ("attention_bias", json!(true), "attention_bias is true"),
        ("mlp_bias", json!(true), "mlp_bias is true"),
        ("tie_word_embeddings", json!(true), "tie_word_embeddings is true"),
        (
            "hidden_act",
            json!("gelu"),
            "hidden_act is \"gelu\": an Aquila2 decoder has only \"silu\"",
        ),
        ("partial_rotary_factor", json!(0.5), "partial_rotary_factor is 0.5"),
        ("quantization_config", json!({"bits": 4}), "quantization_config is {\"bits\":4}"),
        ("sliding_window", json!(4096), "sliding_window is 4096"),
        (
            "head_dim",
            json!(32),
            "head_dim is 32: must be hidden_size 64 / num_attention_heads 4 = 16",
        ),
        (
            "architectures",
            json!(["MistralForCausalLM"]),
            "architectures is [\"MistralForCausalLM\"]",
        ),
        ("architectures", json!([]), "architectures is []: must be one of LlamaForCausalLM"),
        ("model_type", json!("qwen2"), "model_type is \"qwen2\": must be llama or aquila"),
        ("num_experts", json!(8), "num_experts is 8: this key is not known here"),
        ("num_attention_heads", json!(5), "num_attention_heads is 5: must divide hidden_size 64"),
        ("num_attention_heads", json!(0), "num_attention_heads is 0"),
        (
            "num_key_value_heads",
            json!(3),
            "num_key_value_heads is 3: must divide num_attention_heads 4",
        ),
        ("hidden_size", json!(-64), "hidden_size is -64: must be a whole number from 1"),
        ("vocab_size", json!("512"), "vocab_size is \"512\""),
        ("vocab_size", Value::Null, "vocab_size is null"),
        ("num_hidden_layers", json!(1u64 << 40), "num_hidden_layers is 1099511627776"),
        ("rms_norm_eps", json!(0.0), "rms_norm_eps is 0.0: must be a number above 0"),
        ("rms_norm_eps", json!(5.0), "rms_norm_eps is 5: must be at least"),
        ("num_hidden_layers", json!(5000), "num_hidden_layers is 5000: must be at least 1 and at"),
    ];
    for (key, value, sentence) in cases {
        let error = read(&with(key, value)).unwrap_err();
        assert!(error.contains("config.json: ") && error.contains(sentence), "{key}: {error}");
    }
}

#[test]
fn text_that_is_no_configuration_is_refused_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let error = config::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
    for text in ["", "[]", "{\"architectures\": ", "null"] {
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        let error = config::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("config.json: is no JSON object"), "{error}");
    }
}
