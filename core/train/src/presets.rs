//! Named shapes, and what a shape is where nothing is said. The family's own come from the Aquila2 report
//! (arXiv 2408.07410, table 1 and tables 12 and 13), the middle ones from others' published models, and
//! the small ones are ours.

use hm_domain::spec::ModelSpec;

/// Names of all presets, the smallest first.
pub const PRESETS: [&str; 11] =
    ["nano", "tiny", "small", "125m", "350m", "760m", "1.3b", "3b", "7b", "34b", "70b"];

/// The preset of this name. Vocabularies are those of the report, or ours: a run's tokenizer says its own.
pub fn preset(name: &str) -> Option<ModelSpec> {
    // layers, hidden, ffn, heads, kv heads, vocabulary, sequence length, norm init, init std
    let (layers, hidden_size, ffn_size, heads, kv_heads, vocabulary, length, norm_init, init_std) =
        match name {
            "nano" => (2, 64, 176, 4, 2, 512, 64, 1.0, 0.02),
            "tiny" => (4, 256, 704, 8, 2, 4096, 256, 1.0, 0.02),
            "small" => (8, 512, 1408, 8, 2, 16384, 512, 1.0, 0.02),
            // Layers, widths, heads and length of GPT-3 Small, Medium, Large and XL (2005.14165, table
            // 2.1), but 16 heads of 128 in the last, whose 24 do not divide its width. Ours: the gated
            // feed-forward at the width of `ffn_size_for`, head and embedding apart.
            "125m" => (12, 768, 2048, 12, 12, 32768, 2048, 1.0, 0.02),
            "350m" => (24, 1024, 2816, 16, 16, 32768, 2048, 1.0, 0.02),
            "760m" => (24, 1536, 4096, 16, 16, 32768, 2048, 1.0, 0.02),
            "1.3b" => (24, 2048, 5632, 16, 16, 32768, 2048, 1.0, 0.02),
            // Layers, widths and grouped heads of Llama 3.2 3B (its `config.json`); length, rotary base
            // and head apart from the embedding are ours.
            "3b" => (28, 3072, 8192, 24, 8, 32768, 2048, 1.0, 0.02),
            "7b" => (32, 4096, 11008, 32, 32, 100_008, 2048, 1.0, 0.02),
            "34b" => (60, 6144, 24576, 48, 8, 100_008, 4096, 0.3, 0.0165),
            "70b" => (80, 8192, 28672, 64, 8, 100_008, 4096, 0.25, 0.0149),
            _ => return None,
        };
    let shape = ModelSpec { ffn_size, kv_heads, vocabulary, ..plain(layers, hidden_size, heads) };
    Some(ModelSpec { sequence_length: length, norm_init, init_std, ..shape })
}

/// A shape of which three numbers are given. The rest is that of Aquila2-7B: a key head for every query
/// head, its rule for the feed-forward, its length, rotary base, norms and deviation.
pub fn plain(layers: u32, hidden_size: u32, heads: u32) -> ModelSpec {
    ModelSpec {
        layers,
        hidden_size,
        ffn_size: ffn_size_for(hidden_size),
        heads,
        kv_heads: heads,
        vocabulary: 32768,
        sequence_length: 2048,
        rope_base: 10_000.0,
        norm_epsilon: 1e-5,
        norm_init: 1.0,
        init_std: 0.02,
        scaled_init: true,
        qk_norm: false,
    }
}

/// Inner width of a gated feed-forward that costs what a plain one of four times the width does: two
/// thirds of that, up to a multiple of 256, as Llama's code and the script of Aquila2-7B have it. At
/// most what u32 holds.
fn ffn_size_for(hidden_size: u32) -> u32 {
    let two_thirds = 4 * u64::from(hidden_size) * 2 / 3;
    u32::try_from(two_thirds.next_multiple_of(256)).unwrap_or(u32::MAX)
}

/// What a vocabulary is padded to at least, per tensor-parallel rank: `--make-vocab-size-divisible-by`
/// of the Aquila2 training scripts (`FlagScale` 0.2; Megatron's own default is 128).
const VOCABULARY_MULTIPLE: u32 = 64;

