//! What a key that is not here may mean: what other trainers call it, or where else in a run file it is.

/// Keys that are called so elsewhere, and what is to be said in place of a question, if anything. Of a
/// section only, where one is named.
type Usual = (&'static str, &'static [&'static str], &'static [&'static str], &'static str);

const LENGTH: &str = "the length of a run is training.steps, each of training.sequences_per_step \
                      sequences of model.sequence_length tokens";
const DEVICE: &str = "the device is no part of a run: name it as --device";
const WARMUP: &str = "write so many steps as training.warmup_steps";
const MICRO: &str = "training.sequences_per_step is the whole batch of a step, and \
                     training.micro_batch_sequences what is computed of it at once";

/// The first that fits is taken: those of one section stand first.
const USUAL: &[Usual] = &[
    ("model", &["name", "size"], &["model.preset"], ""),
    ("model", &["weights", "checkpoint", "pretrained", "init_from", "path"], &["model.from"], ""),
    ("model", &["eps", "epsilon"], &["model.norm_epsilon"], ""),
    ("validation", &["interval", "every", "steps"], &["validation.every_steps"], ""),
    ("checkpoint", &["interval", "every", "steps"], &["checkpoint.every_steps"], ""),
    (
        "",
        &[
            "max_steps",
            "train_steps",
            "training_steps",
            "total_steps",
            "num_steps",
            "n_steps",
            "max_iters",
            "train_iters",
            "num_iters",
            "iters",
            "iterations",
            "max_train_steps",
            "num_train_steps",
            "num_training_steps",
        ],
        &["training.steps"],
        "",
    ),
    (
        "",
        &[
            "epochs",
            "num_epochs",
            "n_epochs",
            "max_epochs",
            "num_train_epochs",
            "tokens",
            "max_tokens",
            "total_tokens",
            "train_tokens",
            "num_tokens",
        ],
        &["training.steps"],
        LENGTH,
    ),
    (
        "",
        &["batch", "batch_size", "global_batch_size", "train_batch_size", "total_batch_size"],
        &["training.sequences_per_step"],
        "",
    ),
    (
        "",
        &[
            "micro_batch",
            "micro_batch_size",
            "device_batch_size",
            "per_device_batch_size",
            "per_device_train_batch_size",
        ],
        &["training.micro_batch_sequences"],
        "",
    ),
    (
        "",
        &[
            "gradient_accumulation",
            "gradient_accumulation_steps",
            "grad_accum",
            "grad_accum_steps",
            "accumulation_steps",
            "accumulate_grad_batches",
        ],
        &[],
        MICRO,
    ),
    (
        "",
        &[
            "lr",
            "max_lr",
            "peak_lr",
            "base_lr",
            "max_learning_rate",
            "peak_learning_rate",
            "learning_rate_max",
        ],
        &["training.learning_rate"],
        "",
    ),
    (
        "",
        &["min_lr", "lr_min", "final_lr", "min_learning_rate"],
        &["training.learning_rate_minimum"],
        "",
    ),
    (
        "",
        &["warmup", "warmup_iters", "num_warmup_steps", "lr_warmup_steps", "lr_warmup_iters"],
        &["training.warmup_steps"],
        "",
    ),
    ("", &["warmup_ratio", "warmup_fraction", "warmup_share"], &[], WARMUP),
    (
        "",
        &["lr_schedule", "lr_scheduler", "lr_scheduler_type", "lr_decay_style", "scheduler"],
        &["training.schedule.kind"],
        "",
    ),
    ("", &["dtype", "mixed_precision", "amp", "bf16", "fp16"], &["training.precision"], ""),
    (
        "",
        &["gradient_checkpointing", "grad_checkpointing", "activation_checkpointing", "recompute"],
        &["training.recompute_blocks"],
        "",
    ),
    ("", &["betas", "adam_betas"], &["optimizer.beta1", "optimizer.beta2"], ""),
    ("", &["adam_beta1"], &["optimizer.beta1"], ""),
    ("", &["adam_beta2"], &["optimizer.beta2"], ""),
    ("", &["eps", "adam_eps", "adam_epsilon"], &["optimizer.epsilon"], ""),
    ("", &["wd"], &["optimizer.weight_decay"], ""),
    (
        "",
        &[
            "grad_clip",
            "clip_grad",
            "clip",
            "max_grad_norm",
            "grad_clip_norm",
            "clip_grad_norm",
            "gradient_clip",
            "gradient_clip_val",
            "gradient_clipping",
            "max_norm",
        ],
        &["optimizer.clip_norm"],
        "",
    ),
    ("", &["vocab_size", "vocabulary_size", "vocab", "n_vocab"], &["data.vocabulary"], ""),
    ("", &["dataset", "datasets", "corpus", "corpora", "train_data"], &["data.sources"], ""),
    (
        "",
        &["val_fraction", "val_split", "validation_split", "validation_fraction"],
        &["data.validation.fraction"],
        "",
    ),
    (
        "",
        &[
            "context",
            "context_length",
            "ctx_len",
            "n_ctx",
            "seq_len",
            "seq_length",
            "sequence_len",
            "max_seq_len",
            "max_seq_length",
            "max_length",
            "block_size",
            "n_positions",
            "max_position_embeddings",
        ],
        &["model.sequence_length"],
        "",
    ),
    (
        "",
        &[
            "d_model",
            "hidden_dim",
            "hidden",
            "n_embd",
            "n_embed",
            "embed_dim",
            "embedding_size",
            "dim",
            "width",
        ],
        &["model.hidden_size"],
        "",
    ),
    (
        "",
        &["num_hidden_layers", "num_layers", "n_layers", "n_layer", "depth"],
        &["model.layers"],
        "",
    ),
    ("", &["num_attention_heads", "num_heads", "n_heads", "n_head"], &["model.heads"], ""),
    ("", &["num_key_value_heads", "num_kv_heads", "n_kv_heads"], &["model.kv_heads"], ""),
    (
        "",
        &["intermediate_size", "ffn_dim", "ffn_hidden_size", "d_ff", "mlp_dim"],
        &["model.ffn_size"],
        "",
    ),
    ("", &["rope_theta", "rotary_base"], &["model.rope_base"], ""),
    (
        "",
        &["rms_norm_eps", "norm_eps", "layer_norm_eps", "layer_norm_epsilon"],
        &["model.norm_epsilon"],
        "",
    ),
    ("", &["initializer_range", "init_range"], &["model.init_std"], ""),
    (
        "",
        &["eval_interval", "eval_every", "eval_steps", "val_interval", "val_every"],
        &["validation.every_steps"],
        "",
    ),
    (
        "",
        &["save_interval", "save_every", "save_steps", "checkpoint_interval", "checkpoint_every"],
        &["checkpoint.every_steps"],
        "",
    ),
    ("", &["keep_last", "max_to_keep", "save_total_limit"], &["checkpoint.keep"], ""),
    ("", &["domain_weights", "mixture_weights", "sampling_weights"], &["mixture"], ""),
    ("", &["device", "devices", "gpu", "gpus", "accelerator"], &[], DEVICE),
];

/// Keys of a run file that mean the same wherever they are typed: under another section, or under none.
const OURS: &[&str] = &[
    "seed",
    "mixture",
    "limits",
    "plugins",
    "decision_lag",
    "data.sources",
    "data.vocabulary",
    "data.tokenizer",
    "data.end_of_document",
    "data.tokenizer_bytes_max",
    "data.on_bad_line",
    "data.validation.fraction",
    "data.validation.minimum_documents",
    "model.preset",
    "model.from",
    "model.layers",
    "model.hidden_size",
    "model.ffn_size",
    "model.heads",
    "model.kv_heads",
    "model.sequence_length",
    "model.rope_base",
    "model.norm_epsilon",
    "model.norm_init",
    "model.init_std",
    "model.scaled_init",
    "model.qk_norm",
    "training.steps",
    "training.sequences_per_step",
    "training.batch_ramp",
    "training.micro_batch_sequences",
    "training.recompute_blocks",
    "training.precision",
    "training.z_loss",
    "training.learning_rate",
    "training.learning_rate_minimum",
    "training.warmup_steps",
    "training.warmup_sequences",
    "training.warmup_tokens",
    "training.schedule",
    "training.schedule.decay_share",
    "optimizer.beta1",
    "optimizer.beta2",
    "optimizer.epsilon",
    "optimizer.weight_decay",
    "optimizer.clip_norm",
    "rules.rate_limit",
    "rules.freeze_steps",
    "validation.every_steps",
    "validation.sequences_per_domain",
    "checkpoint.every_steps",
    "checkpoint.keep",
];

/// What the key that `steps` lead to means: the keys, from the top of the file, and a sentence about
/// them or none.
pub(super) fn elsewhere(steps: &[String]) -> Option<(Vec<&'static str>, &'static str)> {
    let (typed, above) = steps.split_last()?;
    let section = above.first().map_or("", String::as_str);
    // Their tables are few words long, and are told whole.
    if ["limits", "plugins"].contains(&section) {
        return None;
    }
    let typed = typed.to_lowercase().replace('-', "_");
    let usual = USUAL.iter().find(|(of, names, ..)| {
        (of.is_empty() || *of == section) && names.contains(&typed.as_str())
    });
    if let Some((_, _, keys, sentence)) = usual {
        return Some((keys.to_vec(), *sentence));
    }
    let last = |key: &str| key.rsplit('.').next() == Some(typed.as_str());
    let same: Vec<&str> = OURS.iter().copied().filter(|key| last(key)).collect();
    (!same.is_empty()).then_some((same, ""))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::run_file::RunFile;
    use crate::run_file::typed::read;
    use hm_domain::settings::Faults;

    #[test]
    fn every_key_that_is_named_is_one_of_a_run_file() {
        let named = USUAL.iter().flat_map(|(_, _, keys, _)| keys.iter()).chain(OURS);
        for key in named {
            let mut value = json!({"name": "a"});
            let mut place: &mut Value = &mut value;
            for step in key.split('.') {
                place = &mut place[step];
            }
            *place = json!("no value of this key");
            let refused = read::<RunFile>(value).checked(|_| Faults::default()).unwrap_err();
            let told: Vec<String> = refused.all().iter().map(ToString::to_string).collect();
            assert!(!told.iter().any(|told| told.contains("there is no key")), "{key}: {told:?}");
        }
    }

    #[test]
    fn sections_that_are_named_are_told_by_their_own_keys() {
        let of = |key: &str| {
            let steps: Vec<String> = key.split('.').map(str::to_owned).collect();
            elsewhere(&steps).map(|(keys, _)| keys)
        };
        assert_eq!(of("checkpoint.steps"), Some(vec!["checkpoint.every_steps"]));
        assert_eq!(of("steps"), Some(vec!["training.steps"]));
        assert_eq!(of("model.eps"), Some(vec!["model.norm_epsilon"]));
        assert_eq!(of("optimizer.eps"), Some(vec!["optimizer.epsilon"]));
        assert_eq!(of("limits.web.steps"), None);
        assert_eq!(of("training.nonsense"), None);
    }
}
