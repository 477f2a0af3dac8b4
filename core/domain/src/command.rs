//! Wishes from outside and what the mentor answers. A wish waits for the step boundary and takes
//! effect there, as events.

mod check;

use serde::{Deserialize, Serialize};

pub use self::check::{REASON_BYTES_MAX, WISH_BYTES_MAX, zero_character};
use crate::calls;
use crate::catalogue::check_columns;
use crate::event::*;
use crate::follow::{self, BindingAsked};
use crate::id::{BindingId, Digest};
use crate::made::{self, FirstState};
use crate::mentor::{Decided, Mentor};
use crate::plugin::{Description, Limits, Outcome, Plugins, World};
use crate::spec::RunSpec;

/// A wish in a run's inbox. Every one may say why; the log keeps that with the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command", deny_unknown_fields)]
pub enum Command {
    /// Call this plugin from the next step on.
    Bind {
        /// Digest, or name@version.
        plugin: String,
        /// JSON, valid under the plugin's schema.
        config: serde_json::Value,
        /// Obeyed or only logged.
        role: Role,
        /// What a fault costs.
        #[serde(default)]
        failure: FailurePolicy,
        /// Why, for the log.
        #[serde(default)]
        reason: String,
    },
    /// Call it no more.
    Release {
        /// Which binding.
        binding: BindingId,
        /// Why, for the log.
        #[serde(default)]
        reason: String,
    },
    /// Wait at the boundary.
    Pause {
        /// Why, for the log.
        #[serde(default)]
        reason: String,
    },
    /// Go on.
    Resume {
        /// Why, for the log.
        #[serde(default)]
        reason: String,
    },
    /// Checkpoint and end the run.
    Stop {
        /// Why, for the log.
        #[serde(default)]
        reason: String,
    },
    /// Go back to a checkpoint, as another attempt: weights, moments, cursors, mixture, knobs and plugins
    /// are as they were there.
    Rollback {
        /// The checkpoint's step: the next one to train.
        to: u64,
        /// Pass over the data drawn since, instead of drawing it again.
        #[serde(default)]
        skip_data: bool,
        /// Why, for the log.
        #[serde(default)]
        reason: String,
    },
    /// Set the mixture by hand.
    SetMixture {
        /// One per domain, on any positive scale.
        shares: Vec<f64>,
        /// Why, for the log.
        #[serde(default)]
        reason: String,
    },
    /// Set the peak of the learning-rate schedule by hand: from the next step on every rate is the
    /// schedule's own times this over the run file's peak, so the minimum keeps its ratio and wishes do
    /// not compound.
    SetLearningRate {
        /// As `training.learning_rate` in a run file may be, and at most
        /// [`PEAK_FACTOR_MAX`](crate::knobs::PEAK_FACTOR_MAX) times the run file's.
        peak: f64,
        /// Why, for the log.
        #[serde(default)]
        reason: String,
    },
    /// Set the batch size by hand: every step from the next on draws so many sequences, and a ramp is
    /// over.
    SetBatchSize {
        /// From 1 to [`SEQUENCES_PER_STEP_MAX`](crate::ramp::SEQUENCES_PER_STEP_MAX), and no more than
        /// the limits of the domains last for to the end of the run.
        sequences: u32,
        /// Why, for the log.
        #[serde(default)]
        reason: String,
    },
}

impl Command {
    /// What kind of wish: its tag in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Command::Bind { .. } => "bind",
            Command::Release { .. } => "release",
            Command::Pause { .. } => "pause",
            Command::Resume { .. } => "resume",
            Command::Stop { .. } => "stop",
            Command::Rollback { .. } => "rollback",
            Command::SetMixture { .. } => "set-mixture",
            Command::SetLearningRate { .. } => "set-learning-rate",
            Command::SetBatchSize { .. } => "set-batch-size",
        }
    }

    /// Why, if somebody said.
    pub fn reason(&self) -> &str {
        match self {
            Command::Bind { reason, .. }
            | Command::Release { reason, .. }
            | Command::Pause { reason }
            | Command::Resume { reason }
            | Command::Stop { reason }
            | Command::Rollback { reason, .. }
            | Command::SetMixture { reason, .. }
            | Command::SetLearningRate { reason, .. }
            | Command::SetBatchSize { reason, .. } => reason,
        }
    }
}

/// A plugin that a `Bind` names, loaded and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// SHA-256 of the component.
    pub plugin: Digest,
    /// World it implements.
    pub world: World,
    /// Interface version, as `0.1.0`.
    pub interface: String,
    /// What it says of itself.
    pub description: Description,
    /// Engine and host interface.
    pub engine: Digest,
    /// Limits of each call.
    pub limits: Limits,
}

impl Candidate {
    /// Its first state in a run of this spec, and the fuel that this took. Asked before there is a run,
    /// and again when it is bound.
    ///
    /// # Errors
    /// Why it cannot be bound, in a sentence.
    pub fn begin(
        &self,
        plugins: &dyn Plugins,
        (spec, step): (&RunSpec, u64),
        config: &str,
    ) -> Result<(Vec<u8>, u64), String> {
        check_columns(&self.description.columns).map_err(|refused| refused.to_string())?;
        let reply = plugins.call(&self.plugin, &calls::init(spec, step, config));
        match (reply.value, reply.outcome) {
            (Some((state, _)), _) => Ok((state, reply.fuel)),
            (None, Outcome::GuestError(message)) => Err(format!("the plugin refuses: {message}")),
            (None, other) => Err(format!("init of {} failed: {other}", self.description.name)),
        }
    }
}

