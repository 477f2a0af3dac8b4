//! What a terminal shows of a run: one bar, or a line now and then where there is no terminal.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use hm_domain::event::{Event, ValidationRecorded};
use hm_domain::spec::{DomainSpec, RunSpec};
use hm_domain::state::RunState;
use hm_domain::step::{LossSums, TrainReport};
use indicatif::{ProgressBar, ProgressStyle};

use crate::page::validations::mean;
use crate::run_file::resolve::some;
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
    validation: Option<Validation>,
}

/// Held-out losses of the weights before a step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Validation {
    step: u64,
    /// Of all held-out tokens together.
    loss: f64,
    /// Of each domain that has any.
    domains: Vec<(String, f64)>,
}

impl Validation {
    /// Nothing where nothing is held out, or no number came of it.
    fn of(recorded: &ValidationRecorded, spec: &RunSpec) -> Option<Validation> {
        let ValidationRecorded { step, losses } = recorded;
        let (sum, tokens) = losses
            .iter()
            .fold((0.0, 0), |(sum, tokens), one| (sum + one.loss_sum, tokens + one.tokens));
        let one = |(domain, sums): (&DomainSpec, &LossSums)| {
            Some((domain.name.clone(), mean(sums.loss_sum, sums.tokens)?))
        };
        let domains = spec.domains.iter().zip(losses).filter_map(one).collect();
        Some(Validation { step: *step, loss: mean(sum, tokens)?, domains })
    }

    /// As a line.
    pub(crate) fn sentence(&self) -> String {
        let Validation { step, loss, domains } = self;
        let one = |(name, loss): &(String, f64)| format!("{name} {loss:.4}");
        let domains: Vec<String> = domains.iter().map(one).collect();
        let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
        format!("validation loss at step {step}: {loss:.4} ({})", some(&domains))
    }

    /// As data.
    pub(crate) fn json(&self) -> serde_json::Value {
        let Validation { step, loss, domains } = self;
        let domains: BTreeMap<&str, f64> =
            domains.iter().map(|(name, loss)| (name.as_str(), *loss)).collect();
        serde_json::json!({"step": step, "loss": loss, "domains": domains})
    }
}

/// Domains that a line names with their shares.
const DOMAINS_SHOWN_MAX: usize = 4;

/// A mixture by its largest shares.
fn largest(mut shares: Vec<(&str, f64)>) -> String {
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    let one = |(name, share): &(&str, f64)| format!("{name} {:.0} %", share * 100.0);
    let mut told: Vec<String> = shares.iter().take(DOMAINS_SHOWN_MAX).map(one).collect();
    if let more @ 1.. = shares.len().saturating_sub(DOMAINS_SHOWN_MAX) {
        told.push(format!("{more} more"));
    }
    told.join(", ")
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
        RunProgress { bar, speed, last_loss: None, validation: None }
    }

    /// Shows a step that has been trained.
    pub(crate) fn step(&mut self, state: &RunState, report: &TrainReport) {
        let step_tokens: u64 = report.pre_step.losses.iter().map(|sums| sums.tokens).sum();
        self.speed.step(step_tokens, report.step_us);
        self.last_loss = Some(report.pre_step.loss);
        let names = state.spec.domains.iter().map(|domain| domain.name.as_str());
        let message = format!(
            "loss {:.4}  norm {:.3}  {}  mixture {}",
            report.pre_step.loss,
            report.pre_step.gradient_norm,
            self.speed.short(),
            largest(names.zip(state.mixture.shares()).collect())
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

    /// Says what an event of the run shows, where that is a validation's losses.
    pub(crate) fn heed(&mut self, event: &Event, spec: &RunSpec) {
        let Event::ValidationRecorded(recorded) = event else { return };
        if let Some(validation) = Validation::of(recorded, spec) {
            self.say(&validation.sentence());
            self.validation = Some(validation);
        }
    }

    /// The last validation that this worker made, if any.
    pub(crate) fn validation(&self) -> Option<&Validation> {
        self.validation.as_ref()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixture_is_shown_by_its_largest_shares_and_their_names() {
        assert_eq!(largest(vec![("code", 0.2), ("web", 0.8)]), "web 80 %, code 20 %");
        let many = vec![("a", 0.1), ("b", 0.2), ("c", 0.3), ("d", 0.25), ("e", 0.05), ("f", 0.1)];
        assert_eq!(largest(many), "c 30 %, d 25 %, b 20 %, a 10 %, 2 more");
    }

    #[test]
    fn validation_is_told_in_all_and_by_domain() {
        let spec: RunSpec =
            serde_json::from_str(include_str!("../../store/tests/spec.json")).unwrap();
        let sums =
            |loss_sum: f64, tokens: u64| LossSums { loss_sum, tokens, ..LossSums::default() };
        let of = |losses| Validation::of(&ValidationRecorded { step: 20, losses }, &spec);
        let told = of(vec![sums(40.0, 10), sums(20.0, 10)]).unwrap();
        assert_eq!(told.sentence(), "validation loss at step 20: 3.0000 (a 4.0000, b 2.0000)");
        let due = serde_json::json!({"step": 20, "loss": 3.0, "domains": {"a": 4.0, "b": 2.0}});
        assert_eq!(told.json(), due);
        let told = of(vec![sums(40.0, 10), sums(0.0, 0)]).unwrap();
        assert_eq!(told.sentence(), "validation loss at step 20: 4.0000 (a 4.0000)");
        assert_eq!(of(vec![sums(0.0, 0), sums(0.0, 0)]), None);
    }
}
