//! One training step: forward and backward by micro-batches, the gate, then `AdamW`.
//!
//! A skip or a halt leaves weights, moments and the update count as they were, to the bit. So does a
//! step whose loss or gradients are not finite, whatever the gate answered.

use std::time::Instant;

use burn::tensor::Device;
use hm_domain::batch::{Batch, Sequence};
use hm_domain::spec::{ModelSpec, OptimizerSpec, RunSpec};
use hm_domain::step::{Knobs, LossSums, PreStep, TrainReport, Verdict};

use crate::admission::{check_batch, check_knobs};
use crate::cpu::adamw::Update;
use crate::cpu::cross_entropy::Objective;
use crate::device::{self, DeviceChoice};
use crate::error::{Result, TrainError};
use crate::gradients::Gradients;
use crate::model::{Decoder, Weights};
use crate::ops::Ops;
use crate::parameters::{self, Parameters};

/// A model, its optimizer and the device they are on.
pub struct Trainer {
    pub(crate) model: ModelSpec,
    pub(crate) parameters: Parameters,
    pub(crate) updates: u64,
    pub(crate) device: Device,
    device_name: String,
    optimizer: OptimizerSpec,
    pub(crate) decoder: Decoder,
    micro_batch_sequences: usize,
    /// Keep only the blocks' inputs and compute the rest again for the gradient.
    recompute: bool,
    z_loss: f32,
    pub(crate) domain_count: usize,
}

impl Trainer {
    /// A model with its first values.
    pub fn new(spec: &RunSpec, choice: DeviceChoice) -> Result<Trainer> {
        spec.model.check()?;
        let (device, device_name) = device::open(choice)?;
        Ok(Trainer {
            parameters: parameters::initial(&spec.model, spec.seed, &device),
            decoder: Decoder::new(&spec.model, Ops::of(&device)),
            model: spec.model.clone(),
            optimizer: spec.optimizer.clone(),
            updates: 0,
            micro_batch_sequences: spec.training.micro_batch_sequences.max(1) as usize,
            recompute: spec.training.recompute_blocks,
            z_loss: spec.training.z_loss as f32,
            domain_count: spec.domains.len(),
            device,
            device_name,
        })
    }

    /// Name of the training device.
    pub fn device_name(&self) -> &str {
        &self.device_name
    }

    /// Optimizer updates so far: steps less skipped ones.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Trains one step. `gate` sees what the step showed, before the optimizer, and is obeyed, with
    /// one exception: see [`obeyed`]. The report's verdict is what was done.
    ///
    /// # Errors
    /// When batch or knobs do not fit the model. Nothing has changed then, and `gate` was not asked.
    pub fn step(
        &mut self,
        batch: &Batch,
        knobs: &Knobs,
        gate: &mut dyn FnMut(&PreStep) -> Verdict,
    ) -> Result<TrainReport> {
        let started = Instant::now();
        check_batch(batch, &self.model, self.domain_count)?;
        check_knobs(knobs, self.domain_count)?;
        if batch.sequences.is_empty() {
            return Err(TrainError::EmptyBatch);
        }
        let mut losses = vec![LossSums::default(); self.domain_count];
        let mut gradients = Gradients::default();
        let step_tokens = (batch.sequences.len() * self.model.sequence_length as usize) as f64;
        for sequences in batch.sequences.chunks(self.micro_batch_sequences) {
            self.accumulate(sequences, knobs, step_tokens, &mut losses, &mut gradients);
        }
        let pre_step = self.pre_step(losses, &gradients, knobs, step_tokens);
        let verdict = obeyed(gate(&pre_step), &pre_step);
        let effective_clip = match verdict {
            Verdict::ClipTo(norm) => norm.min(knobs.clip_norm),
            _ => knobs.clip_norm,
        };
        if matches!(verdict, Verdict::Proceed | Verdict::ClipTo(_)) {
            let norm = pre_step.gradient_norm;
            // A limit below zero clips to nothing: it must never turn the step uphill.
            let scale = if norm > effective_clip { effective_clip.max(0.0) / norm } else { 1.0 };
            self.update(gradients, scale, knobs.learning_rate);
        }
        let step_us = started.elapsed().as_micros() as u64;
        Ok(TrainReport { pre_step, verdict, effective_clip, step_us })
    }

    /// Losses per domain, without gradients.
    pub fn validate(&self, batch: &Batch) -> Result<Vec<LossSums>> {
        check_batch(batch, &self.model, self.domain_count)?;
        let weights = self.weights();
        let mut sums = vec![LossSums::default(); self.domain_count];
        for sequences in batch.sequences.chunks(self.micro_batch_sequences) {
            let (inputs, targets) = ids(sequences);
            let hidden = self.decoder.forward(&weights, &inputs);
            let head = &weights["lm_head.weight"];
            let output = self.decoder.ops.head(&hidden, head, &targets, None, None);
            add_losses(sequences, &output.losses, &mut sums);
        }
        Ok(sums)
    }

