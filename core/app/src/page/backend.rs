//! What the page shows and asks, over the database and the plugin host. Shares nothing with a worker
//! but the database.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use hm_domain::command::Command;
use hm_domain::event::{Event, Role};
use hm_domain::id::{BindingId, RunId};
use hm_domain::plugin::World;
use hm_domain::ramp::BatchRamp;
use hm_domain::schedule::Shape;
use hm_domain::spec::RunSpec;
use hm_serve::{
    Answer, Backend, BackendError, BindingSummary, CommandAccepted, Metrics, PluginSummary,
    RunDetail, RunSummary, SpecLine, TimelineEntry, UploadVerdict, Validation, WorkerView,
};
use hm_store::{PluginRow, RunRow, Store, StoreError, Worker};
use serde_json::Value;

use crate::page::timeline::{self, Names};
use crate::page::validations::{self, mean};
use crate::plugins;
use crate::steer::told::{aftermath, policies_on_record};
use crate::steer::wishes::{Fate, Unsaved, ask};
use crate::work::registry::Registry;

/// Newest events that a page's timeline starts from.
const TIMELINE_EVENTS: u64 = 4096;

/// The application behind the page.
pub(crate) struct StoreBackend {
    store: Store,
    registry: Registry,
    /// Where checkpoints are looked at.
    data_dir: PathBuf,
}

type Result<T> = std::result::Result<T, BackendError>;

fn internal(error: impl Into<anyhow::Error>) -> BackendError {
    let error = error.into();
    match error.downcast_ref() {
        Some(StoreError::NoConnection(_)) => BackendError::Busy(error.to_string()),
        _ => BackendError::Internal(error.into()),
    }
}

/// An id that does not parse names nothing.
fn run_id(text: &str) -> Result<RunId> {
    let unknown = || BackendError::NotFound(format!("no run has the id {text}"));
    text.parse().map(RunId).map_err(|_| unknown())
}

fn worker_view(worker: &Worker) -> WorkerView {
    let (standing, known) = match worker {
        Worker::None => ("none", None),
        Worker::Working { holder, heard_at } => ("working", Some((holder, heard_at))),
        Worker::Waiting { holder, heard_at, .. } => ("waiting", Some((holder, heard_at))),
        Worker::Dead { holder, heard_at } => ("dead", Some((holder, heard_at))),
    };
    WorkerView {
        standing: standing.to_owned(),
        holder: known.map(|(holder, _)| holder.clone()),
        heard_at_us: known.map(|(_, heard_at)| *heard_at),
    }
}

impl StoreBackend {
    /// Reads and writes `store`, checks uploads with the host of `registry`, looks at checkpoints in
    /// `data_dir`.
    pub(crate) fn new(store: Store, registry: Registry, data_dir: PathBuf) -> StoreBackend {
        StoreBackend { store, registry, data_dir }
    }

    async fn known(&self, run: &str) -> Result<RunRow> {
        let found = self.store.run(run_id(run)?).await.map_err(internal)?;
        found.ok_or_else(|| BackendError::NotFound(format!("no run has the id {run}")))
    }

    /// Loss of the newest step.
    async fn newest_loss(&self, row: &RunRow) -> Result<Option<f64>> {
        let id = RunId(row.run_id);
        let next = row.next_step.max(0) as u64;
        let newest = self.store.metrics(id, None, next.saturating_sub(1), next, 1).await;
        Ok(newest.map_err(internal)?.points.last().and_then(|point| point.loss))
    }

    async fn summary(&self, row: RunRow, worker: &Worker) -> Result<RunSummary> {
        Ok(RunSummary {
            id: row.run_id.to_string(),
            loss: self.newest_loss(&row).await?,
            name: row.name,
            status: row.state,
            worker: worker_view(worker),
            ending: row.ending,
            reason: row.reason,
            step: row.next_step.max(0) as u64,
            steps: row.steps.max(0) as u64,
            tokens: row.tokens.max(0) as u64,
            started_at_us: row.started_at,
            last_at_us: row.last_at,
        })
    }

    async fn detail(&self, row: RunRow) -> anyhow::Result<RunDetail> {
        let id = RunId(row.run_id);
        let first = self.store.read(id, 0, 1).await?.into_iter().next();
        let Some(Event::RunStarted(started)) = first.map(|first| first.event) else {
            anyhow::bail!("the log of run {id} does not begin with run-started");
        };
        let spec: RunSpec = serde_json::from_str(&started.spec)?;
        let newest = self.store.newest_mixture(id).await?;
        let (mixture, mixture_version) =
            newest.unwrap_or_else(|| (started.prior.shares(), started.prior.version));
        let bindings = self.store.bindings(id).await?;
        Ok(RunDetail {
            attempt: row.attempt as u32,
            domains: row.domains.clone(),
            summary: self.summary(row, &self.store.worker(id).await?).await?,
            spec: spec_lines(&spec),
            mixture,
            mixture_version,
            bindings: bindings.iter().map(binding).collect::<anyhow::Result<_>>()?,
        })
    }

