//! What happened in a run, in words: a pure function of its events. Steps at which a policy moves the
//! mixture again and again become one entry, so that what is rare stays visible.

use std::collections::BTreeMap;

use hm_domain::event::*;
use hm_domain::id::BindingId;
use hm_domain::mixture::Mixture;
use hm_domain::plugin::{Change, Finding, Outcome, Output, Severity};
use hm_domain::settings::number;
use hm_domain::step::Verdict;
use hm_serve::{TimelineEntry, TimelineKind};

use crate::forecast::outlook::rules_in_words;

/// What numbers in events are called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// In the order of every array per domain.
    pub(crate) domains: Vec<String>,
    /// Plugins' names.
    pub(crate) bindings: BTreeMap<BindingId, String>,
}

impl Names {
    fn binding(&self, id: BindingId) -> &str {
        self.bindings.get(&id).map_or("a plugin", String::as_str)
    }

    fn shares(&self, shares: &[f64], before: Option<&[f64]>) -> String {
        let one = |(index, share): (usize, &f64)| {
            let name = self.domains.get(index).map_or("?", String::as_str);
            let moved = before.and_then(|before| before.get(index)).map_or(0.0, |old| share - old);
            match moved.abs() >= 0.0005 {
                true => format!("{name} {:.1} % ({:+.1})", share * 100.0, moved * 100.0),
                false => format!("{name} {:.1} %", share * 100.0),
            }
        };
        shares.iter().enumerate().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// Entries of `events`, oldest first.
pub(crate) fn entries(events: &[Recorded], names: &Names) -> Vec<TimelineEntry> {
    let mut timeline = Timeline { names, entries: Vec::new(), series: None, shares: None };
    events.iter().for_each(|recorded| timeline.fold(recorded));
    timeline.entries
}

/// Decisions of one binding with nothing else between them: shown as the last entry.
struct Series {
    binding: BindingId,
    first_step: u64,
    count: u64,
    /// Shares before the first.
    before: Option<Vec<f64>>,
}

struct Timeline<'a> {
    names: &'a Names,
    entries: Vec<TimelineEntry>,
    series: Option<Series>,
    /// Newest shares met.
    shares: Option<Vec<f64>>,
}

impl Timeline<'_> {
    fn add(
        &mut self,
        place: (u64, Option<u64>),
        kind: TimelineKind,
        title: String,
        detail: String,
    ) {
        let (seq, step) = place;
        self.series = None;
        self.entries.push(TimelineEntry { seq, step, kind, severity: None, title, detail });
    }

