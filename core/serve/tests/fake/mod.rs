//! A backend made of plain values: one run of three domains whose log grows as it is read. Stands in
//! for the application; writes nothing and runs no plugin.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hm_domain::command::Command;
use hm_serve::*;

/// The only run there is.
pub(crate) const RUN: &str = "7d9f0c52-5a86-4c57-9c2e-0f2c1a1b2c3d";
/// A run whose handler panics.
pub(crate) const PANICS: &str = "panics";
/// More than any test looks on for, on however slow a machine.
const STEPS: u64 = 1_000_000;

/// See the file's own words.
pub(crate) struct Fake {
    /// Steps trained so far; also the head of the log.
    pub(crate) step: AtomicU64,
    /// Steps gained by each look at the head.
    pub(crate) pace: u64,
    /// Metrics asked for: after which step, and how many points.
    pub(crate) asked: Mutex<Vec<(Option<u64>, u32)>>,
    /// Commands received.
    pub(crate) commands: Mutex<Vec<Command>>,
    /// Whether the database is away.
    pub(crate) gone: AtomicBool,
}

impl Fake {
    /// A run of 300 steps that gains `pace` steps at each look.
    pub(crate) fn new(pace: u64) -> Self {
        Self {
            step: AtomicU64::new(300),
            pace,
            asked: Mutex::default(),
            commands: Mutex::default(),
            gone: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        self.step.load(Ordering::Relaxed)
    }

    fn known(&self, run: &str) -> Result<(), BackendError> {
        if run == RUN {
            Ok(())
        } else {
            Err(BackendError::NotFound(format!("no run has the id {run}")))
        }
    }

    fn summary(&self) -> RunSummary {
        let step = self.now();
        RunSummary {
            id: RUN.to_owned(),
            name: "aquila2-tiny".to_owned(),
            status: if step < STEPS { "running" } else { "ended" }.to_owned(),
            worker: WorkerView {
                standing: if step < STEPS { "working" } else { "none" }.to_owned(),
                holder: (step < STEPS).then(|| "process 7 on host".to_owned()),
                heard_at_us: (step < STEPS).then_some(0),
            },
            ending: (step >= STEPS).then(|| "completed".to_owned()),
            reason: None,
            step,
            steps: STEPS,
            tokens: step * 4_096,
            loss: Some(loss(step, 0)),
            started_at_us: 1_760_000_000_000_000,
            last_at_us: 1_760_000_000_000_000 + step as i64 * 110_000,
        }
    }

    fn detail(&self) -> RunDetail {
        let spec =
            [("model", "Aquila2, 4 layers of 256"), ("tokens per step", "4,096"), ("seed", "42")];
        let line =
            |(label, value): (&str, &str)| SpecLine { label: label.into(), value: value.into() };
        RunDetail {
            summary: self.summary(),
            attempt: 0,
            spec: spec.map(line).to_vec(),
            domains: ["web", "code", "books"].map(str::to_owned).to_vec(),
            mixture: shares(self.now()),
            mixture_version: self.now() / 50,
            bindings: vec![BindingSummary {
                id: "0".into(),
                plugin: "ab".repeat(32),
                name: "odm".into(),
                version: "0.1.0".into(),
                world: "policy".into(),
                role: Role::Active,
                state: "live".into(),
                config: serde_json::json!({ "smoothing": 0.9 }),
            }],
        }
    }
}

fn shares(step: u64) -> Vec<f64> {
    let code = 0.2 + 0.2 * (step / 50 * 50) as f64 / STEPS as f64;
    let books = 0.3 - 0.1 * (step / 50 * 50) as f64 / STEPS as f64;
    vec![1.0 - code - books, code, books]
}

fn loss(step: u64, domain: u64) -> f64 {
    let noise = ((step * 7_919 + domain * 104_729) % 997) as f64 / 997.0 - 0.5;
    2.4 + 0.3 * domain as f64 + 5.0 * (-(step as f64) / 90.0).exp() + 0.25 * noise
}

fn entry(seq: u64) -> TimelineEntry {
    let finding = seq.is_multiple_of(150);
    let (kind, title, detail) = match finding {
        true => (
            TimelineKind::Finding,
            "loss-outlier in code",
            "3.61 is 4.2 deviations above the median of 64 steps",
        ),
        false => (
            TimelineKind::Decision,
            "mixture changed by odm",
            "code 0.24, up from 0.23: its loss falls fastest per token",
        ),
    };
    TimelineEntry {
        seq,
        step: Some(seq),
        kind,
        severity: finding.then_some(Severity::Warning),
        title: title.into(),
        detail: detail.into(),
    }
}

impl Backend for Fake {
    fn ready(&self) -> Answer<'_, ()> {
        let gone = self.gone.load(Ordering::Relaxed);
        Box::pin(async move {
            if gone { Err(BackendError::Busy("no database".into())) } else { Ok(()) }
        })
    }

