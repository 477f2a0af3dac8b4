//! What a step will cost, before anything is allocated: bytes by kind on the CPU, and the work of a
//! token. Follows what the forward and the backward pass keep, so a change there is a change here; a
//! test holds the sum against what a run really used.

use hm_domain::spec::{ModelSpec, RunSpec};

use crate::ops::chunk_rows;
use crate::parameters::shapes;
use crate::tensor_file::LITTLE_ENDIAN_NUMBERS;

/// Bytes of one value.
const VALUE: u64 = 4;

/// Bytes of memory by kind, at the fullest moment of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemoryPlan {
    /// Sequences in memory at once.
    pub micro_batch_sequences: u32,
    /// The model's weights.
    pub weights_bytes: u64,
    /// Both moments of every weight.
    pub moments_bytes: u64,
    /// Gradients that exist at that moment.
    pub gradients_bytes: u64,
    /// What the gradient needs of the forward pass, and what is being computed.
    pub activations_bytes: u64,
    /// Freed and not given back: tensors of two sizes come and go, and the allocator keeps about one of
    /// each; where micro-batches add up, sums that stay lie between them, and it keeps a block's gradient
    /// more (measured, on the shapes of the test).
    pub allocator_bytes: u64,
    /// What threads copy parts of the matrices into that they multiply, all together.
    pub threads_bytes: u64,
    /// What saving a checkpoint adds to weights and moments: buffers, since tensors are written from
    /// where they lie. It comes between steps, when there are no activations.
    pub checkpoint_bytes: u64,
    /// What training on adds while a checkpoint is written from a copy: at most all weights and moments once
    /// more. Where so much is not free, training waits instead, so it is no part of [`MemoryPlan::bytes`].
    pub copy_bytes: u64,
}

/// Numbers on their way to a checkpoint's files, and the files' own buffers.
const CHECKPOINT_BYTES: u64 = VALUE * LITTLE_ENDIAN_NUMBERS as u64 + 2 * (8 << 10);

/// Most that one thread copies parts of matrices into: as much as its processor's second-level cache holds,
/// which is 1 to 2 MiB.
const THREAD_BYTES_MAX: u64 = 1 << 20;

impl MemoryPlan {
    /// The plan of a run whose steps are cut into micro-batches of so many sequences, on this machine's
    /// threads.
    pub fn of(spec: &RunSpec, micro_batch_sequences: u32) -> MemoryPlan {
        let weights_bytes = VALUE * spec.model.parameter_count();
        let accumulates = micro_batch_sequences < spec.training.sequences_per_step;
        let step = Step::of(spec, evened(spec, micro_batch_sequences));
        let moments = step.moments(accumulates);
        let fullest = moments
            .into_iter()
            .max_by_key(|(gradients, activations)| gradients.saturating_add(*activations));
        let (gradients_bytes, activations_bytes) = fullest.expect("a step has moments");
        let freed = step.hidden.saturating_add(step.inner);
        let freed = match accumulates {
            true => freed.saturating_add(step.block_gradient),
            false => freed,
        };
        let threads = rayon::current_num_threads() as u64;
        MemoryPlan {
            micro_batch_sequences,
            weights_bytes,
            moments_bytes: 2 * weights_bytes,
            gradients_bytes,
            activations_bytes,
            allocator_bytes: freed,
            threads_bytes: threads * step.hidden.min(THREAD_BYTES_MAX),
            checkpoint_bytes: CHECKPOINT_BYTES,
            copy_bytes: if saves_on_the_way(spec) { 3 * weights_bytes } else { 0 },
        }
    }

    /// All that it cannot do without; where a count is beyond u64, that.
    pub fn bytes(&self) -> u64 {
        let model = self.weights_bytes + self.moments_bytes + self.checkpoint_bytes;
        let freed = [self.allocator_bytes, self.threads_bytes];
        let step = [self.gradients_bytes, self.activations_bytes].into_iter().chain(freed);
        step.fold(model, u64::saturating_add)
    }
}

/// Whether steps follow on a checkpoint: the last one is written when there are no more.
fn saves_on_the_way(spec: &RunSpec) -> bool {
    let every = spec.checkpoint.every_steps;
    every > 0 && every < spec.training.steps
}

