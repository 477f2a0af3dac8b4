//! Shape and first values of a model: a dozen numbers, what each must be, and how many parameters they
//! make.

use serde::{Deserialize, Serialize};

use crate::settings::{Faults, Told};

/// An Aquila2 decoder (arXiv 2408.07410, section 3.1 and table 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Decoder blocks.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Inner width of the `SwiGLU` feed-forward.
    pub ffn_size: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; query heads share them in equal groups.
    pub kv_heads: u32,
    /// Rows of embedding and head, after padding.
    pub vocabulary: u32,
    /// Tokens a sequence holds.
    pub sequence_length: u32,
    /// Base of the rotary embedding.
    pub rope_base: f64,
    /// Epsilon of every `RMSNorm`.
    pub norm_epsilon: f64,
    /// Initial weight of every `RMSNorm`.
    pub norm_init: f64,
    /// Standard deviation of initial matrices.
    pub init_std: f64,
    /// Whether those that write to the residual stream (`o_proj`, `down_proj`) begin smaller, by the
    /// root of twice the number of layers, as Megatron-LM's `scaled_init_method_normal` has it: the sum
    /// of all blocks then does not grow with their number.
    #[serde(default, skip_serializing_if = "is_false")]
    pub scaled_init: bool,
    /// Whether every query and key head is normalised before it turns (Henry and others, 2010.04245).
    #[serde(default, skip_serializing_if = "is_false")]
    pub qk_norm: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

// What no model comes near, and few enough that no count of bytes or operations of a step leaves u64
// where the step's own bounds hold too. Whether a machine bears it is another question, asked later.
/// The deepest published decoders have 1000 (2203.00555).
const LAYERS_MAX: u32 = 4096;
/// Eight times the widest published ones.
const HIDDEN_SIZE_MAX: u32 = 1 << 17;
/// Four times the widest hidden size, as feed-forwards without a gate have it.
const FFN_SIZE_MAX: u32 = 4 * HIDDEN_SIZE_MAX;
/// Sixty times the largest vocabularies in use.
const VOCABULARY_MAX: u32 = 1 << 24;
/// Longer than the longest contexts that are advertised, ten million.
const SEQUENCE_LENGTH_MAX: u32 = 1 << 24;
/// Long-context models use 1e4 to 1e8.
const ROPE_BASE_MAX: f64 = 1e12;
/// Below this f32 could not tell a norm's denominator from zero.
const NORM_EPSILON_MIN: f64 = 1e-12;
/// Above this a norm would no longer normalise.
const NORM_EPSILON_MAX: f64 = 0.1;
/// Below this a norm's weight leaves f32 within a few blocks.
const NORM_INIT_MIN: f64 = 1e-3;
/// Ten times the usual: above that a model begins so sure of its guesses that no rate moves it.
const NORM_INIT_MAX: f64 = 10.0;
/// Below this squares vanish beside the epsilon of the norm that they are divided by.
const INIT_STD_MIN: f64 = 1e-6;
/// Fifty times the usual, for the same reason as that of norms.
const INIT_STD_MAX: f64 = 1.0;

impl ModelSpec {
    /// Width of one head.
    pub fn head_size(&self) -> u32 {
        self.hidden_size / self.heads
    }

    /// Notes everything that makes this no shape of a decoder, under the keys of a run file.
    pub fn check(&self, faults: &mut Faults) {
        for (key, count, most) in [
            ("layers", self.layers, LAYERS_MAX),
            ("hidden_size", self.hidden_size, HIDDEN_SIZE_MAX),
            ("ffn_size", self.ffn_size, FFN_SIZE_MAX),
            ("heads", self.heads, HIDDEN_SIZE_MAX),
            ("kv_heads", self.kv_heads, HIDDEN_SIZE_MAX),
            ("vocabulary", self.vocabulary, VOCABULARY_MAX),
            ("sequence_length", self.sequence_length, SEQUENCE_LENGTH_MAX),
        ] {
            within(faults, key, count, 1, most);
        }
        within(faults, "rope_base", self.rope_base, 1.0, ROPE_BASE_MAX);
        within(faults, "norm_epsilon", self.norm_epsilon, NORM_EPSILON_MIN, NORM_EPSILON_MAX);
        within(faults, "norm_init", self.norm_init, NORM_INIT_MIN, NORM_INIT_MAX);
        within(faults, "init_std", self.init_std, INIT_STD_MIN, INIT_STD_MAX);
        self.check_heads(faults);
    }

    /// Heads divide what they must, where there are any.
    fn check_heads(&self, faults: &mut Faults) {
        let ModelSpec { hidden_size, heads, kv_heads, .. } = *self;
        if hidden_size == 0 || heads == 0 {
            return;
        }
        if !hidden_size.is_multiple_of(heads) {
            let must = format!("must divide model.hidden_size {hidden_size}");
            faults.add("model.heads", heads, must);
        } else if !self.head_size().is_multiple_of(2) {
            let must = format!(
                "leaves heads of {} from model.hidden_size {hidden_size}: their size must be even \
                 for the rotary embedding",
                self.head_size()
            );
            faults.add("model.heads", heads, must);
        }
        if kv_heads > 0 && !heads.is_multiple_of(kv_heads) {
            faults.add("model.kv_heads", kv_heads, format!("must divide model.heads {heads}"));
        }
    }

