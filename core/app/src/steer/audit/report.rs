//! What an audit found, for people and for machines.

use hm_domain::audit::{Divergence, Proofs};
use hm_domain::id::RunId;
use serde::Serialize;

use super::Level;
use crate::prove::anchors::Head;
use crate::prove::held::Held;
use crate::steer::parent::Parentage;

/// What an audit found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) run: String,
    pub(crate) level: String,
    pub(crate) verdict: &'static str,
    pub(crate) events: u64,
    pub(crate) steps: u64,
    /// Whether the log is all of its run; one that is not may have been cut.
    pub(crate) ended: bool,
    /// What its parent's log says of a fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<String>,
    #[serde(flatten)]
    pub(crate) proofs: Proofs,
    /// Where the log stood that was audited.
    pub(crate) head: Option<Head>,
    /// What its chain was held against.
    pub(crate) anchors: Vec<Held>,
}

impl Report {
    pub(super) fn new(
        run: RunId,
        level: Level,
        (events, steps, ended): (u64, u64, bool),
        proofs: Proofs,
    ) -> Report {
        let verdict = match (proofs.diverged, proofs.not_provable) {
            (0, 0) => "proved",
            (0, _) => "not provable in part",
            _ => "diverged",
        };
        let level = format!("{level:?}").to_lowercase();
        let (head, anchors) = (None, Vec::new());
        let (run, parent) = (run.to_string(), None);
        Report { run, level, verdict, events, steps, ended, parent, proofs, head, anchors }
    }

    /// Adds what the log of its parent says.
    pub(super) fn descend(&mut self, Parentage { said, differs }: Parentage) {
        self.parent = Some(said);
        if let Some(divergence) = differs {
            self.proofs.diverge(divergence);
            self.verdict = "diverged";
        }
    }

    /// Adds what the chain was held against, and where it does not pass through.
    pub(super) fn hold(&mut self, (anchors, divergence): (Vec<Held>, Option<Divergence>)) {
        self.anchors = anchors;
        if let Some(divergence) = divergence {
            self.proofs.diverge(divergence);
            self.verdict = "diverged";
        }
    }

    /// 0 when nothing diverged (with `strict`: and nothing was unprovable), else 1.
    pub(crate) fn exit_code(&self, strict: bool) -> u8 {
        u8::from(self.proofs.diverged > 0 || (strict && self.proofs.not_provable > 0))
    }

    pub(crate) fn print(&self) {
        println!("audit of {} at level {}: {}", self.run, self.level, self.verdict);
        println!("  {} events, {} steps", self.events, self.steps);
        if !self.ended {
            println!(
                "  not ended: the run may go on, and nothing here says where its log must end"
            );
        }
        if let Some(parent) = &self.parent {
            println!("  {parent}");
        }
        let Proofs { proved, not_provable, diverged, first } = &self.proofs;
        println!(
            "  {proved} plugin calls proved, {not_provable} not provable, {diverged} diverged"
        );
        match &self.anchors[..] {
            [] => println!(
                "  held against no anchor: nothing here tells whether the chain was made anew as a whole"
            ),
            anchors => anchors.iter().for_each(|held| println!("  {held}")),
        }
        if let Some(head) = self.head {
            println!("  head: {head}");
        }
        if let Some(Divergence { seq, step, plugin, what, logged, found }) = first {
            let step = step.map(|step| format!(" (step {step})")).unwrap_or_default();
            println!("  first divergence at seq {seq}{step}, {plugin}: {what}");
            println!("    logged: {logged}");
            println!("    found:  {found}");
        }
    }
}
