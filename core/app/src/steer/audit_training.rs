//! `hm audit --level training`: stretches of the run trained again from the checkpoints on disk, under the
//! logged verdicts, and held against the log.
//!
//! On the CPU losses, norms, validations and the checkpoint at a stretch's end are compared to the bit. What
//! a GPU trained is compared within bounds, and never called proved. Where another machine took the run up
//! in the middle of a stretch, that stretch ends there: from the weights that its checkpoint holds nobody
//! comes to those that the other went on with.

mod machines;

use std::path::PathBuf;

use anyhow::{Result, bail};
use hm_data::Sampler;
use hm_domain::audit::Divergence;
use hm_domain::event::{Environment, Event, Recorded, RunResumed, RunStarted};
use hm_domain::spec::RunSpec;
use hm_domain::state::RunState;
use hm_train::Trainer;
use serde::Serialize;

use self::machines::{other_machines, why_left};
use crate::progress::Steady;
use crate::steer::audit::source::Source;
use crate::steer::audit_data::{prepared_for, print_divergence};
use crate::steer::fold::fold;
use crate::steer::stretches::{Choice, Mark, Stretch, stretches};
use crate::work::resume::{CaughtUp, train_again};
use crate::work::validation::validate_again;

/// Largest relative difference of a loss or a norm that two devices may come to from the same weights, a
/// stretch later: what their sums round away grows with every update.
const DIFFERENCE_MAX: f64 = 0.02;

/// What training every step again to the bit shows.
const TRAINED: [&str; 8] = [
    "step-recorded pre_step.losses[].loss_sum",
    "step-recorded pre_step.losses[].loss_square_sum",
    "step-recorded pre_step.gradient_norm",
    "step-recorded pre_step.nonfinite_count",
    "validation-recorded losses[].loss_sum",
    "validation-recorded losses[].loss_square_sum",
    "weights-measured kinds[].std",
    "weights-measured kinds[].norm",
];

/// What was found of the training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TrainingReport {
    /// What was asked for; the same text asks for it again.
    stretches: String,
    /// Whether all that was trained again was compared to the bit; else within bounds.
    pub(crate) exact: bool,
    /// Steps trained again.
    steps: u64,
    /// Steps of the log.
    steps_logged: u64,
    /// Validations made again.
    validations: u64,
    /// Validations of the log.
    #[serde(skip)]
    validations_logged: u64,
    /// Checkpoints whose digest came out again.
    checkpoints: u64,
    /// Largest relative difference.
    difference_max: f64,
    /// Stretches that are not as the log has them, and checkpoints that are not.
    pub(crate) diverged: u64,
    first: Option<Divergence>,
    not_covered: Vec<NotCovered>,
    /// How the machines that trained differ from this one, where that may matter.
    other_machine: Option<String>,
}

/// A stretch that was asked for and not trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct NotCovered {
    from: u64,
    to: u64,
    why: String,
}

/// What stretches are trained with.
pub(crate) struct Means {
    pub(crate) trainer: Trainer,
    /// Folders of prepared data, and the one that was named.
    pub(crate) prepared: (PathBuf, Option<PathBuf>),
    /// The run's checkpoints.
    pub(crate) checkpoints: PathBuf,
    /// Why the trainer does not hold the run's first weights, if it does not.
    pub(crate) without_first: Option<String>,
}

/// Trains again what is chosen of a run.
///
/// # Errors
/// When log or data cannot be read, or the device fails.
pub(crate) fn audit(
    source: &dyn Source,
    (first, started, spec): (&RunState, &RunStarted, &RunSpec),
    means: Means,
    choice: Choice,
) -> Result<TrainingReport> {
    let (mut marks, mut steps_logged, mut validations_logged) = (Vec::new(), 0, 0);
    let mut environments = vec![started.environment.clone()];
    let end = fold(source, &mut |_, recorded| {
        match &recorded.event {
            Event::StepRecorded(_) => steps_logged += 1,
            Event::ValidationRecorded(_) => validations_logged += 1,
            Event::RunResumed(resumed) => environments.push(resumed.environment.clone()),
            Event::CheckpointSaved(saved) => marks.push(Mark::Saved(saved.clone())),
            Event::RolledBack(rolled) => {
                let (seq, step, to) = (recorded.seq, rolled.step, rolled.checkpoint.clone());
                marks.push(Mark::Back { seq, step, to });
            }
            _ => {}
        }
        Ok(())
    })?;
    let stretches = stretches(&marks, (first.next_step, end.next_step));
    let (folder, _) = prepared_for(spec, &means.prepared.0, means.prepared.1.as_deref())?;
    let sampler = Sampler::open(&folder, spec.seed, spec.model.sequence_length)?;
    let can_begin = |stretch: &Stretch| means.why_not(stretch).is_none();
    let chosen = choice.of(&stretches, &can_begin);
    let report = TrainingReport {
        stretches: choice.to_string(),
        exact: means.trainer.is_exact(),
        steps: 0,
        steps_logged,
        validations: 0,
        validations_logged,
        checkpoints: 0,
        difference_max: 0.0,
        diverged: 0,
        first: None,
        not_covered: Vec::new(),
        other_machine: other_machines(&environments, &means.trainer),
    };
    let chosen_steps = stretches.iter().zip(&chosen).filter(|(_, chosen)| **chosen);
    let total = chosen_steps.map(|(stretch, _)| stretch.steps.1 - stretch.steps.0).sum();
    let progress = Steady::new(total, "training again");
    let waiting = stretches.into_iter().zip(chosen).rev().collect();
    let mut work = Work {
        means,
        sampler,
        report,
        waiting,
        at: None,
        trained: None,
        returned: None,
        environment: started.environment.clone(),
        is_near: false,
        progress,
    };
    work.begin_where_due(0, first)?;
    fold(source, &mut |state, recorded| work.see(spec, state, recorded))?;
    work.progress.finish();
    Ok(work.report)
}