/// Sequences of the largest micro-batch, of those that a step is cut into evenly: see
/// [`crate::micro_batches::micro_batches`].
fn evened(spec: &RunSpec, micro_batch_sequences: u32) -> u32 {
    let step = spec.training.sequences_per_step.max(1);
    step.div_ceil(step.div_ceil(micro_batch_sequences.max(1)))
}

/// The most sequences of a micro-batch, at most those of a step, that need no more than so many bytes.
pub fn largest_micro_batch(spec: &RunSpec, bytes: u64) -> Option<u32> {
    let fits = |sequences: &u32| MemoryPlan::of(spec, *sequences).bytes() <= bytes;
    // A whole step at once may need less than most of it: nothing is added up.
    let whole = spec.training.sequences_per_step;
    if fits(&whole) {
        return Some(whole);
    }
    // Below it more never need less: the first that does not fit ends the search.
    let (mut fit, mut beyond) = (0, whole);
    while beyond - fit > 1 {
        let middle = fit + (beyond - fit) / 2;
        if fits(&middle) { fit = middle } else { beyond = middle }
    }
    (fit > 0).then(|| evened(spec, fit))
}

/// Floating-point operations of training on one token: six per weight that is multiplied with, and
/// twelve per layer, hidden unit and position for the scores and what is mixed by them
/// (llm-foundry's formula, which counts the whole square of scores).
pub fn flops_per_token(model: &ModelSpec) -> u64 {
    let [layers, hidden, length, vocabulary] =
        [model.layers, model.hidden_size, model.sequence_length, model.vocabulary].map(u64::from);
    let multiplied = model.parameter_count() - vocabulary * hidden;
    6 * multiplied + 12 * layers * hidden * length
}

/// Bytes of the parts of one micro-batch's pass.
struct Step {
    layers: u64,
    /// A tensor of the hidden width.
    hidden: u64,
    /// A tensor of the inner width.
    inner: u64,
    /// What a block keeps while its gradient waits.
    kept: u64,
    /// What a block's gradient needs.
    trace: u64,
    logits: u64,
    head_gradient: u64,
    block_gradient: u64,
    all_gradients: u64,
}

impl Step {
    fn of(spec: &RunSpec, micro_batch_sequences: u32) -> Step {
        let model = &spec.model;
        let [layers, width, inner, heads, kv_heads, vocabulary] = [
            model.layers,
            model.hidden_size,
            model.ffn_size,
            model.heads,
            model.kv_heads,
            model.vocabulary,
        ]
        .map(u64::from);
        let rows = u64::from(micro_batch_sequences) * u64::from(model.sequence_length);
        let kv_width = kv_heads * u64::from(model.head_size());
        // Input, normalised, queries, mixed, middle, normalised; keys and values; gate and up; a
        // logarithm per head and two scales.
        let mut trace = 6 * width + 2 * kv_width + 2 * inner + heads + 2;
        if model.qk_norm {
            trace += width + kv_width + heads + kv_heads;
        }
        let bytes = |values: u64| (VALUE * rows).saturating_mul(values);
        let kept = if spec.training.recompute_blocks { width } else { trace };
        let block: usize = shapes(model)
            .iter()
            .filter(|(path, _)| path.starts_with("model.layers.0."))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        Step {
            layers,
            hidden: bytes(width),
            inner: bytes(inner),
            kept: bytes(kept),
            trace: bytes(trace),
            logits: VALUE * vocabulary * chunk_rows(rows as usize, vocabulary as usize) as u64,
            head_gradient: VALUE * vocabulary * width,
            block_gradient: VALUE * block as u64,
            all_gradients: VALUE * model.parameter_count(),
        }
    }

