//! One device's copy of the model, and what it does by itself in a step.

use std::sync::OnceLock;

use burn::tensor::{Device, Tensor};
use hm_domain::batch::Sequence;
use hm_domain::spec::{ModelSpec, OptimizerSpec};
use hm_domain::step::Knobs;

use crate::cpu::adamw::Update;
use crate::cpu::cross_entropy::Objective;
use crate::gradients::Gradients;
use crate::model::{Decoder, Weights};
use crate::ops::{DeviceFailed, Ops, read};
use crate::parameters::{EMBEDDING, HEAD, Parameter, Parameters};

/// Parameters and moments on one device, and how to compute with them there.
pub(crate) struct Replica {
    /// Nothing until they are needed: see [`crate::team::Team::filled`].
    pub(crate) parameters: OnceLock<Parameters>,
    pub(crate) decoder: Decoder,
}

/// What the micro-batches of a step have in common.
pub(crate) struct Pass<'a> {
    pub(crate) knobs: &'a Knobs,
    /// Target tokens of the whole step.
    pub(crate) step_tokens: f64,
    pub(crate) z_loss: f32,
    /// Keep only the blocks' inputs and compute the rest again for the gradient.
    pub(crate) recompute: bool,
}

/// What a replica's micro-batches came to.
pub(crate) struct Passed {
    /// Of each micro-batch: cross-entropies of its rows.
    pub(crate) losses: Vec<Vec<f32>>,
    /// Of the objective times the loss scale, added up.
    pub(crate) gradients: Gradients,
}

impl Replica {
    /// A replica without weights where `ops` computes.
    pub(crate) fn new(model: &ModelSpec, ops: Ops) -> Replica {
        Replica { parameters: OnceLock::new(), decoder: Decoder::new(model, ops) }
    }

    /// Its parameters, which are there.
    pub(crate) fn parameters(&self) -> &Parameters {
        self.parameters.get().expect("a replica at work has weights")
    }

    /// The weights as a step reads them: what is multiplied with in the type of products, once a step.
    /// Rows of the embedding are only looked up, norms only multiply elements: those stay as they are.
    pub(crate) fn weights(&self) -> Weights {
        let read = |(path, parameter): (&String, &Parameter)| {
            let value = parameter.value.clone();
            let multiplies = parameter.is_matrix() && path != EMBEDDING;
            let value = if multiplies { self.decoder.ops.lowered(value) } else { value };
            (path.clone(), value)
        };
        self.parameters().iter().map(read).collect()
    }

    /// Losses of sequences, one a row, without gradients.
    pub(crate) fn losses(&self, weights: &Weights, sequences: &[Sequence]) -> Tensor<2> {
        let (inputs, targets) = ids(sequences);
        let hidden = self.decoder.forward(weights, &inputs);
        self.decoder.ops.head(&hidden, &weights[HEAD], &targets, None, None).losses_n1
    }

    /// Forward and backward of micro-batches one after another. Gradients are of every parameter: zero
    /// where there is no micro-batch.
    pub(crate) fn pass(
        &self,
        micro_batches: Vec<&[Sequence]>,
        pass: &Pass<'_>,
    ) -> Result<Passed, DeviceFailed> {
        let weights = self.weights();
        let mut gradients = Gradients::default();
        let losses: Vec<Tensor<2>> = micro_batches
            .into_iter()
            .map(|sequences| self.accumulate(&weights, sequences, pass, &mut gradients))
            .collect();
        gradients.complete(self.parameters());
        // Read when all of it is on its way: reading waits for the device.
        let losses = losses.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Passed { losses, gradients })
    }

    /// Adds one micro-batch's gradients; gives its losses.
    fn accumulate(
        &self,
        weights: &Weights,
        sequences: &[Sequence],
        pass: &Pass<'_>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let (inputs, targets) = ids(sequences);
        let Decoder { model, ops, .. } = &self.decoder;
        let (hidden, trace) = self.decoder.forward_traced(weights, &inputs, pass.recompute);
        // The objective: each domain's loss sum times its weight, over the tokens of the whole step.
        let length = model.sequence_length as usize;
        let Knobs { loss_weights, loss_scale, .. } = pass.knobs;
        let scales: Vec<f32> = sequences
            .iter()
            .flat_map(|sequence| {
                let weight = loss_weights[sequence.domain.index()] * loss_scale;
                std::iter::repeat_n((weight / pass.step_tokens) as f32, length)
            })
            .collect();
        let onto = gradients.take(HEAD);
        let objective = Objective { scales: &scales, z_loss: pass.z_loss };
        let output = ops.head(&hidden, &weights[HEAD], &targets, Some(objective), onto);
        drop(hidden);
        let (hidden_gradient, head_gradient) = output.gradients.expect("there is an objective");
        gradients.put(HEAD, head_gradient);
        self.decoder.backward(weights, &inputs, trace, hidden_gradient, gradients);
        output.losses_n1
    }

    /// `AdamW` with decoupled decay (1711.05101, algorithm 2), decay scaled by the learning rate.
    /// `count` is of this update, from 1; gradients are multiplied by `scale` first.
    pub(crate) fn update(
        &mut self,
        gradients: Gradients,
        scale: f64,
        learning_rate: f64,
        count: u64,
        optimizer: &OptimizerSpec,
    ) {
        let &OptimizerSpec { beta1, beta2, epsilon, weight_decay, .. } = optimizer;
        let count = count.min(i32::MAX as u64) as i32;
        let first_correction = 1.0 - beta1.powi(count);
        let second_correction = 1.0 - beta2.powi(count);
        let parameters = self.parameters.get_mut().expect("a replica at work has weights");
        for (path, gradient) in gradients {
            let parameter = parameters.get_mut(&path).expect("gradients are by path");
            let decay =
                if parameter.is_matrix() { 1.0 - learning_rate * weight_decay } else { 1.0 };
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

    /// The device.
    pub(crate) fn device(&self) -> &Device {
        self.decoder.ops.device()
    }
}

/// Input and target ids in row order.
fn ids(sequences: &[Sequence]) -> (Vec<u32>, Vec<u32>) {
    let inputs = sequences.iter().flat_map(|s| &s.tokens[..s.tokens.len() - 1]).copied().collect();
    let targets = sequences.iter().flat_map(|s| &s.tokens[1..]).copied().collect();
    (inputs, targets)
}
