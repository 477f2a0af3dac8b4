//! What a terminal shows of a run: one bar, or a line now and then where there is no terminal.

use std::io::IsTerminal;

use hm_domain::state::RunState;
use hm_domain::step::TrainReport;
use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal;
use crate::throughput::Throughput;

/// Steps between lines where there is no terminal.
const LINE_EVERY_STEPS: u64 = 50;

/// A plain bar on standard error; hidden where that is no terminal.
pub(crate) fn bar(total: u64, message: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {elapsed}")
        .expect("a fixed template");
    ProgressBar::new(total).with_style(style).with_message(message)
}

/// For files that are read; hidden where standard error is no terminal.
pub(crate) fn bytes() -> ProgressBar {
    let template = "{msg} {bar:30} {bytes}/{total_bytes} {elapsed}<{eta}";
    ProgressBar::new(0).with_style(ProgressStyle::with_template(template).expect("fixed"))
}

/// For work of unknown length; hidden where standard error is no terminal.
pub(crate) fn spinner(message: &'static str) -> ProgressBar {
    ProgressBar::new_spinner().with_message(message)
}

/// Progress of one run.
pub(crate) struct RunProgress {
    bar: Option<ProgressBar>,
    /// Of this worker.
    pub(crate) speed: Throughput,
}

impl RunProgress {
    /// A bar on standard error, if that is a terminal.
    pub(crate) fn new(steps: u64, done: u64, speed: Throughput) -> RunProgress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}<{eta} {msg}")
                .expect("a fixed template");
            let bar = ProgressBar::new(steps).with_style(style);
            bar.set_position(done);
            bar
        });
        RunProgress { bar, speed }
    }

    /// Shows a step that has been trained.
    pub(crate) fn step(&mut self, state: &RunState, report: &TrainReport) {
        let step_tokens: u64 = report.pre_step.losses.iter().map(|sums| sums.tokens).sum();
        self.speed.step(step_tokens, report.step_us);
        let shares: Vec<String> =
            state.mixture.shares().iter().map(|share| format!("{:.0}", share * 100.0)).collect();
        let message = format!(
            "loss {:.4}  norm {:.3}  {}  mixture {} %",
            report.pre_step.loss,
            report.pre_step.gradient_norm,
            self.speed.short(),
            shares.join("/")
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(state.next_step + 1);
                bar.set_message(message);
            }
            None if (state.next_step + 1).is_multiple_of(LINE_EVERY_STEPS) => {
                eprintln!("step {}/{}  {message}", state.next_step + 1, state.spec.training.steps);
            }
            None => {}
        }
    }

    /// A sentence above the bar, on one line whatever it holds: who reads the lines of a run must be able
    /// to tell whose they are.
    pub(crate) fn say(&self, sentence: &str) {
        let sentence = terminal::line(sentence);
        match &self.bar {
            Some(bar) => bar.println(sentence),
            None => eprintln!("{sentence}"),
        }
    }
}
