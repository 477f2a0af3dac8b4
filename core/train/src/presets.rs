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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_a_shape_that_can_be_built() {
        for name in PRESETS {
            assert!(preset(name).unwrap().check().is_ok(), "{name}");
        }
        // The report's 7.30 and 70.09 billion.
        assert_eq!(preset("7b").unwrap().parameter_count() / 10_000_000, 729);
        assert_eq!(preset("70b").unwrap().parameter_count() / 10_000_000, 7009);
    }
}
