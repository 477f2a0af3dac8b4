//! Named shapes. The family's own come from the Aquila2 report (arXiv 2408.07410, table 1 and tables
//! 12 and 13); the small ones are ours.

use hm_domain::spec::ModelSpec;

/// Names of all presets.
pub const PRESETS: [&str; 6] = ["nano", "tiny", "small", "7b", "34b", "70b"];

/// The preset of this name.
pub fn preset(name: &str) -> Option<ModelSpec> {
    // layers, hidden, ffn, heads, kv heads, vocabulary, sequence length, norm init, init std
    let (layers, hidden_size, ffn_size, heads, kv_heads, vocabulary, length, norm_init, init_std) =
        match name {
            "nano" => (2, 64, 176, 4, 2, 512, 64, 1.0, 0.02),
            "tiny" => (4, 256, 704, 8, 2, 4096, 256, 1.0, 0.02),
            "small" => (8, 512, 1408, 8, 2, 16384, 512, 1.0, 0.02),
            "7b" => (32, 4096, 11008, 32, 32, 100_008, 2048, 1.0, 0.02),
            "34b" => (60, 6144, 24576, 48, 8, 100_008, 4096, 0.3, 0.0165),
            "70b" => (80, 8192, 28672, 64, 8, 100_008, 4096, 0.25, 0.0149),
            _ => return None,
        };
    Some(ModelSpec {
        layers,
        hidden_size,
        ffn_size,
        heads,
        kv_heads,
        vocabulary,
        sequence_length: length,
        rope_base: 10_000.0,
        norm_epsilon: 1e-5,
        norm_init,
        init_std,
        qk_norm: false,
    })
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
            assert!(preset(name).unwrap().check().is_ok(), "{name}");
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
                let expected = match path.ends_with("norm.weight") {
                    true => FirstValues::Constant(norm_init),
                    false => FirstValues::Normal { std: init_std },
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
