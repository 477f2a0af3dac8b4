//! One training step: forward and backward by micro-batches, the gate, then `AdamW`.
//!
//! A skip or a halt leaves weights, moments and the update count as they were, to the bit. So does a
//! step whose loss or gradients are not finite, whatever the gate answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use hm_domain::batch::{Batch, Sequence};
use hm_domain::spec::{ModelSpec, OptimizerSpec, RunSpec};
use hm_domain::step::{Knobs, LossSums, PreStep, TrainReport, Verdict, canonical, weighted_loss};

use crate::admission::{check_batch, check_knobs};
use crate::collective;
use crate::device::{DeviceChoice, Devices};
use crate::error::{Result, TrainError};
use crate::gradients::Gradients;
use crate::micro_batches::micro_batches;
use crate::ops::{DeviceFailed, Ops, read};
use crate::parameters::Parameters;
use crate::replica::{Pass, Passed, Replica};
use crate::team::Team;

/// A model, its optimizer and the devices they are on.
pub struct Trainer {
    pub(crate) model: ModelSpec,
    pub(crate) updates: u64,
    /// A replica for each device, all alike.
    pub(crate) team: Team,
    device_name: String,
    optimizer: OptimizerSpec,
    micro_batch_sequences: usize,
    recompute: bool,
    z_loss: f32,
    pub(crate) domain_count: usize,
}

impl Trainer {
    /// A model on the devices of this choice.
    pub fn new(spec: &RunSpec, choice: &DeviceChoice) -> Result<Trainer> {
        Trainer::on(spec, Devices::open(choice)?)
    }

    /// A model on these devices. Its first values are drawn when they are first needed: a checkpoint or
    /// other weights that are loaded before take their place.
    ///
    /// # Errors
    /// When the model's shape cannot be built, the devices do not compute in the precision, or they are
    /// more than the smallest step has sequences.
    pub fn on(spec: &RunSpec, devices: Devices) -> Result<Trainer> {
        spec.model.checked()?;
        devices.admit(&spec.training)?;
        let ops = devices.ops(spec.training.precision)?;
        Trainer::computing_with(spec, ops, devices.name)
    }

    /// A replica for each of `ops`.
    pub(crate) fn computing_with(spec: &RunSpec, ops: Vec<Ops>, name: String) -> Result<Trainer> {
        let replicas = ops.into_iter().map(|ops| Replica::new(&spec.model, ops)).collect();
        Ok(Trainer {
            team: Team::new(replicas, spec.seed)?,
            model: spec.model.clone(),
            optimizer: spec.optimizer.clone(),
            updates: 0,
            micro_batch_sequences: spec.training.micro_batch_sequences.max(1) as usize,
            recompute: spec.training.recompute_blocks,
            z_loss: spec.training.z_loss as f32,
            domain_count: spec.domains.len(),
            device_name: name,
        })
    }

    /// Name of what trains: `cpu`, or the CUDA devices and what the first calls itself.
    pub fn device_name(&self) -> &str {
        &self.device_name
    }

    /// How many devices share a step.
    pub fn device_count(&self) -> usize {
        self.team.count()
    }

    /// Bytes that the first device's allocator has taken, where it tells: it gives none back while it
    /// trains, so at the end of a step they are the most there were.
    pub fn device_bytes(&self) -> Option<u64> {
        let usage = self.team.on_first(|replica| replica.device().memory_pool_usage());
        usage.map(|usage| usage.bytes_reserved)
    }

    /// Whether the same steps give the same bits again: so on the CPU.
    pub fn is_exact(&self) -> bool {
        self.team.ops().are_kernels()
    }

    /// Optimizer updates so far: steps less skipped ones.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The replica that validates and is saved.
    pub(crate) fn first(&self) -> &Replica {
        &self.team.filled().replicas()[0]
    }

    /// Parameters of the first replica.
    pub(crate) fn parameters(&self) -> &Parameters {
        self.first().parameters()
    }

    #[cfg(test)]
    pub(crate) fn parameters_mut(&mut self) -> &mut Parameters {
        self.team.filled();
        self.team.first_mut().parameters.get_mut().unwrap()
    }

    /// Trains one step. `gate` sees what the step showed, before the optimizer, and is obeyed, with
    /// one exception: see [`obeyed`]. The report's verdict is what was done.
    ///
    /// # Errors
    /// When batch or knobs do not fit the model: nothing has changed then, and `gate` was not asked.
    /// When a device fails: the trainer is of no more use then.
    pub fn step(
        &mut self,
        batch: &Batch,
        knobs: &Knobs,
        gate: &mut dyn FnMut(&PreStep) -> Verdict,
    ) -> Result<TrainReport> {
        check_batch(batch, &self.model, self.domain_count)?;
        check_knobs(knobs, self.domain_count, &self.optimizer)?;
        if batch.sequences.is_empty() {
            return Err(TrainError::EmptyBatch);
        }
        if self.is_exact() {
            return self.train(batch, knobs, gate);
        }
        caught(|| self.train(batch, knobs, gate)).unwrap_or_else(|panic| Err(self.failed(&panic)))
    }

