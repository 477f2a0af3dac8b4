//! How this worker's part of a run ends: the last checkpoint, and the event that says why.
//!
//! A run is sealed only with its last weights on disk. Where they cannot be saved it stays unfinished,
//! and the next worker catches up with the log and saves.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use anyhow::{Error, Result, anyhow};
use hm_domain::ending::Due;
use hm_domain::event::*;
use hm_domain::mentor::Decided;
use hm_train::TrainError;

use crate::prove::anchors::Anchor;
use crate::work::inbox::Inbox;
use crate::work::run_loop::Run;
use crate::work::save::LAST_CHECKPOINT_PAUSES;

/// Why the loop ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The run is over.
    Finished(Ending, String),
    /// The run must end, but cannot be saved: it stays unfinished.
    Unsaved(String),
    /// This worker was asked to end; the run can go on.
    Interrupted {
        /// Why no checkpoint could be saved, if so.
        unsaved: Option<String>,
    },
}

impl Outcome {
    /// What it means for the person who typed the command, which is given to go on with.
    pub(crate) fn sentence(&self, command: &str) -> String {
        match self {
            Outcome::Finished(_, reason) => format!("ended: {reason}"),
            Outcome::Unsaved(reason) => format!(
                "the run is unfinished: {reason}; its log holds every step, so make room and catch \
                 up with: {command}"
            ),
            Outcome::Interrupted { unsaved: None } => format!("saved; go on with: {command}"),
            Outcome::Interrupted { unsaved: Some(reason) } => format!(
                "no checkpoint could be saved: {reason}; the log holds every step, so catch up \
                 and go on with: {command}"
            ),
        }
    }

    /// Why the loop ended, and what was lost.
    pub(crate) fn reason(&self) -> String {
        match self {
            Outcome::Finished(_, reason) | Outcome::Unsaved(reason) => reason.clone(),
            Outcome::Interrupted { unsaved: None } => "interrupted".to_owned(),
            Outcome::Interrupted { unsaved: Some(reason) } => {
                format!("interrupted; no checkpoint could be saved: {reason}")
            }
        }
    }

    /// As `hm train --help` tells them.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Outcome::Finished(Ending::Completed | Ending::Stopped, _) => 0,
            Outcome::Finished(Ending::Halted | Ending::Failed, _) => 1,
            Outcome::Unsaved(_) => 3,
            Outcome::Interrupted { .. } => 130,
        }
    }
}

impl Run {
    /// Trains until the run is over or this worker must end. What ends it otherwise, a panic too, is
    /// written into the log before it is given back.
    pub(crate) fn train(&mut self, inbox: &Inbox) -> Result<Outcome> {
        let trained = std::panic::catch_unwind(AssertUnwindSafe(|| self.train_on(inbox)));
        let trained = trained.unwrap_or_else(|panic| Err(said_by(&*panic)));
        if let Err(error) = &trained {
            self.tell(error);
        }
        trained
    }

    /// Goes on with the run once that is done; where it cannot be, the run is given back.
    pub(crate) fn go_on(mut self, first: impl FnOnce(&mut Run) -> Result<()>) -> Result<Run> {
        match first(&mut self) {
            Ok(()) => Ok(self),
            Err(error) => self.give_back(Err(error)),
        }
    }

    /// Gives the run back, whatever came of what was done with it last: of two errors the first.
    pub(crate) fn give_back<T>(self, done: Result<T>) -> Result<T> {
        let closed = self.journal.close();
        let done = done?;
        closed?;
        Ok(done)
    }

    /// Ends the run as it must, once what it ends with is on disk.
    pub(crate) fn finish(&mut self, due: Due) -> Result<Outcome> {
        let Due { ending, reason } = due.clone();
        // Whatever came of it is in the log before its end.
        self.wait_for_checkpoint()?;
        if self.mentor.state().validation_is_due() {
            self.validate()?;
            // Which may show that it has failed.
            let now_due = self.mentor.state().ending_due();
            if let Some(due) = now_due.filter(|due| due.ending != ending) {
                return self.finish(due);
            }
        }
        let state = self.mentor.state();
        if ending == Ending::Failed && state.learns_nothing() && state.proven.is_some() {
            // What it came to gives no numbers, and is not to be taken for the run's best.
            return self.seal(due);
        }
        match self.checkpoint(&LAST_CHECKPOINT_PAUSES)? {
            None => self.seal(due),
            // It has failed already, and nothing is to be saved of what it came to.
            Some(TrainError::WeightsNotFinite { .. }) if ending == Ending::Failed => self.seal(due),
            Some(TrainError::WeightsNotFinite { .. }) => {
                self.seal(self.mentor.state().failed_end().unwrap_or(due))
            }
            Some(error) => {
                let reason =
                    format!("{reason}, but the last checkpoint could not be saved: {error}");
                self.interrupted(reason.clone())?;
                Ok(Outcome::Unsaved(reason))
            }
        }
    }

    /// Ends the run.
    pub(crate) fn seal(&mut self, Due { ending, reason }: Due) -> Result<Outcome> {
        let step = self.mentor.state().next_step;
        let event = Event::RunFinished(RunFinished { step, ending, reason: reason.clone() });
        self.commit(Decided { events: vec![event], states: Vec::new() })?;
        self.anchor(None);
        Ok(Outcome::Finished(ending, reason))
    }

    /// Saves a checkpoint and leaves the run to another worker.
    pub(crate) fn leave_in_good_order(&mut self) -> Result<Outcome> {
        self.progress.say("saving a checkpoint");
        let unsaved = self.checkpoint(&[])?.map(|error| error.to_string());
        let reason = "interrupted from the terminal".to_owned();
        self.interrupted(match &unsaved {
            None => reason,
            Some(error) => format!("{reason}; no checkpoint could be saved: {error}"),
        })?;
        Ok(Outcome::Interrupted { unsaved })
    }

    fn interrupted(&mut self, reason: String) -> Result<()> {
        let step = self.mentor.state().next_step;
        let event = Event::RunInterrupted(RunInterrupted { step, reason });
        self.commit(Decided { events: vec![event], states: Vec::new() })?;
        self.anchor(None);
        Ok(())
    }

    /// Signs where the log stands, on disk as it is, and keeps that outside the database. A run does not
    /// end because it could not: every later head covers all before it.
    pub(crate) fn anchor(&self, checkpoint: Option<&Path>) {
        let anchor = Anchor { run: self.id, head: self.head(), root: None };
        if let Err(error) = self.anchors.add(&anchor, checkpoint) {
            self.progress.say(&format!("the head {} is not anchored: {error:#}", anchor.head));
        }
    }

    /// Leaves the reason in the log, where that can still be written.
    fn tell(&mut self, error: &Error) {
        if let Err(unwritten) = self.interrupted(format!("{error:#}")) {
            self.progress.say(&format!("the log does not say why this worker ends: {unwritten:#}"));
        }
    }
}

/// What a thread said as it panicked; its place has been printed already.
fn said_by(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    anyhow!("this worker panicked: {}", text.unwrap_or("it did not say why"))
}
