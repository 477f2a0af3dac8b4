//! What every arm needs: processes that measure, medians and how they are printed.

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

/// Median and the middle half of many measurements, of which a few always meet something else.
pub(crate) fn middle(values: &[f64], digits: usize) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let [low, high] = [sorted.len() / 4, sorted.len() - 1 - sorted.len() / 4].map(|at| sorted[at]);
    format!("{:.digits$} ({low:.digits$} to {high:.digits$})", median(values))
}

/// `above` over `below`, round by round.
pub(crate) fn ratios(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).map(|(above, below)| above / below).collect()
}

/// One figure of every round; not a number where a process could not tell.
pub(crate) fn figure(rounds: &[Value], name: &str) -> Vec<f64> {
    rounds.iter().map(|found| found[name].as_f64().unwrap_or(f64::NAN)).collect()
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

/// A script of `benches/` in the Python that `variable` names, as the other side; `None` if it names
/// none.
pub(crate) fn python(variable: &str, script: &str, arguments: &[&str]) -> Option<Command> {
    let mut command = Command::new(std::env::var_os(variable)?);
    let script = crate::place::repository().join("benches").join(script);
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg("-W").arg("ignore");
    command.arg(script).args(arguments);
    Some(command)
}

/// The Python of [`python`] that has PyTorch.
pub(crate) const PYTORCH: &str = "HM_PYTORCH_PYTHON";
/// The Python of [`python`] that has transformers beside PyTorch.
pub(crate) const TRANSFORMERS: &str = "HM_TRANSFORMERS_PYTHON";

/// Threads of our side, and what the other is told to use.
pub(crate) fn threads() -> u32 {
    hm_train::fingerprint().threads
}

/// Peak resident memory of this process in MB (Linux; elsewhere not known).
pub(crate) fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok().map(|kb: f64| kb / 1024.0)
}