    async fn names(&self, row: &RunRow) -> anyhow::Result<Names> {
        let mut bindings = BTreeMap::new();
        for row in self.store.bindings(RunId(row.run_id)).await? {
            let number = row["binding"].as_u64().context("a binding without a number")?;
            let name = row["name"].as_str().context("a binding without a name")?.to_owned();
            bindings.insert(BindingId(number as u32), name);
        }
        Ok(Names { domains: row.domains.clone(), bindings })
    }

    async fn entries(
        &self,
        row: &RunRow,
        after_seq: Option<u64>,
        entries_max: u32,
    ) -> anyhow::Result<Vec<TimelineEntry>> {
        let id = RunId(row.run_id);
        let names = self.names(row).await?;
        let next = self.store.head(id).await?.next_seq;
        let newest = next.saturating_sub(TIMELINE_EVENTS);
        let from = after_seq.map_or(newest, |seq| seq.saturating_add(1).max(newest));
        let events = self.store.read(id, from, TIMELINE_EVENTS).await?;
        let mut entries = timeline::entries(&events, &names);
        let surplus = entries.len().saturating_sub(entries_max as usize);
        Ok(entries.split_off(surplus))
    }
}

impl Backend for StoreBackend {
    fn ready(&self) -> Answer<'_, ()> {
        Box::pin(async { self.store.ping().await.map_err(internal) })
    }

    fn runs(&self) -> Answer<'_, Vec<RunSummary>> {
        Box::pin(async {
            let rows = self.store.runs().await.map_err(internal)?;
            let ids: Vec<RunId> = rows.iter().map(|row| RunId(row.run_id)).collect();
            let workers = self.store.workers(&ids).await.map_err(internal)?;
            let mut all = Vec::new();
            for (row, worker) in rows.into_iter().zip(&workers) {
                all.push(self.summary(row, worker).await?);
            }
            Ok(all)
        })
    }

    fn run<'a>(&'a self, run: &'a str) -> Answer<'a, Option<RunDetail>> {
        Box::pin(async move {
            match self.known(run).await {
                Ok(row) => self.detail(row).await.map(Some).map_err(internal),
                Err(BackendError::NotFound(_)) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn metrics<'a>(
        &'a self,
        run: &'a str,
        after_step: Option<u64>,
        points_max: u32,
    ) -> Answer<'a, Metrics> {
        Box::pin(async move {
            let id = RunId(self.known(run).await?.run_id);
            let from = after_step.map_or(0, |step| step.saturating_add(1));
            let found = self.store.metrics(id, None, from, u64::MAX >> 1, points_max).await;
            Ok(metrics(&found.map_err(internal)?))
        })
    }

    fn validations<'a>(&'a self, run: &'a str) -> Answer<'a, Vec<Validation>> {
        Box::pin(async move {
            let id = RunId(self.known(run).await?.run_id);
            validations::all(&self.store, id).await.map_err(internal)
        })
    }

    fn timeline<'a>(
        &'a self,
        run: &'a str,
        after_seq: Option<u64>,
        entries_max: u32,
    ) -> Answer<'a, Vec<TimelineEntry>> {
        Box::pin(async move {
            let row = self.known(run).await?;
            self.entries(&row, after_seq, entries_max).await.map_err(internal)
        })
    }

    fn head<'a>(&'a self, run: &'a str) -> Answer<'a, u64> {
        Box::pin(async move {
            let head = self.store.head(run_id(run)?).await.map_err(internal)?;
            Ok(head.next_seq.saturating_sub(1))
        })
    }

    fn plugins(&self) -> Answer<'_, Vec<PluginSummary>> {
        Box::pin(async {
            let rows = self.store.plugins().await.map_err(internal)?;
            Ok(rows.iter().map(plugin).collect())
        })
    }

    fn upload_plugin<'a>(&'a self, component: Vec<u8>, by: &'a str) -> Answer<'a, UploadVerdict> {
        Box::pin(async move {
            // Compiling and trial calls keep a core busy for a moment.
            let host = self.registry.host.clone();
            let (verdict, component) =
                tokio::task::spawn_blocking(move || (plugins::check(&host, &component), component))
                    .await
                    .map_err(internal)?;
            let mut shown = verdict.shown;
            if let Some(row) = &verdict.row {
                self.store.install_plugin(row, &component, by).await.map_err(internal)?;
                shown.note = plugins::namesakes(&self.store, row).await.map_err(internal)?;
            }
            Ok(shown)
        })
    }

    fn command<'a>(
        &'a self,
        run: &'a str,
        command: Command,
        by: &'a str,
    ) -> Answer<'a, CommandAccepted> {
        Box::pin(async move {
            let row = self.known(run).await?;
            let asked = (&command, Unsaved::Kept);
            let places = (&self.store, &*self.data_dir);
            let (number, note) = match ask(places, &row, asked, by).await.map_err(internal)? {
                Fate::Refused(reason) => return Err(BackendError::Refused(reason)),
                Fate::Waits(number) => (number, "the run answers at its next step".to_owned()),
                Fate::Left(number, why) => (number, format!("no worker holds the run: {why}")),
                Fate::Done(number, how) => (number, format!("the run {how}")),
            };
            let id = RunId(row.run_id);
            let now = policies_on_record(&self.store.bindings(id).await.map_err(internal)?);
            let remarks = aftermath(id, &command, &now, &now);
            let note = std::iter::once(note).chain(remarks).collect::<Vec<_>>().join("; ");
            Ok(CommandAccepted { command: number.to_string(), note })
        })
    }
}

