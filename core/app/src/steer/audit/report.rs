//! What an audit found, for people and for machines.

use std::collections::BTreeMap;

use hm_domain::audit::{DecisionAudit, Divergence, Proofs};
use hm_domain::facts;
use hm_domain::id::RunId;
use hm_domain::state::Phase;
use hm_store::{Head as LogHead, ViewsReport};
use serde::Serialize;

use super::Level;
use crate::prove::anchors::Head;
use crate::prove::held::Held;
use crate::steer::audit_views;
use crate::terminal;

/// Facts that nothing has shown to be so, by who said them.
pub(crate) type WordOf = BTreeMap<&'static str, Vec<String>>;

/// How much of a run was looked at.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Scope {
    pub(crate) events: u64,
    /// Steps on record, as far as the log could be followed.
    pub(crate) steps: u64,
    /// Steps that the run is to have.
    pub(crate) steps_planned: u64,
    /// Whether the log is all of its run; one that is not may have been cut.
    pub(crate) ended: bool,
    /// Plugin calls that the log claims, a first state counted as one: as many as are proved, not
    /// provable or diverged.
    pub(crate) claimed: u64,
    /// What its parent's log says of a fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<String>,
    /// What the log calls the run.
    #[serde(skip)]
    pub(crate) name: Option<String>,
}

impl Scope {
    pub(super) fn of(audit: Option<&DecisionAudit>, events: u64, head: LogHead) -> Scope {
        let state = audit.and_then(DecisionAudit::state);
        let (steps, steps_planned) =
            state.map_or((0, 0), |state| (state.next_step, state.spec.training.steps));
        let ended = match state {
            Some(state) => matches!(state.phase, Phase::Finished(_)),
            None => head.sealed,
        };
        let name = state.map(|state| state.spec.name.clone());
        Scope { events, steps, steps_planned, ended, claimed: 0, parent: None, name }
    }
}

/// What an audit found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) run: String,
    /// What its log calls it, where that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) level: String,
    pub(crate) verdict: &'static str,
    #[serde(flatten)]
    pub(crate) scope: Scope,
    /// Events that are not as they must be.
    pub(crate) events_diverged: u64,
    /// Rows of tables that are not what the log gives, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rows_diverged: Option<u64>,
    #[serde(flatten)]
    pub(crate) proofs: Proofs,
    /// What this level takes at its word; of one that goes beyond the log that says what was looked at there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) word_of: Option<WordOf>,
    /// Where the log stood that was audited.
    pub(crate) head: Option<Head>,
    /// What its chain was held against.
    pub(crate) anchors: Vec<Held>,
}

impl Report {
    pub(super) fn new(
        run: RunId,
        level: Level,
        scope: Scope,
        (events_diverged, proofs): (u64, Proofs),
    ) -> Report {
        let verdict = match (&proofs.first, level) {
            (Some(_), _) => "diverged",
            (None, Level::Chain) => "unbroken",
            (None, _) if scope.claimed == 0 => "host part follows",
            (None, _) if proofs.not_provable > 0 => "not provable in part",
            (None, _) => "proved",
        };
        let word_of = match level {
            Level::Chain => Some(BTreeMap::new()),
            Level::Decisions | Level::Views => Some(Report::word_but(&[])),
            Level::Data | Level::Training => None,
        };
        let (run, level) = (run.to_string(), format!("{level:?}").to_lowercase());
        let (head, anchors) = (None, Vec::new());
        let rows_diverged = None;
        let name = scope.name.clone();
        Report {
            run,
            name,
            level,
            verdict,
            scope,
            events_diverged,
            rows_diverged,
            proofs,
            word_of,
            head,
            anchors,
        }
    }

    /// Adds which rows of the tables are not what the log gives.
    pub(super) fn hold_rows(&mut self, views: &ViewsReport) {
        self.rows_diverged = Some(views.differences);
        if let Some(first) = views.shown.first() {
            self.proofs.note(audit_views::divergence(first));
            self.verdict = "diverged";
        }
    }

    /// Adds what the chain was held against, and where it does not pass through.
    pub(super) fn hold(&mut self, (anchors, divergence): (Vec<Held>, Option<Divergence>)) {
        self.anchors = anchors;
        if let Some(divergence) = divergence {
            self.proofs.note(divergence);
            self.events_diverged += 1;
            self.verdict = "diverged";
        }
    }

    /// 0 when nothing diverged (with `strict`: and nothing was unprovable), else 1.
    pub(crate) fn exit_code(&self, strict: bool) -> u8 {
        u8::from(self.proofs.first.is_some() || (strict && self.proofs.not_provable > 0))
    }

    pub(crate) fn print(&self) {
        let Report { run, name, level, verdict, scope, events_diverged, proofs, word_of, .. } =
            self;
        let named = name.as_ref().map(|name| format!("{} ", terminal::line(name)));
        println!("audit of {}({run}) at level {level}: {verdict}", named.unwrap_or_default());
        println!("  {} events, {} steps", scope.events, scope.steps);
        if !scope.ended {
            let of = match scope.steps_planned {
                0 => "not ended".to_owned(),
                planned => format!("unfinished: {} of {planned} steps", scope.steps),
            };
            println!("  {of}; the run may go on, and nothing here says where its log must end");
        }
        if let Some(parent) = &scope.parent {
            println!("  {parent}");
        }
        if level != "chain" {
            self.print_calls();
        }
        match &self.anchors[..] {
            [] => println!(
                "  held against no anchor: nothing here tells whether the chain was made anew as a whole"
            ),
            anchors => anchors.iter().for_each(|held| println!("  {held}")),
        }
        if let Some(head) = self.head {
            println!("  head: {head}");
        }
        if *events_diverged > 0 {
            println!("  {events_diverged} events are not what follows from those before them");
        }
        match self.rows_diverged {
            Some(0) => println!("  every row of its tables is what the log gives"),
            Some(rows) => println!("  {rows} rows of its tables are not what the log gives"),
            None => {}
        }
        if let Some(Divergence { seq, step, plugin, what, logged, found }) = &proofs.first {
            let step = step.map(|step| format!(" (step {step})")).unwrap_or_default();
            println!("  first divergence at seq {seq}{step}, {plugin}: {what}");
            println!("    logged: {logged}");
            println!("    found:  {found}");
        }
        word_of.iter().for_each(Report::print_word_of);
    }

    /// All facts of a log that are taken at their word where these are shown.
    pub(crate) fn word_but(shown: &[&str]) -> WordOf {
        let mut word_of: WordOf = facts::taken_at_their_word().into_iter().collect();
        for fields in word_of.values_mut() {
            fields.retain(|field| !shown.contains(&field.trim_end_matches(" (tied)")));
        }
        word_of.retain(|_, fields| !fields.is_empty());
        word_of
    }

    pub(crate) fn print_word_of(word_of: &WordOf) {
        if !word_of.is_empty() {
            println!("  nothing that was looked at can show these, which are taken at their word:");
        }
        for (by, fields) in word_of {
            println!("    {by}: {}", fields.join(", "));
        }
    }

    fn print_calls(&self) {
        let Proofs { proved, not_provable, diverged, other_engine, .. } = &self.proofs;
        match self.scope.claimed {
            0 => println!("  no plugin call to prove"),
            claimed => println!(
                "  {claimed} plugin calls claimed: {proved} proved, {not_provable} not provable, \
                 {diverged} diverged"
            ),
        }
        if *other_engine > 0 {
            println!(
                "  fuel of {other_engine} proved calls not compared: they were made under another engine"
            );
        }
    }
}
