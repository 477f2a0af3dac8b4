//! What a run would cost on the CPU, and whether this machine bears it.

use std::path::Path;

use hm_domain::precision::Precision;
use hm_domain::spec::RunSpec;
use hm_train::{MemoryPlan, flops_per_token, largest_micro_batch};

use crate::free_memory::{FreeMemory, free_memory, kilobytes};
use crate::memory::shown;

/// What a run would need.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Costs {
    parameters: u64,
    flops_per_token: u64,
    memory: MemoryPlan,
    /// What this process uses beside the model.
    process_bytes: Option<u64>,
    /// What it may still take.
    free_bytes: Option<u64>,
    #[serde(skip)]
    free: Option<FreeMemory>,
    /// Sequences in memory at once that fit into it, at most those of a step.
    largest_micro_batch_sequences: Option<u32>,
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
            process_bytes: kilobytes(Path::new("/proc/self/status"), "VmRSS:"),
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
            ("weights", Some(memory.weights_bytes)),
            ("moments", Some(memory.moments_bytes)),
            ("gradients", Some(memory.gradients_bytes)),
            ("activations", Some(memory.activations_bytes)),
            ("allocator", Some(memory.allocator_bytes)),
            ("checkpoint", Some(memory.checkpoint_bytes)),
            ("this process", self.process_bytes),
        ] {
            if let Some(bytes) = bytes {
                eprintln!("  {name:12} {:>10}", shown(bytes));
            }
        }
        let whole = memory.bytes() + self.process_bytes.unwrap_or_default();
        eprintln!("  {:12} {:>10}", "together", shown(whole));
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