    fn train(
        &mut self,
        batch: &Batch,
        knobs: &Knobs,
        gate: &mut dyn FnMut(&PreStep) -> Verdict,
    ) -> Result<TrainReport> {
        let started = Instant::now();
        let step_tokens = (batch.sequences.len() * self.model.sequence_length as usize) as f64;
        let (z_loss, recompute) = (self.z_loss, self.recompute);
        let pass = Pass { knobs, step_tokens, z_loss, recompute };
        let devices = self.team.count();
        let micro_batches = micro_batches(&batch.sequences, self.micro_batch_sequences, devices);
        let (losses, gradients) = self.passes(&micro_batches, &pass)?;
        let pre_step = self.pre_step(losses, &gradients[0], knobs, step_tokens)?;
        let verdict = obeyed(gate(&pre_step), &pre_step);
        let effective_clip = match verdict {
            Verdict::ClipTo(norm) => norm.min(knobs.clip_norm),
            _ => knobs.clip_norm,
        };
        if matches!(verdict, Verdict::Proceed | Verdict::ClipTo(_)) {
            let norm = pre_step.gradient_norm;
            // A limit below zero clips to nothing: it must never turn the step uphill.
            let clip = if norm > effective_clip { effective_clip.max(0.0) / norm } else { 1.0 };
            self.updates += 1;
            let (rate, count) = (knobs.learning_rate, self.updates);
            let (scale, optimizer) = (clip / knobs.loss_scale, &self.optimizer);
            self.team.each_mut(gradients, |replica, gradients| {
                replica.update(gradients, scale, rate, count, optimizer);
            });
        }
        let step_us = started.elapsed().as_micros() as u64;
        Ok(TrainReport { pre_step, verdict, effective_clip, step_us })
    }

    /// Losses per domain, without gradients.
    ///
    /// # Errors
    /// When the batch does not fit the model, or a device fails.
    pub fn validate(&self, batch: &Batch) -> Result<Vec<LossSums>> {
        check_batch(batch, &self.model, self.domain_count)?;
        if self.is_exact() {
            return self.losses(batch);
        }
        caught(|| self.losses(batch)).unwrap_or_else(|panic| Err(self.failed(&panic)))
    }

    fn losses(&self, batch: &Batch) -> Result<Vec<LossSums>> {
        let losses = self.team.filled().on_first(|replica| {
            let weights = replica.weights();
            let mut sums = vec![LossSums::default(); self.domain_count];
            for sequences in batch.sequences.chunks(self.micro_batch_sequences) {
                add_losses(sequences, &read(replica.losses(&weights, sequences))?, &mut sums);
            }
            Ok(sums)
        });
        losses.map_err(|error| self.failed(&error))
    }

    /// Forward and backward of all micro-batches: losses per domain, and for each device the gradients
    /// of the whole step.
    fn passes(
        &self,
        micro_batches: &[&[Sequence]],
        pass: &Pass<'_>,
    ) -> Result<(Vec<LossSums>, Vec<Gradients>)> {
        let parts = self.parts(micro_batches, pass)?;
        // In the order of the batch, however many devices there are.
        let mut sums = vec![LossSums::default(); self.domain_count];
        for (index, sequences) in micro_batches.iter().enumerate() {
            let (round, rank) = (index / parts.len(), index % parts.len());
            add_losses(sequences, &parts[rank].losses[round], &mut sums);
        }
        let gradients = parts.into_iter().map(|part| part.gradients).collect();
        Ok((sums, collective::sum(gradients, &self.team)))
    }

    /// What each device makes of its micro-batches, which are dealt out in turn.
    pub(crate) fn parts(
        &self,
        micro_batches: &[&[Sequence]],
        pass: &Pass<'_>,
    ) -> Result<Vec<Passed>> {
        let count = self.team.count();
        let dealt = |rank| micro_batches.iter().copied().skip(rank).step_by(count).collect();
        let dealt: Vec<Vec<&[Sequence]>> = (0..count).map(dealt).collect();
        let parts = self.team.filled().each(dealt, |replica, dealt| replica.pass(dealt, pass));
        let parts: std::result::Result<_, DeviceFailed> = parts.into_iter().collect();
        parts.map_err(|error| self.failed(&error))
    }

    fn pre_step(
        &self,
        losses: Vec<LossSums>,
        gradients: &Gradients,
        knobs: &Knobs,
        step_tokens: f64,
    ) -> Result<PreStep> {
        let losses: Vec<LossSums> = losses.into_iter().map(LossSums::canonical).collect();
        let loss = weighted_loss(&losses, &knobs.loss_weights, step_tokens);
        let found = self.team.on_first(|replica| gradients.global_norm(&replica.decoder.ops));
        let found = found.map_err(|error| self.failed(&error))?;
        let nonfinite_count = found.nonfinite_count + u64::from(!loss.is_finite());
        let gradient_norm = canonical(found.norm / knobs.loss_scale);
        Ok(PreStep { loss, gradient_norm, nonfinite_count, losses })
    }

    /// What a device's failure means to whoever trains.
    pub(crate) fn failed(&self, DeviceFailed(words): &DeviceFailed) -> TrainError {
        let device = self.device_name.clone();
        let full = ["out of device memory", "OutOfMemory", "out-of-memory", "OUT_OF_MEMORY"];
        if full.iter().any(|sign| words.contains(sign)) {
            let micro_batch_sequences = self.micro_batch_sequences;
            return TrainError::OutOfMemory { device, micro_batch_sequences };
        }
        TrainError::Device(format!("{device} failed: {words}"))
    }
}

/// Does `work` on a device that is not the CPU: burn tells of most of its failures by a panic of the
/// thread that uses it.
fn caught<T>(work: impl FnOnce() -> T) -> std::result::Result<T, DeviceFailed> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let words = text.or_else(|| panic.downcast_ref::<String>().cloned());
        DeviceFailed(words.unwrap_or_else(|| "it did not say why".to_owned()))
    })
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