impl Means {
    /// Why a stretch cannot begin, if what it begins with is not there.
    fn why_not(&self, stretch: &Stretch) -> Option<String> {
        let Some(saved) = &stretch.from else { return self.without_first.clone() };
        let path = self.checkpoints.join(&saved.folder);
        (!path.is_dir()).then(|| format!("the checkpoint of step {} is gone", saved.step))
    }
}

/// An audit on its way through the log.
struct Work {
    means: Means,
    sampler: Sampler,
    report: TrainingReport,
    /// Stretches to come, the next one last, and whether they are asked for.
    waiting: Vec<(Stretch, bool)>,
    /// The one that is being trained.
    at: Option<(Stretch, CaughtUp)>,
    /// Seq at which the trainer stands as the log says, having trained up to there.
    trained: Option<u64>,
    /// Seq of the event just seen, if by that the run went back.
    returned: Option<u64>,
    /// What trained the steps of the log here.
    environment: Environment,
    /// Whether the trainer's weights have been trained on from some checkpoint, and not to the bit.
    is_near: bool,
    progress: Steady,
}

impl Work {
    fn see(&mut self, spec: &RunSpec, state: &RunState, recorded: &Recorded) -> Result<()> {
        if let Some(seq) = self.returned.take() {
            // What the run went back to is its state only now.
            self.begin_where_due(seq, state)?;
        }
        let ends = |(stretch, _): &(Stretch, CaughtUp)| stretch.ends_at == Some(recorded.seq);
        if self.at.as_ref().is_some_and(ends) {
            self.end(state)?;
        }
        match recorded.event {
            Event::CheckpointBegun(_) => return self.begin_where_due(recorded.seq, state),
            Event::RolledBack(_) => self.returned = Some(recorded.seq),
            Event::RunResumed(ref resumed) => self.take_up(resumed),
            _ => {}
        }
        let is_exact = self.is_exact();
        let Some((_, caught_up)) = &mut self.at else { return Ok(()) };
        match &recorded.event {
            Event::StepRecorded(step) => {
                let trainer = &mut self.means.trainer;
                train_again(state, step, trainer, &mut self.sampler, caught_up)?;
                self.report.steps += 1;
                self.report.exact &= is_exact;
                self.is_near |= !is_exact;
                self.progress.at(self.report.steps);
            }
            Event::ValidationRecorded(logged) => {
                validate_again(logged, spec, (&self.means.trainer, &self.sampler), caught_up)?;
                self.report.validations += 1;
            }
            _ => return Ok(()),
        }
        self.judge(recorded.seq)
    }

    /// Whether what the log has here must come out to the bit.
    fn is_exact(&self) -> bool {
        let is_same = self.environment.device == self.means.trainer.device_name();
        self.means.trainer.is_exact() && is_same && !self.is_near
    }

    /// Another worker took the run up. Leaves the stretch where that went on with weights of its own.
    fn take_up(&mut self, resumed: &RunResumed) {
        let why = why_left((&self.environment, self.is_exact()), resumed);
        self.environment = resumed.environment.clone();
        let Some(why) = why else { return };
        if let Some((stretch, _)) = self.at.take() {
            let (from, to) = (resumed.step, stretch.steps.1);
            self.report.not_covered.push(NotCovered { from, to, why });
        }
    }

    /// Leaves a stretch that is not as the log has it: what follows would only follow from that.
    fn judge(&mut self, seq: u64) -> Result<()> {
        let Some((_, caught_up)) = &self.at else { return Ok(()) };
        self.report.difference_max = self.report.difference_max.max(caught_up.difference_max);
        let is_within = !self.is_exact() && caught_up.difference_max <= DIFFERENCE_MAX;
        let Some(apart) = caught_up.disagreement.clone().filter(|_| !is_within) else {
            return Ok(());
        };
        self.at = None;
        self.diverge(seq, None, "training", "as it was trained".to_owned(), apart);
        Ok(())
    }