/// Seconds within which a wish is answered, or it is obeyed no more: whoever asked for a pause on Monday does
/// not mean the run that somebody takes up on Friday.
pub const WISH_PATIENCE_S: u64 = 24 * 3600;

/// Who asked what, as the inbox holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Number in the inbox; 0 for what the run file asks.
    pub number: u64,
    /// Who.
    pub by: String,
    /// What.
    pub command: Command,
    /// Seconds that it lay in the inbox.
    pub waited_s: u64,
}

impl Asked {
    /// Why it is obeyed no more, if it has waited for too long.
    pub(crate) fn expiry(waited_s: u64) -> Option<String> {
        let (hours, most) = (waited_s / 3600, WISH_PATIENCE_S / 3600);
        (waited_s > WISH_PATIENCE_S).then(|| {
            format!(
                "it was asked {hours} hours ago, and what nobody answers within {most} hours is obeyed no \
                 more: ask again"
            )
        })
    }
}

impl Mentor {
    /// Refuses what lies in the inbox and cannot be read as a wish.
    pub fn refuse(
        &self,
        (number, by, waited_s): (u64, &str, u64),
        asked: String,
        reason: String,
    ) -> Decided {
        let answered = CommandAnswered {
            command: number,
            step: self.state().next_step,
            asked,
            by: by.to_owned(),
            waited_s,
            refusal: Some(reason),
        };
        Decided { events: vec![Event::CommandAnswered(answered)], states: Vec::new() }
    }

    /// Answers a wish. `candidate` is what a `Bind` names, or why it cannot be had.
    pub fn answer(&mut self, asked: &Asked, candidate: Result<Candidate, String>) -> Decided {
        let Asked { number, by, command, waited_s } = asked;
        let mut decided = Decided::default();
        let refusal = match follow::refusal(self.state(), command, (by, *waited_s)) {
            Some(reason) => Some(reason),
            None => self.obey(asked, candidate, &mut decided).err(),
        };
        let answered = CommandAnswered {
            command: *number,
            step: self.state().next_step,
            asked: serde_json::to_string(command).expect("a command is plain data"),
            by: by.clone(),
            waited_s: *waited_s,
            refusal,
        };
        decided.events.insert(0, Event::CommandAnswered(answered));
        decided
    }

    fn obey(
        &mut self,
        asked: &Asked,
        candidate: Result<Candidate, String>,
        decided: &mut Decided,
    ) -> Result<(), String> {
        let state = self.state();
        if matches!(asked.command, Command::Rollback { .. }) {
            return Err("nobody has looked for its checkpoint".to_owned());
        }
        match BindingAsked::of(state, &asked.command, (asked.number, &asked.by)) {
            Some(binding) => self.bind(&binding, candidate?, decided),
            None => {
                decided.events.extend(follow::effect(state, &asked.command, &asked.by));
                Ok(())
            }
        }
    }

    fn bind(
        &mut self,
        asked: &BindingAsked,
        candidate: Candidate,
        decided: &mut Decided,
    ) -> Result<(), String> {
        self.refuse_twice(&candidate, &asked.config, asked.role)?;
        let (bytes, fuel) = self.begin(&candidate, &asked.config)?;
        let state = self.state();
        // One active policy at a time: a new one takes the old one's place, and the log says so.
        if asked.role == Role::Active && candidate.world == World::Policy {
            for replaced in state.active_policies() {
                let released = made::released(state, &replaced.facts, Some(&asked.by));
                decided.events.push(Event::BindingChanged(Box::new(released)));
            }
        }
        let first = FirstState { candidate, state: Digest::of(&bytes), fuel };
        let bound = made::bound(state, asked, first);
        let BindingChanged { binding, step, initial_state: state, .. } = bound;
        decided.events.push(Event::BindingChanged(Box::new(bound)));
        let saved = PluginStateSaved { binding, step, calls: 0, state };
        decided.events.push(Event::PluginStateSaved(saved));
        decided.states.push(bytes.clone());
        self.adopt(binding, bytes);
        Ok(())
    }

    /// Whoever binds what is bound already has typed it twice, and means no second one. A policy in charge
    /// takes its own place, and the log says so.
    fn refuse_twice(&self, candidate: &Candidate, config: &str, role: Role) -> Result<(), String> {
        if role == Role::Active && candidate.world == World::Policy {
            return Ok(());
        }
        let is_same = |facts: &BindingChanged| {
            (facts.plugin, facts.role, &*facts.config) == (candidate.plugin, role, config)
        };
        let mut bindings = self.state().bindings.values();
        match bindings.find(|binding| binding.live && is_same(&binding.facts)) {
            Some(same) => Err(format!(
                "{} is bound already with this role and configuration, as {}: release that one first, or give \
                 another configuration",
                candidate.description.name, same.facts.binding
            )),
            None => Ok(()),
        }
    }
}
