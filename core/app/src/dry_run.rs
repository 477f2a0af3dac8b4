//! `hm train --dry-run`: what would be trained, and what it would cost.

use anyhow::Result;
use hm_domain::precision::Precision;
use hm_domain::spec::RunSpec;
use hm_store::Store;
use hm_train::{MemoryPlan, flops_per_token, largest_micro_batch};

use crate::cli::TrainArgs;
use crate::outlook;
use crate::prepare::prepared;
use crate::resolve::resolve;
use crate::run_file::RunFile;
use crate::settings;
use crate::workplace::Workplace;

/// The spec goes to standard output, what it costs to standard error; with --json both to the former.
pub(crate) fn dry_run(workplace: &Workplace, file: &RunFile, args: &TrainArgs) -> Result<u8> {
    settings::check(workplace, plugin_store(workplace, file)?.as_ref(), file)?;
    let (manifest, _) = prepared(workplace, file)?;
    let (spec, first) = resolve(file, &manifest)?;
    let costs = Costs::of(&spec);
    let domains = outlook::domains(&spec, &first.mixture);
    let remarks = outlook::remarks(&spec, &first);
    if args.file.json {
        let whole = serde_json::json!({
            "spec": spec, "costs": costs, "domains": domains, "remarks": remarks
        });
        println!("{}", serde_json::to_string_pretty(&whole)?);
    } else {
        println!("{}", serde_json::to_string_pretty(&spec)?);
        costs.print(&spec);
        outlook::print(&domains, &remarks);
    }
    Ok(0)
}

/// The database, if the file names plugins and there is one to look them up in: nothing is made here.
fn plugin_store(workplace: &Workplace, file: &RunFile) -> Result<Option<Store>> {
    if file.plugins.is_empty() || !hm_store::database_exists(&workplace.data_dir) {
        return Ok(None);
    }
    workplace.store().map(Some)
}

/// What a run would need on the CPU.
#[derive(Debug, serde::Serialize)]
struct Costs {
    parameters: u64,
    flops_per_token: u64,
    memory: MemoryPlan,
    /// What this process uses beside the model.
    process_bytes: Option<u64>,
    /// What the machine has free.
    free_bytes: Option<u64>,
    /// Sequences in memory at once that fit into it, at most those of a step.
    largest_micro_batch_sequences: Option<u32>,
}

impl Costs {
    fn of(spec: &RunSpec) -> Costs {
        let free_bytes = kilobytes("/proc/meminfo", "MemAvailable:");
        Costs {
            parameters: spec.model.parameter_count(),
            flops_per_token: flops_per_token(&spec.model),
            memory: MemoryPlan::of(spec, spec.training.micro_batch_sequences),
            process_bytes: kilobytes("/proc/self/status", "VmRSS:"),
            free_bytes,
            largest_micro_batch_sequences: free_bytes
                .and_then(|bytes| largest_micro_batch(spec, bytes)),
        }
    }

    fn print(&self, spec: &RunSpec) {
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
            ("this process", self.process_bytes),
        ] {
            if let Some(bytes) = bytes {
                eprintln!("  {name:12} {:>10}", megabytes(bytes));
            }
        }
        let whole = memory.bytes() + self.process_bytes.unwrap_or_default();
        eprintln!("  {:12} {:>10}", "together", megabytes(whole));
        if let Some(free) = self.free_bytes {
            let (free, step) = (megabytes(free), spec.training.sequences_per_step);
            match self.largest_micro_batch_sequences {
                Some(most) => eprintln!(
                    "{free} are free: up to {most} of the {step} sequences of a step at once"
                ),
                None => eprintln!(
                    "{free} are free, not enough even for one sequence at once: try \
                     training.recompute_blocks, a shorter sequence or a smaller model"
                ),
            }
        }
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A number of kilobytes that the kernel tells (Linux; nothing elsewhere), in bytes.
fn kilobytes(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches("kB").trim().parse().ok().map(|kilobytes: u64| kilobytes * 1024)
}