    fn runs(&self) -> Answer<'_, Vec<RunSummary>> {
        Box::pin(async { Ok(vec![self.summary()]) })
    }

    fn run<'a>(&'a self, run: &'a str) -> Answer<'a, Option<RunDetail>> {
        Box::pin(async move {
            assert!(run != PANICS, "a fault of ours");
            Ok((run == RUN).then(|| self.detail()))
        })
    }

    fn metrics<'a>(&'a self, run: &'a str, after: Option<u64>, points: u32) -> Answer<'a, Metrics> {
        Box::pin(async move {
            self.known(run)?;
            self.asked.lock().unwrap().push((after, points));
            let from = after.map_or(0, |after| after.checked_add(1).unwrap());
            let steps: Vec<u64> = (from..self.now()).take(points as usize).collect();
            let of = |domain| steps.iter().map(|&step| Some(loss(step, domain))).collect();
            let share = |domain: usize| steps.iter().map(|&step| shares(step)[domain]).collect();
            Ok(Metrics {
                attempt: 0,
                span: 1,
                loss: of(0),
                domain_losses: (0..3).map(of).collect(),
                shares: (0..3).map(share).collect(),
                gradient_norm: steps.iter().map(|&step| Some(loss(step, 5) / 3.0)).collect(),
                learning_rate: steps
                    .iter()
                    .map(|&step| 3e-4 * (step as f64 / 50.0).min(1.0))
                    .collect(),
                tokens_per_second: steps
                    .iter()
                    .map(|&step| Some(37_000.0 + loss(step, 1) * 300.0))
                    .collect(),
                steps,
            })
        })
    }

    fn validations<'a>(&'a self, run: &'a str) -> Answer<'a, Vec<Validation>> {
        Box::pin(async move {
            self.known(run)?;
            let at = |step| Validation {
                step,
                loss: Some(loss(step, 1)),
                domain_losses: (0..3).map(|domain| Some(loss(step, domain))).collect(),
            };
            Ok((1..=self.now() / 100).map(|hundred| at(hundred * 100)).collect())
        })
    }

    fn timeline<'a>(
        &'a self,
        run: &'a str,
        after: Option<u64>,
        entries_max: u32,
    ) -> Answer<'a, Vec<TimelineEntry>> {
        Box::pin(async move {
            self.known(run)?;
            let new = (1..=self.now())
                .filter(|seq| seq % 50 == 0 && after.is_none_or(|after| *seq > after));
            let all: Vec<_> = new.map(entry).collect();
            Ok(all[all.len().saturating_sub(entries_max as usize)..].to_vec())
        })
    }

    fn head<'a>(&'a self, run: &'a str) -> Answer<'a, u64> {
        Box::pin(async move {
            self.known(run)?;
            let step = (self.now() + self.pace).min(STEPS);
            self.step.store(step, Ordering::Relaxed);
            Ok(step)
        })
    }

    fn plugins(&self) -> Answer<'_, Vec<PluginSummary>> {
        Box::pin(async {
            Ok(vec![PluginSummary {
                digest: "ab".repeat(32),
                name: "odm".into(),
                version: "0.1.0".into(),
                world: "policy".into(),
                documentation: "Online data mixing: gives more weight to domains that still teach."
                    .into(),
                config_schema: serde_json::json!({
                    "type": "object",
                    "properties": { "smoothing": { "type": "number", "default": 0.9 } }
                }),
            }])
        })
    }

    fn upload_plugin<'a>(&'a self, component: Vec<u8>, _by: &'a str) -> Answer<'a, UploadVerdict> {
        Box::pin(async move {
            if component == b"broken" {
                return Err(BackendError::Internal("the disk at /secret is full".into()));
            }
            let passed = component.starts_with(b"\0asm");
            let message = match passed {
                true => "starts as WebAssembly does",
                false => "not WebAssembly: upload what `hm plugin build` writes",
            };
            Ok(UploadVerdict {
                accepted: passed,
                digest: "cd".repeat(32),
                name: passed.then(|| "loss-outlier".to_owned()),
                version: passed.then(|| "0.2.0".to_owned()),
                checks: vec![CheckResult {
                    name: "is a component".into(),
                    passed,
                    message: message.into(),
                }],
                note: None,
            })
        })
    }

    fn command<'a>(
        &'a self,
        run: &'a str,
        command: Command,
        _by: &'a str,
    ) -> Answer<'a, CommandAccepted> {
        Box::pin(async move {
            self.known(run)?;
            let mut commands = self.commands.lock().unwrap();
            commands.push(command);
            let note = "the run answers at its next step".to_owned();
            Ok(CommandAccepted { command: commands.len().to_string(), note })
        })
    }
}