    fn fold(&mut self, recorded: &Recorded) {
        use TimelineKind::{Binding, Checkpoint, Command, Decision, Run};
        let place = (recorded.seq, recorded.event.step());
        let (kind, title, detail) = match &recorded.event {
            Event::StepRecorded(step) => return self.step(recorded.seq, step),
            Event::MixtureSet(set) => {
                let moved = self.moved_to(&set.mixture, &set.rules);
                let detail = match &set.reason[..] {
                    "" => moved,
                    reason => format!("{moved}. {reason}"),
                };
                (Decision, format!("{} set the mixture", set.by), detail)
            }
            Event::MixtureLimited(limited) => {
                let detail = self.moved_to(&limited.mixture, &limited.rules);
                (Decision, "limits changed the mixture".to_owned(), detail)
            }
            Event::LearningRateSet(set) => {
                let peak = number(set.peak);
                let title = format!("{} set the peak learning rate to {peak}", set.by);
                (Decision, title, turned(set.step, &set.reason))
            }
            Event::BatchSizeSet(set) => {
                let title = format!("{} set the batch to {} sequences", set.by, set.sequences);
                (Decision, title, turned(set.step, &set.reason))
            }
            Event::RunStarted(started) => {
                self.shares = Some(started.prior.shares());
                let Environment { device, processor, threads, .. } = &started.environment;
                let detail = format!("on {device}: {processor}, {threads} threads");
                (Run, "run started".to_owned(), detail)
            }
            Event::BindingChanged(changed) => {
                (Binding, binding_title(changed), format!("asked by {}", changed.by))
            }
            Event::BindingQuarantined(quarantined) => {
                let name = self.names.binding(quarantined.binding);
                let detail =
                    format!("{} faults in a row; it is called no more", quarantined.faults);
                (Binding, format!("{name} is quarantined"), detail)
            }
            Event::CheckpointSaved(saved) => {
                let CheckpointSaved { step, digest, folder, .. } = saved;
                let detail = format!("{} in {folder}", digest.short());
                (Checkpoint, format!("checkpoint of step {step} saved"), detail)
            }
            Event::RolledBack(rolled) => {
                let data = match rolled.skipped_data {
                    true => "what was drawn since is passed over",
                    false => "what was drawn since is drawn again",
                };
                let reason = match &rolled.reason[..] {
                    "" => String::new(),
                    reason => format!(": {reason}"),
                };
                let RolledBack { step, to_step, attempt, by, .. } = &**rolled;
                let title = format!("back from step {step} to step {to_step}");
                (Run, title, format!("attempt {attempt}, by {by}; {data}{reason}"))
            }
            Event::CheckpointFailed(failed) => (
                Checkpoint,
                format!("checkpoint of step {} failed", failed.step),
                failed.reason.clone(),
            ),
            Event::CommandAnswered(answered) => {
                let word = if answered.refusal.is_some() { "refused" } else { "obeyed" };
                let title = format!("{word} a command of {}: {}", answered.by, asked(answered));
                (Command, title, answered.refusal.clone().unwrap_or_else(|| why(answered)))
            }
            Event::RunPaused(_) => (Run, "run paused".to_owned(), String::new()),
            Event::RunContinued(_) => (Run, "run went on".to_owned(), String::new()),
            Event::RunResumed(resumed) => {
                let agreed = if resumed.agreed { "agreed" } else { "disagreed" };
                let mut detail = format!(
                    "from step {}, {} steps trained again: they {agreed} with the log",
                    resumed.checkpoint_step, resumed.caught_up_steps
                );
                for PassedOver { step, reason, .. } in &resumed.passed_over {
                    detail += &format!("; the checkpoint of step {step} is passed over: {reason}");
                }
                (Run, "run taken up again".to_owned(), detail)
            }
            Event::RunInterrupted(end) => (Run, "worker ended".to_owned(), end.reason.clone()),
            Event::RunFinished(end) => (Run, "run ended".to_owned(), end.reason.clone()),
            // What is measured is for charts; what a plugin makes of it is told with its step.
            Event::ValidationRecorded(_)
            | Event::CheckpointBegun(_)
            | Event::WeightsMeasured(_)
            | Event::PluginStateSaved(_)
            | Event::PluginInstalled(_) => return,
        };
        self.add(place, kind, title, detail);
    }

    fn step(&mut self, seq: u64, step: &StepRecorded) {
        let place = (seq, Some(step.step));
        for receipt in &step.receipts {
            let name = self.names.binding(receipt.binding).to_owned();
            if receipt.outcome != Outcome::Ok {
                let detail = receipt.outcome.to_string();
                let title = format!("{name} failed; its state stays");
                self.finding(place, Severity::Warning, title, detail);
            }
            match &receipt.output {
                Output::Verdict(verdict) => self.verdict(place, &name, *verdict),
                Output::Findings(findings) => {
                    findings.iter().for_each(|finding| self.found(place, &name, finding));
                }
                Output::Actions(_) | Output::Nothing => {}
            }
            self.effects(place, &name, receipt);
        }
    }

    fn finding(
        &mut self,
        place: (u64, Option<u64>),
        severity: Severity,
        title: String,
        detail: String,
    ) {
        self.add(place, TimelineKind::Finding, title, detail);
        self.entries.last_mut().expect("just added").severity = Some(severity);
    }

    fn verdict(&mut self, place: (u64, Option<u64>), name: &str, verdict: Verdict) {
        let did = match verdict {
            Verdict::Proceed => return,
            Verdict::ClipTo(norm) => {
                format!("asks to clip the step to a norm of {}", number(norm))
            }
            Verdict::Skip => "asks to skip the step".to_owned(),
            Verdict::Halt => "asks to halt the run".to_owned(),
        };
        self.finding(place, Severity::Warning, format!("{name} {did}"), String::new());
    }

    fn found(&mut self, place: (u64, Option<u64>), name: &str, finding: &Finding) {
        let at = |index: &u32| self.names.domains.get(*index as usize).cloned().unwrap_or_default();
        let domains = finding.domains.iter().map(at).collect::<Vec<_>>().join(", ");
        let place_name = if domains.is_empty() { String::new() } else { format!(" in {domains}") };
        let title = format!("{name}: {}{place_name}", finding.kind);
        let detail = format!(
            "{} (score {:.3}, threshold {:.3}; suggests {:?})",
            finding.evidence, finding.score, finding.threshold, finding.recommendation
        );
        self.finding(place, finding.severity, title, detail.to_lowercase());
    }