    pub(crate) fn weights(&self) -> Weights {
        self.parameters.iter().map(|(path, p)| (path.clone(), p.value.clone())).collect()
    }

    /// Forward and backward of one micro-batch; losses and gradients are added up.
    fn accumulate(
        &self,
        sequences: &[Sequence],
        knobs: &Knobs,
        step_tokens: f64,
        losses: &mut [LossSums],
        gradients: &mut Gradients,
    ) {
        let (inputs, targets) = ids(sequences);
        let weights = self.weights();
        let (hidden, trace) = self.decoder.forward_traced(&weights, &inputs, self.recompute);
        // The objective: each domain's loss sum times its weight, over the tokens of the whole step.
        let length = self.model.sequence_length as usize;
        let scales: Vec<f32> = sequences
            .iter()
            .flat_map(|sequence| {
                let weight = knobs.loss_weights[sequence.domain.index()];
                std::iter::repeat_n((weight / step_tokens) as f32, length)
            })
            .collect();
        let path = "lm_head.weight";
        let onto = gradients.take(path);
        let objective = Objective { scales: &scales, z_loss: self.z_loss };
        let head = &weights[path];
        let output = self.decoder.ops.head(&hidden, head, &targets, Some(objective), onto);
        drop(hidden);
        add_losses(sequences, &output.losses, losses);
        let (hidden_gradient, head_gradient) = output.gradients.expect("there is an objective");
        gradients.put(path, head_gradient);
        self.decoder.backward(&weights, &inputs, trace, hidden_gradient, gradients);
    }

    fn pre_step(
        &self,
        losses: Vec<LossSums>,
        gradients: &Gradients,
        knobs: &Knobs,
        step_tokens: f64,
    ) -> PreStep {
        let weighted: f64 = losses
            .iter()
            .zip(&knobs.loss_weights)
            .map(|(sums, weight)| sums.loss_sum * weight)
            .sum();
        let loss = weighted / step_tokens;
        let found = gradients.global_norm(&self.decoder.ops);
        let nonfinite_count = found.nonfinite_count + u64::from(!loss.is_finite());
        PreStep { loss, gradient_norm: found.norm, nonfinite_count, losses }
    }

    /// `AdamW` with decoupled decay (1711.05101, algorithm 2), decay scaled by the learning rate.
    fn update(&mut self, gradients: Gradients, scale: f64, learning_rate: f64) {
        self.updates += 1;
        let OptimizerSpec { beta1, beta2, epsilon, weight_decay, .. } = self.optimizer;
        let count = self.updates.min(i32::MAX as u64) as i32;
        let first_correction = 1.0 - beta1.powi(count);
        let second_correction = 1.0 - beta2.powi(count);
        for (path, gradient) in gradients {
            let parameter = self.parameters.get_mut(&path).expect("gradients are by path");
            let decay = if parameter.decays() { 1.0 - learning_rate * weight_decay } else { 1.0 };
            let update = Update {
                scale: scale as f32,
                beta1: beta1 as f32,
                beta2: beta2 as f32,
                epsilon: epsilon as f32,
                rate: (learning_rate / first_correction) as f32,
                second_correction: (1.0 / second_correction) as f32,
                decay: decay as f32,
            };
            self.decoder.ops.update(parameter, &gradient, update);
        }
    }
}

/// Input and target ids in row order.
fn ids(sequences: &[Sequence]) -> (Vec<u32>, Vec<u32>) {
    let inputs = sequences.iter().flat_map(|s| &s.tokens[..s.tokens.len() - 1]).copied().collect();
    let targets = sequences.iter().flat_map(|s| &s.tokens[1..]).copied().collect();
    (inputs, targets)
}

/// What is done under a gate's answer: the answer, but a step whose loss or gradients are not finite
/// is at least skipped, since no update of it could leave usable weights.
///
/// The host's own rule, a function of what the step showed alone: under a logged verdict it comes to
/// that same verdict again.
fn obeyed(answer: Verdict, pre_step: &PreStep) -> Verdict {
    if pre_step.is_finite() { answer } else { answer.and(Verdict::Skip) }
}

/// Adds row losses to their domains' sums, in f64 and in row order.
fn add_losses(sequences: &[Sequence], losses: &[f32], sums: &mut [LossSums]) {
    let length = losses.len() / sequences.len().max(1);
    for (sequence, rows) in sequences.iter().zip(losses.chunks(length.max(1))) {
        let loss_sum: f64 = rows.iter().map(|&loss| f64::from(loss)).sum();
        let tokens = rows.len() as u64;
        let loss_square_sum = loss_sum * loss_sum / tokens as f64;
        sums[sequence.domain.index()].add(&LossSums { loss_sum, loss_square_sum, tokens });
    }
}
