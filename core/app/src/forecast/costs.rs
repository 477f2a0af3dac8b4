//! What a run would cost on the CPU, and whether this machine bears it.

use hm_domain::precision::Precision;
use hm_domain::spec::{CheckpointSpec, RunSpec};
use hm_train::{MemoryPlan, flops_per_token, largest_micro_batch};

use crate::forecast::free_memory::{FreeMemory, free_memory};
use crate::forecast::memory::shown;

/// What a worker's process takes beside the model: the program's parts that train and write the log, and its
/// connections. This and the next two were measured, of the release build on x86-64; how much of a program's
/// file the system maps at a time moves this one by some megabytes.
const WORKER_BYTES: u64 = 24_000_000;
/// The compiler of plugins, and what it works with, from the first plugin on.
const COMPILER_BYTES: u64 = 20_000_000;
/// One plugin.
const PLUGIN_BYTES: u64 = 1_500_000;

fn process_bytes(plugins: usize) -> u64 {
    let compiler = if plugins > 0 { COMPILER_BYTES } else { 0 };
    WORKER_BYTES + compiler + (plugins as u64).saturating_mul(PLUGIN_BYTES)
}

/// What a run would need.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Costs {
    parameters: u64,
    flops_per_token: u64,
    memory: MemoryPlan,
    disk: Disk,
    /// What its process takes beside the model, plugins included.
    process_bytes: u64,
    /// What it may still take.
    free_bytes: Option<u64>,
    #[serde(skip)]
    free: Option<FreeMemory>,
    /// Sequences in memory at once that fit into it, at most those of a step.
    largest_micro_batch_sequences: Option<u32>,
}

/// What a run's checkpoints take on disk, at most.
#[derive(Debug, serde::Serialize)]
struct Disk {
    /// One of them: weights and both moments.
    checkpoint_bytes: u64,
    /// Those kept, milestones, one that is known to give numbers, and one that is being written.
    checkpoints_at_once: u64,
    bytes: u64,
}

impl Disk {
    fn of(spec: &RunSpec) -> Disk {
        let CheckpointSpec { every_steps, keep, keep_every } = spec.checkpoint;
        let steps = spec.training.steps;
        // At the end of the run there is one of any.
        let saved = steps.checked_div(every_steps).unwrap_or(0).saturating_add(1);
        let milestones = steps.checked_div(keep_every).unwrap_or(0);
        let kept = u64::from(keep).saturating_add(milestones).saturating_add(2);
        let checkpoint_bytes = 12 * spec.model.parameter_count();
        let checkpoints_at_once = kept.min(saved);
        let bytes = checkpoint_bytes.saturating_mul(checkpoints_at_once);
        Disk { checkpoint_bytes, checkpoints_at_once, bytes }
    }
}

impl Costs {
    /// Of this run, here and now.
    pub(crate) fn of(spec: &RunSpec) -> Costs {
        let free = free_memory();
        let free_bytes = free.map(|free| free.bytes);
        Costs {
            parameters: spec.model.parameter_count(),
            flops_per_token: flops_per_token(&spec.model),
            memory: MemoryPlan::of(spec, spec.training.micro_batch_sequences),
            disk: Disk::of(spec),
            process_bytes: process_bytes(spec.plugins.len()),
            free_bytes,
            free,
            largest_micro_batch_sequences: free_bytes
                .and_then(|bytes| largest_micro_batch(spec, bytes)),
        }
    }

    /// In words, to standard error.
    pub(crate) fn print(&self, spec: &RunSpec) {
        let memory = &self.memory;
        eprintln!("{} parameters", self.parameters);
        eprintln!("{:.1} MFLOP a token, forward and backward", self.flops_per_token as f64 / 1e6);
        let precision = spec.training.precision;
        if precision != Precision::F32 {
            let name = precision.name();
            eprintln!("memory is told of the CPU, in f32; a GPU keeps {name} and takes less");
        }
        eprintln!("memory of a step, {} sequences at once:", memory.micro_batch_sequences);
        for (name, bytes) in [
            ("weights", memory.weights_bytes),
            ("moments", memory.moments_bytes),
            ("gradients", memory.gradients_bytes),
            ("activations", memory.activations_bytes),
            ("allocator", memory.allocator_bytes),
            ("checkpoint", memory.checkpoint_bytes),
            ("threads", memory.threads_bytes),
            ("the process", self.process_bytes),
        ] {
            eprintln!("  {name:12} {:>10}", shown(bytes));
        }
        let whole = memory.bytes() + self.process_bytes;
        eprintln!("  {:12} {:>10}", "together", shown(whole));
        if memory.copy_bytes > 0 {
            eprintln!(
                "and up to {} while a checkpoint is written; where they are not free, training waits for it",
                shown(memory.copy_bytes)
            );
        }
        let disk = &self.disk;
        eprintln!(
            "disk: {} a checkpoint, up to {} of them at once: {}",
            shown(disk.checkpoint_bytes),
            disk.checkpoints_at_once,
            shown(disk.bytes)
        );
        let Some(FreeMemory { bytes, bound }) = self.free else { return };
        let (free, step) = (shown(bytes), spec.training.sequences_per_step);
        match self.largest_micro_batch_sequences {
            Some(most) => {
                eprintln!(
                    "{free} are free {bound}: up to {most} of the {step} sequences of a step at once"
                );
            }
            None => eprintln!("{free} are free {bound}, not enough even for one sequence at once"),
        }
    }
}