fn spec_lines(spec: &RunSpec) -> Vec<SpecLine> {
    let model = &spec.model;
    let training = &spec.training;
    let tokens = spec.tokens_of(training.sequences_per_step.into());
    let warmup = spec.schedule.warmup;
    let mut lines = vec![
        ("model", format!("Aquila2, {} layers of {}", model.layers, model.hidden_size)),
        ("parameters", model.parameter_count().to_string()),
        ("vocabulary", model.vocabulary.to_string()),
        ("sequence length", format!("{} tokens", model.sequence_length)),
        ("tokens per step", tokens.to_string()),
    ];
    if let Some(BatchRamp { from, by, over_sequences }) = training.batch_ramp {
        let full = training.sequences_per_step;
        let ramp = format!("{from} to {full} sequences by {by} over {over_sequences}");
        lines.push(("batch ramp", ramp));
    }
    lines.extend([
        ("peak learning rate", spec.schedule.peak.to_string()),
        ("warm-up", format!("{} {}", warmup.length(), warmup.unit())),
        ("schedule", shape(spec.schedule.shape)),
        ("weight decay", spec.optimizer.weight_decay.to_string()),
        ("decision lag", format!("{} steps", spec.decision_lag)),
        ("seed", spec.seed.to_string()),
    ]);
    let line = |(label, value): (&str, String)| SpecLine { label: label.to_owned(), value };
    lines.into_iter().map(line).collect()
}

fn shape(shape: Shape) -> String {
    match shape {
        Shape::Cosine => "cosine".to_owned(),
        Shape::Linear => "linear".to_owned(),
        Shape::Constant => "constant".to_owned(),
        Shape::WarmupStableDecay { decay_share, decay } => {
            let percent = 100.0 * decay_share;
            format!("stable, then {} over the last {percent:.1} %", decay.name())
        }
    }
}

fn binding(row: &Value) -> anyhow::Result<BindingSummary> {
    let text = |key: &str| -> anyhow::Result<String> {
        let value = row[key].as_str().with_context(|| format!("a binding without a {key}"))?;
        Ok(value.to_owned())
    };
    let role: Role = serde_json::from_value(row["role"].clone())?;
    let state = text("state")?;
    Ok(BindingSummary {
        id: row["binding"].as_u64().context("a binding without a number")?.to_string(),
        plugin: text("plugin")?,
        name: text("name")?,
        version: text("version")?,
        world: text("world")?,
        role,
        state: if state == "bound" { "live".to_owned() } else { state },
        config: row["config"].clone(),
    })
}

/// Rows to columns.
fn metrics(found: &hm_store::Metrics) -> Metrics {
    let points = &found.points;
    let domains = points.first().map_or(0, |point| point.sequences.len());
    let share = |domain: usize| {
        let of = |point: &hm_store::MetricPoint| {
            let all: i64 = point.sequences.iter().sum();
            point.sequences[domain] as f64 / all.max(1) as f64
        };
        points.iter().map(of).collect()
    };
    let loss = |domain: usize| {
        let of = |point: &hm_store::MetricPoint| {
            mean(point.loss_sums[domain], point.loss_tokens[domain] as u64)
        };
        points.iter().map(of).collect()
    };
    let rate = |point: &hm_store::MetricPoint| {
        let tokens: i64 = point.loss_tokens.iter().sum();
        (point.step_us > 0).then(|| tokens as f64 / point.step_us as f64 * 1e6)
    };
    Metrics {
        attempt: found.attempt,
        span: 1 << found.level,
        steps: points.iter().map(|point| point.step as u64).collect(),
        loss: points.iter().map(|point| point.loss).collect(),
        domain_losses: (0..domains).map(loss).collect(),
        shares: (0..domains).map(share).collect(),
        gradient_norm: points.iter().map(|point| point.gradient_norm_max).collect(),
        learning_rate: points.iter().map(|point| point.learning_rate).collect(),
        tokens_per_second: points.iter().map(rate).collect(),
    }
}

fn plugin(row: &PluginRow) -> PluginSummary {
    PluginSummary {
        digest: row.digest.to_string(),
        name: row.description.name.clone(),
        version: row.description.version.clone(),
        world: match row.world {
            World::Policy => "policy".to_owned(),
            World::Detector => "detector".to_owned(),
        },
        documentation: row.description.documentation.clone(),
        // Checked at upload; what an old check let through is shown as no schema.
        config_schema: serde_json::from_str(&row.description.config_schema).unwrap_or_default(),
    }
}