    /// What the host made of a policy's actions; of a shadow's, what it proposed.
    fn effects(&mut self, place: (u64, Option<u64>), name: &str, receipt: &Receipt) {
        let Output::Actions(actions) = &receipt.output else { return };
        for (index, action) in actions.iter().enumerate() {
            let reason = action.reason.clone();
            let decision = TimelineKind::Decision;
            match receipt.effects.get(index) {
                Some(Effect::Mixture { mixture, rules, .. }) => {
                    self.decided(place, receipt.binding, mixture, (rules, &reason));
                }
                Some(Effect::LossWeights { weights }) => {
                    let detail = format!("{}: {reason}", self.names.shares(weights, None));
                    self.add(place, decision, format!("{name} set loss weights"), detail);
                }
                Some(Effect::Validate) => {
                    self.add(place, decision, format!("{name} asks for a validation"), reason);
                }
                Some(Effect::Noted) => self.add(place, decision, format!("{name} notes"), reason),
                Some(Effect::Refused { reason: why }) => {
                    self.add(
                        place,
                        decision,
                        format!("a decision of {name} is refused"),
                        why.clone(),
                    );
                }
                None => self.proposed(place, name, &action.change, reason),
            }
        }
    }

    /// An active policy's mixture: a new entry, or one more of a series.
    fn decided(
        &mut self,
        (seq, step): (u64, Option<u64>),
        binding: BindingId,
        mixture: &Mixture,
        (rules, reason): (&[String], &str),
    ) {
        let name = self.names.binding(binding).to_owned();
        let series = match self.series.take().filter(|series| series.binding == binding) {
            Some(series) => {
                self.entries.pop();
                Series { count: series.count + 1, ..series }
            }
            None => Series {
                binding,
                first_step: step.unwrap_or_default(),
                count: 1,
                before: self.shares.clone(),
            },
        };
        self.shares.clone_from(&series.before);
        let detail = format!("{}. {reason}", self.moved_to(mixture, rules));
        let title = match series.count {
            1 => format!("{name} moved the mixture"),
            count => {
                format!("{name} moved the mixture {count} times since step {}", series.first_step)
            }
        };
        self.add((seq, step), TimelineKind::Decision, title, detail);
        self.series = Some(series);
    }

    /// Shares with what moved since the newest met, and the rules that cut in.
    fn moved_to(&mut self, mixture: &Mixture, rules: &[String]) -> String {
        let shares = mixture.shares();
        let mut text = self.names.shares(&shares, self.shares.as_deref());
        if !rules.is_empty() {
            text += &format!("; {}", rules_in_words(rules));
        }
        self.shares = Some(shares);
        text
    }

    fn proposed(&mut self, place: (u64, Option<u64>), name: &str, change: &Change, reason: String) {
        let title = match change {
            Change::SetMixture(shares) => {
                let sum: f64 = shares.iter().sum();
                let shares: Vec<f64> = shares.iter().map(|share| share / sum).collect();
                format!("{name}, in the shadow, would set {}", self.names.shares(&shares, None))
            }
            Change::SetLossWeights(_) => format!("{name}, in the shadow, would set loss weights"),
            Change::Validate => format!("{name}, in the shadow, would validate"),
            Change::Note => format!("{name}, in the shadow, notes"),
        };
        self.add(place, TimelineKind::Decision, title, reason);
    }
}

fn binding_title(changed: &BindingChanged) -> String {
    let name = format!("{}@{}", changed.description.name, changed.description.version);
    let role = match changed.role {
        Role::Active => "active",
        Role::Shadow => "shadow",
    };
    match changed.change {
        BindingChange::Bound => format!("{name} is bound as {role}"),
        BindingChange::RoleChanged => format!("{name} is {role} now"),
        BindingChange::Released => format!("{name} is released"),
    }
}

/// Since when, and why if somebody said.
fn turned(step: u64, reason: &str) -> String {
    match reason {
        "" => format!("from step {step} on"),
        reason => format!("from step {step} on: {reason}"),
    }
}

/// The reason that somebody gave with a wish.
fn why(answered: &CommandAnswered) -> String {
    let body: serde_json::Value = serde_json::from_str(&answered.asked).unwrap_or_default();
    body["reason"].as_str().unwrap_or_default().to_owned()
}

/// The kind of wish, from its JSON.
fn asked(answered: &CommandAnswered) -> String {
    let body: serde_json::Value = serde_json::from_str(&answered.asked).unwrap_or_default();
    let kind = body["command"].as_str().unwrap_or("?");
    match body["plugin"].as_str() {
        Some(plugin) => format!("{kind} {plugin}"),
        None => kind.to_owned(),
    }
}

#[cfg(test)]
mod tests;
