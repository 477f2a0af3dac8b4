//! Whether a run fits into memory, told before it starts: its plan against what is free.

use anyhow::{Result, bail};
use hm_domain::spec::RunSpec;
use hm_train::{MemoryPlan, PRESETS, largest_micro_batch, preset};

use crate::forecast::free_memory::{Bound, FreeMemory};

/// By how much a plan may be off, as `hm train --dry-run` promises and a test holds it to.
const TOLERANCE: f64 = 0.1;

/// Refuses a run whose plan is larger than what is free by more than a plan may be off, or at all than what
/// the process's own limits leave; gives a warning where it is larger by less.
///
/// # Errors
/// A sentence with both numbers and what would fit.
pub(crate) fn admit(spec: &RunSpec, free: FreeMemory) -> Result<Option<String>> {
    let plan = MemoryPlan::of(spec, spec.training.micro_batch_sequences);
    let FreeMemory { bytes, bound } = free;
    if plan.bytes() <= bytes {
        return Ok(None);
    }
    let (needed, free) = (shown(plan.bytes()), shown(bytes));
    let both = format!("training needs {needed} of memory by plan, {free} are free {bound}");
    // Under a limit of its own the process would end at the first allocation beyond it.
    let is_own = matches!(bound, Bound::AddressSpace | Bound::Data);
    if !is_own && plan.bytes() as f64 <= bytes as f64 * (1.0 + TOLERANCE) {
        return Ok(Some(format!("{both}: it may be just too much")));
    }
    bail!("{both}: {}", remedy(spec, bytes))
}

/// What would fit, the least change first.
fn remedy(spec: &RunSpec, bytes: u64) -> String {
    if let Some(most) = largest_micro_batch(spec, bytes) {
        return format!("set training.micro_batch_sequences to at most {most}");
    }
    let mut again = spec.clone();
    again.training.recompute_blocks = true;
    if let Some(most) = largest_micro_batch(&again, bytes) {
        return format!(
            "set training.recompute_blocks to true and training.micro_batch_sequences to at most {most}"
        );
    }
    let length = spec.model.sequence_length;
    let shorter = std::iter::successors(Some(length / 2), |length| Some(length / 2));
    for length in shorter.take_while(|&length| length > 0) {
        again.model.sequence_length = length;
        if largest_micro_batch(&again, bytes).is_some() {
            return format!(
                "set model.sequence_length to at most {length}, with training.recompute_blocks true \
                 and training.micro_batch_sequences 1"
            );
        }
    }
    let fits = |name: &&&str| {
        preset(name).is_some_and(|mut model| {
            model.vocabulary = spec.model.vocabulary;
            model.sequence_length = model.sequence_length.min(length);
            let spec = RunSpec { model, ..spec.clone() };
            largest_micro_batch(&spec, bytes).is_some()
        })
    };
    match PRESETS.iter().rev().find(fits) {
        Some(name) => format!("choose a smaller model, such as model.preset {name}"),
        None => "no model of ours fits: free some, or train on another machine".to_owned(),
    }
}

/// Bytes as a person reads them.
pub(crate) fn shown(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes < 1e5 {
        format!("{megabytes:.1} MB")
    } else {
        format!("{:.1} GB", megabytes / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use hm_domain::id::Digest;

    use super::*;
    use crate::run_file::RunFile;

    /// A run of this model, as a run file says it.
    fn spec(model: &str, sequences: u32) -> RunSpec {
        let text = format!(
            r#"{{"name": "t", "data": {{"vocabulary": 300, "sources": []}}, "model": {model},
                "training": {{"steps": 1, "sequences_per_step": {sequences}}}}}"#
        );
        let file: RunFile = serde_json::from_str(&text).unwrap();
        RunSpec {
            name: file.name.clone(),
            seed: 0,
            model: file.model.resolve(300).unwrap().0,
            training: file.training.training_spec(),
            optimizer: file.optimizer.clone(),
            schedule: file.training.schedule(),
            domains: Vec::new(),
            tokenizer: Digest::ZERO,
            rules: file.rules_spec(),
            validation: file.validation.clone(),
            checkpoint: file.checkpoint.clone(),
            decision_lag: 0,
            initial_weights: None,
            plugins: Vec::new(),
        }
    }

    fn admitted(spec: &RunSpec, bytes: u64) -> Result<Option<String>, String> {
        admit(spec, FreeMemory { bytes, bound: Bound::Machine }).map_err(|error| error.to_string())
    }

    const GB: u64 = 1_000_000_000;

    #[test]
    fn plan_is_refused_when_it_is_too_large_by_more_than_it_may_be_off() {
        let spec = spec(r#"{"preset": "tiny"}"#, 8);
        let plan = MemoryPlan::of(&spec, 8).bytes();
        assert_eq!(admitted(&spec, plan), Ok(None));
        let warning = admitted(&spec, plan - plan / 20).unwrap().unwrap();
        assert!(warning.ends_with("free on this machine: it may be just too much"), "{warning}");
        let own = FreeMemory { bytes: plan - plan / 20, bound: Bound::AddressSpace };
        assert!(admit(&spec, own).unwrap_err().to_string().contains("`ulimit -v`"));
        let refused = admitted(&spec, plan - plan / 8).unwrap_err();
        let both = [shown(plan), shown(plan - plan / 8)];
        assert!(both.iter().all(|number| refused.contains(number)), "{refused}");
        assert!(refused.contains("set training.micro_batch_sequences to at most"), "{refused}");
    }

    #[test]
    fn remedy_is_the_least_change_that_fits() {
        let text = r#"{"preset": "nano", "sequence_length": 3000000}"#;
        // 2 layers keep 806 values of 4 bytes a position: 19 GB a sequence, and the head's beside.
        let refused = admitted(&spec(text, 2), 28 * GB).unwrap_err();
        assert!(refused.contains("set training.micro_batch_sequences to at most 1"), "{refused}");
        // Computed again, one block alone has them: 1174 values with what is in work, and 240 that are freed.
        let refused = admitted(&spec(text, 2), 20 * GB).unwrap_err();
        assert!(refused.contains("set training.recompute_blocks to true"), "{refused}");
        let refused = admitted(&spec(text, 2), 3 * GB).unwrap_err();
        assert!(refused.contains("set model.sequence_length to at most 375000, with"), "{refused}");
        let refused = admitted(&spec(r#"{"preset": "70b"}"#, 2), 16 * GB).unwrap_err();
        assert!(refused.contains("such as model.preset 760m"), "{refused}");
        assert!(refused.contains("GB of memory by plan, 16000.0 MB are free"), "{refused}");
        let refused = admitted(&spec(r#"{"preset": "nano"}"#, 2), 1000).unwrap_err();
        assert!(refused.contains("no model of ours fits"), "{refused}");
    }

    #[test]
    fn numbers_that_a_run_file_may_say_are_refused_and_never_overflow() {
        let text = r#"{"layers": 4096, "hidden_size": 131072, "ffn_size": 524288, "heads": 1024,
            "sequence_length": 16777216}"#;
        let refused = admitted(&spec(text, 65_536), 24 * GB).unwrap_err();
        assert!(refused.contains("such as model.preset"), "{refused}");
    }
}