    /// Ends the stretch that is being trained; what the log says of a checkpoint there must come out.
    fn end(&mut self, state: &RunState) -> Result<()> {
        let Some((stretch, _)) = self.at.take() else { return Ok(()) };
        let Some(saved) = &stretch.to else { return Ok(()) };
        if self.is_exact() {
            let found = self.means.trainer.content_digest(&state.checkpoint_state())?;
            if found != saved.digest {
                let (logged, found) = (saved.digest.to_string(), found.to_string());
                self.diverge(
                    saved.begun,
                    Some(saved.step),
                    "digest of the checkpoint",
                    logged,
                    found,
                );
                return Ok(());
            }
            self.report.checkpoints += 1;
        }
        self.trained = Some(saved.begun);
        Ok(())
    }

    /// Begins the stretch that begins at `seq`, if it is asked for and what it begins with is there.
    fn begin_where_due(&mut self, seq: u64, state: &RunState) -> Result<()> {
        let is_next = self.waiting.last().is_some_and(|(stretch, _)| stretch.begins_at == seq);
        let Some((stretch, is_chosen)) = (if is_next { self.waiting.pop() } else { None }) else {
            return Ok(());
        };
        if !is_chosen {
            return Ok(());
        }
        let goes_on = self.trained == Some(seq);
        if !goes_on {
            if let Some(why) = self.means.why_not(&stretch) {
                let (from, to) = stretch.steps;
                self.report.not_covered.push(NotCovered { from, to, why });
                return Ok(());
            }
            if !self.load(&stretch, state)? {
                return Ok(());
            }
            self.sampler.restore(&state.cursors, &state.carries)?;
        }
        self.at = Some((stretch, CaughtUp::default()));
        Ok(())
    }

    /// Brings the trainer to where a stretch begins. Whether what lies there is what the log names.
    fn load(&mut self, stretch: &Stretch, state: &RunState) -> Result<bool> {
        // The first weights are there: nothing has been trained before.
        let Some(saved) = &stretch.from else { return Ok(true) };
        let path = self.means.checkpoints.join(&saved.folder);
        self.is_near = false;
        match self.means.trainer.load(&path, saved.digest) {
            Ok(content) if stretch.is_return || content == state.checkpoint_state() => Ok(true),
            Ok(content) => {
                let (logged, found) =
                    (format!("{:?}", state.checkpoint_state()), format!("{content:?}"));
                let what = "state in the checkpoint";
                self.diverge(saved.begun, Some(saved.step), what, logged, found);
                Ok(false)
            }
            Err(error) if error.is_of(&path) => {
                let (logged, found) = (saved.digest.to_string(), error.to_string());
                self.diverge(saved.begun, Some(saved.step), "checkpoint", logged, found);
                Ok(false)
            }
            Err(error) => bail!(error),
        }
    }

    fn diverge(&mut self, seq: u64, step: Option<u64>, what: &str, logged: String, found: String) {
        self.report.diverged += 1;
        let (plugin, what) = ("training".to_owned(), what.to_owned());
        self.report.first.get_or_insert(Divergence { seq, step, plugin, what, logged, found });
    }
}

impl TrainingReport {
    /// Whether all of the run was trained again.
    pub(crate) fn is_whole(&self) -> bool {
        self.steps == self.steps_logged
    }

    /// Facts of the log that came out again, in every event that has them.
    pub(crate) fn shown(&self) -> &'static [&'static str] {
        let is_proved = self.exact && self.is_whole() && self.diverged == 0;
        match is_proved && self.validations == self.validations_logged {
            true => &TRAINED,
            false => &[],
        }
    }

    pub(crate) fn print(&self) {
        let TrainingReport { stretches, steps, steps_logged, validations, checkpoints, .. } = self;
        let how = match (self.diverged, self.exact) {
            (1.., _) => format!("{} stretches diverged", self.diverged),
            _ if *steps == 0 => "nothing was trained again".to_owned(),
            (_, true) => "the same to the bit".to_owned(),
            (_, false) => format!(
                "within bounds, not proved: largest relative difference {:.1e} of {DIFFERENCE_MAX}",
                self.difference_max
            ),
        };
        println!("  training, stretches {stretches}: {how}");
        println!(
            "  {steps} of {steps_logged} steps trained again, {validations} validations, {checkpoints} \
             checkpoints came out again"
        );
        if !self.is_whole() {
            println!("  of the other steps, losses and weights are the trainer's word");
        }
        for NotCovered { from, to, why } in &self.not_covered {
            println!("  not covered: steps {from}..{to}: {why}");
        }
        self.other_machine.iter().for_each(|apart| println!("  {apart}"));
        self.first.iter().for_each(print_divergence);
    }
}
