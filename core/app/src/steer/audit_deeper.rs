//! What an audit asks of the world beyond the log: the prepared data, and the training itself.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use hm_domain::event::Event;
use hm_domain::spec::RunSpec;
use hm_domain::state::RunState;
use hm_train::{InitialWeights, Trainer};
use serde::Serialize;

use crate::cli::AuditArgs;
use crate::steer::audit::source::Source;
use crate::steer::audit::{Level, Report};
use crate::steer::audit_data::{self, DataReport};
use crate::steer::audit_training::{self, Means, TrainingReport};
use crate::steer::stretches::Choice;
use crate::work::anchor::load_parent;
use crate::workplace::Workplace;

/// What the drawing of every batch shows.
const DRAWN: [&str; 2] = ["step-recorded draws[].to", "step-recorded batch"];

/// What was found beyond the log; nothing where the level does not go so deep.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Deeper {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<DataReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    training: Option<TrainingReport>,
    /// What is taken at its word all the same, by who said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    word_of: Option<BTreeMap<&'static str, Vec<String>>>,
    /// Why it was not looked at, though it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_looked_at: Option<String>,
}

impl Deeper {
    /// Audits as deep as is asked for, if the log is in order: of another nothing follows.
    ///
    /// # Errors
    /// When what is needed is not here or cannot be read.
    pub(crate) fn of(
        workplace: &Workplace,
        source: &dyn Source,
        args: &AuditArgs,
        report: &Report,
    ) -> Result<Deeper> {
        args.beyond.check(args.level)?;
        if args.level < Level::Data {
            return Ok(Deeper::default());
        }
        let mut deeper = Deeper::at(source, args, report, workplace)?;
        deeper.word_of = Some(Report::word_but(&deeper.shown()));
        Ok(deeper)
    }

    fn at(
        source: &dyn Source,
        args: &AuditArgs,
        report: &Report,
        workplace: &Workplace,
    ) -> Result<Deeper> {
        let mut deeper = Deeper::default();
        if report.exit_code(false) > 0 {
            let why = "data and training were not looked at, since the log is not in order";
            deeper.not_looked_at = Some(why.to_owned());
            return Ok(deeper);
        }
        let first = source.page(0)?.first().context("the run has no events")?.decode()?;
        let Event::RunStarted(started) = &first.event else {
            bail!("the log does not begin with run-started");
        };
        let spec: RunSpec = serde_json::from_str(&started.spec)?;
        let root = workplace.data_dir.join("prepared");
        let places = (root.as_path(), args.beyond.data.as_deref());
        let data = audit_data::audit(source, &spec, places, args.beyond.step)?;
        let is_other_data = data.diverged > 0;
        deeper.data = Some(data);
        if args.level < Level::Training || is_other_data {
            return Ok(deeper);
        }
        let mut trainer =
            Trainer::new(&spec, &args.beyond.device.as_deref().unwrap_or("cpu").parse()?)?;
        let weights = args.beyond.weights.as_deref();
        let without_first = without_first(workplace, (&first.event, &spec), weights, &mut trainer)?;
        let checkpoints = workplace.checkpoints_of(source.run());
        let prepared = (root, args.beyond.data.clone());
        let means = Means { trainer, prepared, checkpoints, without_first };
        let begun = RunState::start(&first.event)?;
        let begun = (&begun, started, &spec);
        let choice = args.beyond.segments.unwrap_or(Choice::All);
        deeper.training = Some(audit_training::audit(source, begun, means, choice)?);
        Ok(deeper)
    }

    /// What the whole audit comes to, where the log alone came to `verdict`.
    pub(crate) fn verdict(&self, verdict: &'static str) -> &'static str {
        let diverged = self.data.as_ref().is_some_and(|data| data.diverged > 0)
            || self.training.as_ref().is_some_and(|training| training.diverged > 0);
        let in_part = self.data.as_ref().is_some_and(|data| !data.is_whole());
        match &self.training {
            _ if diverged => "diverged",
            Some(training) if !training.exact => "within bounds",
            Some(training) if !training.is_whole() => "not provable in part",
            _ if in_part => "not provable in part",
            _ => verdict,
        }
    }

    /// Facts of the log that were found to be so, in every event that has them.
    fn shown(&self) -> Vec<&'static str> {
        let is_drawn = |data: &DataReport| data.is_whole() && data.diverged == 0;
        let mut shown = match self.data.as_ref().is_some_and(is_drawn) {
            true => DRAWN.to_vec(),
            false => Vec::new(),
        };
        shown.extend(self.training.iter().flat_map(TrainingReport::shown));
        shown
    }

    /// 1 when something diverged (with `strict`: or was not proved), else 0.
    pub(crate) fn exit_code(&self, strict: bool) -> u8 {
        let verdict = self.verdict("");
        u8::from(verdict == "diverged" || (strict && !verdict.is_empty()))
    }

    pub(crate) fn print(&self) {
        self.not_looked_at.iter().for_each(|why| println!("  {why}"));
        self.data.iter().for_each(DataReport::print);
        self.training.iter().for_each(TrainingReport::print);
        self.word_of.iter().for_each(Report::print_word_of);
    }
}

/// Brings a trainer to the run's first weights: those of its parent, those that are named, or those of its
/// seed, which it draws by itself. Why not, if they are not at hand.
fn without_first(
    workplace: &Workplace,
    (first, spec): (&Event, &RunSpec),
    weights: Option<&Path>,
    trainer: &mut Trainer,
) -> Result<Option<String>> {
    if matches!(first, Event::RunStarted(started) if started.parent.is_some()) {
        return Ok(load_parent(workplace, first, trainer).err().map(|error| format!("{error:#}")));
    }
    let Some(digest) = spec.initial_weights else { return Ok(None) };
    let Some(folder) = weights else {
        let digest = digest.short();
        return Ok(Some(format!(
            "it begins with weights {digest}: name their folder with --weights"
        )));
    };
    // Those that the log names, whatever the folder says of itself.
    trainer.start_from(&InitialWeights { digest, ..InitialWeights::read(folder)? })?;
    Ok(None)
}
