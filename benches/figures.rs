//! Medians and how they are printed.

use std::process::Command;

use serde_json::Value;

/// The middle value; of an even count the upper of the two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Median and range of one figure over rounds.
pub(crate) fn spread(values: &[f64], digits: usize) -> String {
    let minimum = values.iter().copied().fold(f64::INFINITY, f64::min);
    let maximum = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.digits$} ({minimum:.digits$} to {maximum:.digits$})", median(values))
}

/// The JSON that a process prints last.
pub(crate) fn figures_of(command: &mut Command) -> Value {
    let output = command.stderr(std::process::Stdio::inherit()).output().expect("it starts");
    assert!(output.status.success(), "{command:?} failed");
    let text = String::from_utf8(output.stdout).expect("it prints text");
    serde_json::from_str(text.lines().last().expect("it prints figures")).expect("they are JSON")
}

/// This program again, as one side of a pair.
pub(crate) fn child(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(arguments);
    command
}

/// Peak resident memory of this process in MB (Linux; elsewhere not known).
pub(crate) fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok().map(|kb: f64| kb / 1024.0)
}
