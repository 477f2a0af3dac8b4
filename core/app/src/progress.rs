//! What a terminal shows of a run: one bar, or a line now and then where there is no terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use hm_domain::state::RunState;
use hm_domain::step::TrainReport;
use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal;
use crate::work::throughput::Throughput;

/// Steps between lines where there is no terminal.
const LINE_EVERY_STEPS: u64 = 50;

/// Time between lines of work that takes long where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A plain bar on standard error; hidden where that is no terminal.
pub(crate) fn bar(total: u64, message: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {elapsed}")
        .expect("a fixed template");
    ProgressBar::new(total).with_style(style).with_message(message)
}

/// A bar of steps, and a line now and then where standard error is no terminal.
pub(crate) struct Steady {
    bar: ProgressBar,
    message: &'static str,
    said: Instant,
}

impl Steady {
    /// Of `total` steps.
    pub(crate) fn new(total: u64, message: &'static str) -> Steady {
        Steady { bar: bar(total, message), message, said: Instant::now() }
    }

    /// So many are done.
    pub(crate) fn at(&mut self, done: u64) {
        self.bar.set_position(done);
        if self.bar.is_hidden() && self.said.elapsed() >= LINE_EVERY {
            eprintln!("{}: {done}/{} steps", self.message, self.bar.length().unwrap_or_default());
            self.said = Instant::now();
        }
    }

    /// Nothing is left of it.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
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
    last_loss: Option<f64>,
}

impl RunProgress {
    /// The run has gone back to this step.
    pub(crate) fn go_back(&self, step: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
        }
    }

    /// A bar on standard error, if that is a terminal.
    pub(crate) fn new(steps: u64, done: u64, speed: Throughput) -> RunProgress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}<{eta} {msg}")
                .expect("a fixed template");
            let bar = ProgressBar::new(steps).with_style(style);
            bar.set_position(done);
            bar
        });
        RunProgress { bar, speed, last_loss: None }
    }

    /// Shows a step that has been trained.
    pub(crate) fn step(&mut self, state: &RunState, report: &TrainReport) {
        let step_tokens: u64 = report.pre_step.losses.iter().map(|sums| sums.tokens).sum();
        self.speed.step(step_tokens, report.step_us);
        self.last_loss = Some(report.pre_step.loss);
        let shares: Vec<String> =
            state.mixture.shares().iter().map(|share| format!("{:.0}", share * 100.0)).collect();
        let message = format!(
            "loss {:.4}  norm {:.3}  {}  mixture {} %",
            report.pre_step.loss,
            report.pre_step.gradient_norm,
            self.speed.short(),
            shares.join("/")
        );
        let (done, steps) = (state.next_step + 1, state.spec.training.steps);
        match &self.bar {
            Some(bar) => {
                let bar = bar.clone();
                terminal::draw(move || {
                    bar.set_position(done);
                    bar.set_message(message);
                });
            }
            None if done.is_multiple_of(LINE_EVERY_STEPS) || done == steps => {
                eprintln!("step {done}/{steps}  {message}");
            }
            None => {}
        }
    }

    /// Loss of the last step that this worker trained, if it trained any.
    pub(crate) fn last_loss(&self) -> Option<f64> {
        self.last_loss
    }

    /// A sentence above the bar, on one line whatever it holds: who reads the lines of a run must be able
    /// to tell whose they are.
    pub(crate) fn say(&self, sentence: &str) {
        let sentence = terminal::line(sentence);
        match &self.bar {
            Some(bar) => {
                let bar = bar.clone();
                terminal::draw(move || bar.println(sentence));
            }
            None => eprintln!("{sentence}"),
        }
    }
}
