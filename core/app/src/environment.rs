//! What executes a run, as the log wants it said.

use anyhow::{Context, Result};
use hm_domain::event::Environment;
use hm_domain::id::Digest;
use hm_train::Trainer;

/// This executable, processor, C library and process.
pub(crate) fn environment(trainer: &Trainer) -> Result<Environment> {
    let print = hm_train::fingerprint();
    let executable = std::env::current_exe().context("cannot find this executable")?;
    let bytes = std::fs::read(&executable)
        .with_context(|| format!("cannot read {}", executable.display()))?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Ok(Environment {
        build: Digest::of(&bytes),
        device: trainer.device_name().to_owned(),
        processor: print.processor,
        instruction_set: print.instruction_set,
        c_library: print.c_library,
        threads: print.threads,
        host: host.trim().to_owned(),
        process: std::process::id(),
    })
}