    /// Gradients and activations at each moment that may be the fullest: at the head, and in the
    /// feed-forward of every block on the way back. Where micro-batches add up, all gradients are there
    /// from the second on.
    fn moments(&self, accumulates: bool) -> Vec<(u64, u64)> {
        let gradients = |so_far: u64| if accumulates { self.all_gradients } else { so_far };
        // Last input, hidden states and their gradient.
        let kept = |layers: u64| layers.saturating_mul(self.kept);
        let sum = |parts: &[u64]| parts.iter().fold(0u64, |sum, &part| sum.saturating_add(part));
        let hidden = |times: u64| times.saturating_mul(self.hidden);
        let at_head = sum(&[kept(self.layers), hidden(3), self.logits]);
        let mut moments = vec![(gradients(self.head_gradient), at_head)];
        for done in 0..self.layers {
            // The gradient that comes in, that of the gate, and the one being summed.
            let in_work = sum(&[self.trace, hidden(2), self.inner]);
            let so_far = self.head_gradient + (done + 1) * self.block_gradient;
            moments.push((gradients(so_far), sum(&[kept(self.layers - done - 1), in_work])));
        }
        moments.push((self.all_gradients, self.hidden));
        moments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;
    use crate::tests::spec;

    fn tiny(micro_batch_sequences: u32) -> (RunSpec, MemoryPlan) {
        let mut spec = spec();
        spec.model = preset("tiny").unwrap();
        spec.training.sequences_per_step = 8;
        let plan = MemoryPlan::of(&spec, micro_batch_sequences);
        (spec, plan)
    }

    #[test]
    fn bytes_are_those_worked_by_hand() {
        // tiny: 4 (2 4096 256 + 4 (2 256 256 + 2 256 64 + 3 256 704 + 512) + 256) weights.
        let (_, plan) = tiny(8);
        assert_eq!(plan.weights_bytes, 4 * 4_917_504);
        assert_eq!(plan.moments_bytes, 2 * plan.weights_bytes);
        // 2048 rows; a trace of 6 256 + 2 64 + 2 704 + 8 + 2 = 3082 values, four of them; fullest at the
        // head, beside 3 256 values a row and 1024 rows of logits.
        assert_eq!(plan.activations_bytes, 4 * 2048 * (4 * 3082 + 3 * 256) + 4 * 1024 * 4096);
        assert_eq!(plan.gradients_bytes, 4 * 4096 * 256);
        assert_eq!(plan.allocator_bytes, 4 * 2048 * (256 + 704));
        assert_eq!(plan.threads_bytes, rayon::current_num_threads() as u64 * (1 << 20));
        // Four and four add up: 1024 rows of both widths, and a block's 705,024 gradients.
        let parts = tiny(4).1;
        assert_eq!(parts.allocator_bytes, 4 * 1024 * (256 + 704) + 4 * 705_024);
        assert_eq!(tiny(5).1.activations_bytes, tiny(4).1.activations_bytes);
    }

    #[test]
    fn largest_numbers_that_are_accepted_do_not_overflow() {
        let (mut spec, _) = tiny(8);
        spec.model.layers = 4096;
        (spec.model.hidden_size, spec.model.ffn_size) = (1 << 17, 1 << 19);
        (spec.model.vocabulary, spec.model.sequence_length) = (1 << 24, 1 << 24);
        spec.training.sequences_per_step = 65_536;
        assert_eq!(spec.model.checked(), Ok(()));
        assert_eq!(MemoryPlan::of(&spec, 65_536).bytes(), u64::MAX);
        assert_eq!(largest_micro_batch(&spec, 1 << 40), None);
        assert!(flops_per_token(&spec.model) > 1 << 50);
    }

    #[test]
    fn blocks_computed_again_and_smaller_micro_batches_need_less() {
        let (mut spec, whole) = tiny(8);
        let (_, half) = tiny(4);
        assert!(half.activations_bytes < whole.activations_bytes);
        // With two micro-batches all gradients are there while the second is computed.
        assert_eq!(half.gradients_bytes, half.weights_bytes);
        spec.training.recompute_blocks = true;
        let again = MemoryPlan::of(&spec, 8);
        assert!(again.activations_bytes * 2 < whole.activations_bytes);
    }

    #[test]
    fn largest_micro_batch_is_the_last_that_fits() {
        let (spec, _) = tiny(8);
        // Three and four are cut evenly; five at most come to four and four.
        for sequences in [1, 3, 4] {
            let bytes = MemoryPlan::of(&spec, sequences).bytes();
            assert_eq!(largest_micro_batch(&spec, bytes), Some(sequences));
        }
        assert_eq!(largest_micro_batch(&spec, u64::MAX), Some(8));
        assert_eq!(largest_micro_batch(&spec, 1 << 20), None);
    }

    #[test]
    fn work_of_a_token_follows_the_formula() {
        // 6 (4,917,504 - 4096 256) + 12 4 256 256.
        assert_eq!(flops_per_token(&preset("tiny").unwrap()), 6 * 3_868_928 + 3_145_728);
    }
}