    /// Ok for a shape of a decoder.
    ///
    /// # Errors
    /// All faults that [`ModelSpec::check`] notes.
    pub fn checked(&self) -> Result<(), Faults> {
        let mut faults = Faults::default();
        self.check(&mut faults);
        faults.into_result()
    }

    /// Trainable parameters: embedding, head, and per block q, k, v, o, gate, up, down and two norms.
    pub fn parameter_count(&self) -> u64 {
        let [layers, hidden, ffn, vocabulary] =
            [self.layers, self.hidden_size, self.ffn_size, self.vocabulary].map(u64::from);
        let kv = u64::from(self.kv_heads) * u64::from(self.head_size());
        let qk_norm = if self.qk_norm { 2 * u64::from(self.head_size()) } else { 0 };
        let block = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * ffn + 2 * hidden + qk_norm;
        2 * vocabulary * hidden + layers * block + hidden
    }
}

/// Notes a value that is not between two bounds, or no number at all.
fn within<T: PartialOrd + Told + Copy>(
    faults: &mut Faults,
    key: &str,
    value: T,
    least: T,
    most: T,
) {
    let holds = least <= value && value <= most;
    let must = format!("must be at least {} and at most {}", least.told(), most.told());
    faults.require(holds, format_args!("model.{key}"), value, must);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aquila2_34b() -> ModelSpec {
        ModelSpec {
            layers: 60,
            hidden_size: 6144,
            ffn_size: 24576,
            heads: 48,
            kv_heads: 8,
            vocabulary: 100008,
            sequence_length: 4096,
            rope_base: 10000.0,
            norm_epsilon: 1e-5,
            norm_init: 0.3,
            init_std: 0.0165,
            scaled_init: true,
            qk_norm: false,
        }
    }

    fn faults(model: &ModelSpec) -> Vec<String> {
        let mut faults = Faults::default();
        model.check(&mut faults);
        faults.all().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn counts_the_parameters_of_aquila2_34b() {
        // 2·100008·6144 + 60·(2·6144² + 2·6144·1024 + 3·6144·24576 + 2·6144) + 6144, by hand.
        assert_eq!(aquila2_34b().parameter_count(), 33_693_554_688);
        assert_eq!(aquila2_34b().checked(), Ok(()));
    }

    #[test]
    fn heads_that_do_not_divide_are_refused_by_name() {
        let due = |model: ModelSpec, sentence: &str| assert_eq!(faults(&model), [sentence]);
        due(
            ModelSpec { kv_heads: 7, ..aquila2_34b() },
            "model.kv_heads is 7: must divide model.heads 48",
        );
        due(
            ModelSpec { heads: 40, ..aquila2_34b() },
            "model.heads is 40: must divide model.hidden_size 6144",
        );
        due(
            ModelSpec { heads: 2048, ..aquila2_34b() },
            "model.heads is 2048: leaves heads of 3 from model.hidden_size 6144: their size must be \
             even for the rotary embedding",
        );
    }

    #[test]
    fn first_values_from_which_no_rate_moves_a_model_are_refused() {
        let model = ModelSpec { norm_init: 1e3, init_std: 30.0, ..aquila2_34b() };
        assert_eq!(
            faults(&model),
            [
                "model.norm_init is 1000: must be at least 0.001 and at most 10",
                "model.init_std is 30: must be at least 0.000001 and at most 1"
            ]
        );
    }

    #[test]
    fn all_faults_of_a_shape_are_told_at_once() {
        let model = ModelSpec {
            layers: 0,
            heads: 0,
            kv_heads: 0,
            sequence_length: u32::MAX,
            rope_base: f64::NAN,
            norm_epsilon: -1.0,
            norm_init: 0.0,
            init_std: f64::INFINITY,
            ..aquila2_34b()
        };
        let found = faults(&model);
        let keys: Vec<&str> =
            found.iter().map(|fault| fault.split_once(" is ").unwrap().0).collect();
        let due = [
            "layers",
            "heads",
            "kv_heads",
            "sequence_length",
            "rope_base",
            "norm_epsilon",
            "norm_init",
            "init_std",
        ];
        assert_eq!(keys, due.map(|key| format!("model.{key}")));
        assert_eq!(found[0], "model.layers is 0: must be at least 1 and at most 4096");
        assert_eq!(
            found[3],
            "model.sequence_length is 4294967295: must be at least 1 and at most 16777216"
        );
    }

    #[test]
    fn largest_shape_that_is_accepted_can_be_counted() {
        let model = ModelSpec {
            layers: LAYERS_MAX,
            hidden_size: HIDDEN_SIZE_MAX,
            ffn_size: FFN_SIZE_MAX,
            heads: 1,
            kv_heads: 1,
            vocabulary: VOCABULARY_MAX,
            sequence_length: SEQUENCE_LENGTH_MAX,
            qk_norm: true,
            ..aquila2_34b()
        };
        assert_eq!(model.checked(), Ok(()));
        // 2·2^24·2^17 + 2^12·(4·2^34 + 3·2^17·2^19 + 4·2^17) + 2^17, by hand.
        let block = (4u64 << 34) + (3 << 36) + (4 << 17);
        assert_eq!(model.parameter_count(), (1 << 42) + (block << 12) + (1 << 17));
    }
}
