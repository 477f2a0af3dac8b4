//! What executes a run, as the log wants it said.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result};
use hm_domain::event::Environment;
use hm_domain::id::Digest;
use hm_train::Trainer;
use sha2::{Digest as _, Sha256};

/// This executable, processor, C library and process.
pub(crate) fn environment(trainer: &Trainer) -> Result<Environment> {
    let print = hm_train::fingerprint();
    let executable = std::env::current_exe().context("cannot find this executable")?;
    let build =
        digest(&executable).with_context(|| format!("cannot read {}", executable.display()))?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Ok(Environment {
        build,
        device: trainer.device_name().to_owned(),
        processor: print.processor,
        instruction_set: print.instruction_set,
        c_library: print.c_library,
        threads: print.threads,
        host: host.trim().to_owned(),
        process: std::process::id(),
    })
}

/// SHA-256 of a file, a piece at a time: an executable can be larger than a small model.
fn digest(path: &Path) -> std::io::Result<Digest> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut piece = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(Digest(hash.finalize().into()));
        }
        hash.update(&piece[..count]);
    }
}