/// Rows of embedding and head for a tokenizer of `tokens` ids, trained on `tensor_parallel` ranks: the
/// next multiple of 64 for each rank, as the Aquila2 scripts pad them (arXiv 2408.07410, tables 12 and
/// 13 give the 100,008 before padding; so do the released models). None when that is beyond `u32`.
pub fn padded_vocabulary(tokens: u32, tensor_parallel: u32) -> Option<u32> {
    tokens.checked_next_multiple_of(VOCABULARY_MULTIPLE.checked_mul(tensor_parallel)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{FirstValues, first_values, shapes};

    #[test]
    fn every_preset_is_a_shape_that_can_be_built() {
        for name in PRESETS {
            assert_eq!(preset(name).unwrap().checked(), Ok(()), "{name}");
        }
    }

    #[test]
    fn members_have_the_reports_parameters_to_the_unit() {
        // The report's 7.30, 33.69 and 70.09 billion.
        for (name, count) in
            [("7b", 7_295_537_152), ("34b", 33_693_554_688), ("70b", 70_090_891_264)]
        {
            assert_eq!(preset(name).unwrap().parameter_count(), count, "{name}");
        }
    }

    #[test]
    fn middle_presets_have_the_parameters_worked_by_hand() {
        // 2 V h + layers (2 h² + 2 h kv + 3 h f + 2 h) + h.
        for (name, count) in [
            ("125m", 2 * 32768 * 768 + 12 * (4 * 768 * 768 + 3 * 768 * 2048 + 2 * 768) + 768),
            ("350m", 2 * 32768 * 1024 + 24 * (4_194_304 + 8_650_752 + 2048) + 1024),
            ("760m", 100_663_296 + 24 * (9_437_184 + 18_874_368 + 3072) + 1536),
            ("1.3b", 134_217_728 + 24 * (16_777_216 + 34_603_008 + 4096) + 2048),
            ("3b", 201_326_592 + 28 * (18_874_368 + 6_291_456 + 75_497_472 + 6144) + 3072),
        ] {
            assert_eq!(preset(name).unwrap().parameter_count(), count, "{name}");
        }
        let billions = |name: &str| preset(name).unwrap().parameter_count() as f64 / 1e9;
        assert!((3.0..3.05).contains(&billions("3b")) && (1.3..1.4).contains(&billions("1.3b")));
    }

    #[test]
    fn feed_forward_of_a_plain_shape_is_that_of_the_published_ones() {
        // Llama 7B, 13B and 65B (2302.13971) have these widths.
        for (hidden_size, ffn_size) in [(4096, 11008), (5120, 13824), (8192, 22016)] {
            assert_eq!(plain(1, hidden_size, 1).ffn_size, ffn_size);
        }
        assert_eq!(plain(32, 4096, 32), ModelSpec { vocabulary: 32768, ..preset("7b").unwrap() });
        assert_eq!(plain(1, u32::MAX, 1).ffn_size, u32::MAX);
        for name in ["125m", "350m", "760m", "1.3b"] {
            let model = preset(name).unwrap();
            assert_eq!(model, plain(model.layers, model.hidden_size, model.heads), "{name}");
        }
    }

    #[test]
    fn feed_forward_widths_follow_the_scripts_rule() {
        // int(4 h 2/3), times the multiplier, up to a multiple (`arguments.py` of the scripts).
        for (name, tenths, multiple) in [("7b", 10, 256), ("34b", 13, 4096), ("70b", 13, 4096)] {
            let model = preset(name).unwrap();
            let two_thirds = 4 * model.hidden_size * 2 / 3;
            let width = (two_thirds * tenths / 10).next_multiple_of(multiple);
            assert_eq!(model.ffn_size, width, "{name}");
        }
    }

    #[test]
    fn members_have_the_reports_constants() {
        for (name, length, norm_init, init_std) in
            [("7b", 2048, 1.0, 0.02), ("34b", 4096, 0.3, 0.0165), ("70b", 4096, 0.25, 0.0149)]
        {
            let model = preset(name).unwrap();
            assert_eq!((model.head_size(), model.vocabulary), (128, 100_008), "{name}");
            assert_eq!((model.rope_base, model.norm_epsilon), (10_000.0, 1e-5), "{name}");
            assert_eq!(model.sequence_length, length, "{name}");
            for (path, shape) in shapes(&model) {
                let scaled = path.ends_with("o_proj.weight") || path.ends_with("down_proj.weight");
                let scale = if scaled { (2.0 * f64::from(model.layers)).sqrt() } else { 1.0 };
                let expected = match path.ends_with("norm.weight") {
                    true => FirstValues::Constant(norm_init),
                    false => FirstValues::Normal { std: init_std / scale },
                };
                assert_eq!(first_values(&model, &path, &shape), expected, "{name} {path}");
            }
        }
    }

    #[test]
    fn vocabulary_is_padded_to_a_multiple_of_64_for_each_rank() {
        // The ranks of the report: 1 for the 7B, 4 for the 34B, 8 for the 70B.
        for (ranks, rows) in [(1, 100_032), (4, 100_096), (8, 100_352)] {
            assert_eq!(padded_vocabulary(100_008, ranks), Some(rows));
        }
        assert_eq!(padded_vocabulary(128, 2), Some(128));
        assert_eq!(padded_vocabulary(u32::MAX, 1), None);
        assert_eq!(padded_vocabulary(1, u32::MAX), None);
        assert_eq!(padded_vocabulary(1, 0), None);
    }
}
