//! Routes under `/api/v1`. Each asks the backend and passes its answer on; none decides anything.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::extract::{DefaultBodyLimit, OriginalUri, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use hm_domain::command::{Command, WISH_BYTES_MAX};
use tokio::sync::{Semaphore, watch};

use crate::backend::Backend;
use crate::error::Failure;
use crate::live;
use crate::query::{NoQuery, Numbers, POSITIONS, Run};
use crate::views::*;

/// Largest component that may be uploaded. Python guests come to some 40 MiB.
const COMPONENT_MAX_BYTES: usize = 64 << 20;
/// Points of a chart unless asked otherwise.
const POINTS: u64 = 2_000;
/// Points of a chart at most.
const POINTS_MAX: u64 = 20_000;
/// Entries of a timeline in one answer.
pub(crate) const ENTRIES_MAX: u32 = 500;
/// Who a write is by: whoever holds the token.
const BY: &str = "web";

/// What the routes share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) closing: watch::Receiver<bool>,
    /// Places for those who follow a run.
    pub(crate) places: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(backend: Arc<dyn Backend>, closing: watch::Receiver<bool>) -> Shared {
        Shared { backend, closing, places: Arc::new(Semaphore::new(live::FOLLOWERS_MAX)) }
    }
}

type Reply<T> = Result<Json<T>, Failure>;

/// Every route of the API.
pub(crate) fn routes() -> Router<Shared> {
    let plugins = get(plugins).post(upload).layer(DefaultBodyLimit::max(COMPONENT_MAX_BYTES));
    let commands = post(command).layer(DefaultBodyLimit::max(WISH_BYTES_MAX));
    Router::new()
        .route("/runs", get(runs))
        .route("/runs/{run}", get(run))
        .route("/runs/{run}/metrics", get(metrics))
        .route("/runs/{run}/validations", get(validations))
        .route("/runs/{run}/timeline", get(timeline))
        .route("/runs/{run}/events", get(live::events))
        .route("/runs/{run}/commands", commands)
        .route("/plugins", plugins)
        // The guard has looked at the token: whoever comes this far may write.
        .route("/token", post(|_: NoQuery| async { StatusCode::NO_CONTENT }))
        .method_not_allowed_fallback(wrong_method)
        .fallback(nowhere)
}

async fn nowhere(OriginalUri(uri): OriginalUri) -> Failure {
    Failure::not_found(format!("the API has nothing at {}", uri.path()))
}

/// Answers a known path asked in the wrong way.
pub(crate) async fn wrong_method(OriginalUri(uri): OriginalUri) -> Failure {
    let sentence = format!("{} does not take this method", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, sentence)
}

async fn runs(State(shared): State<Shared>, _: NoQuery) -> Reply<Vec<RunSummary>> {
    Ok(Json(shared.backend.runs().await?))
}

async fn run(State(shared): State<Shared>, Run(run): Run, _: NoQuery) -> Reply<RunDetail> {
    let found = shared.backend.run(&run).await?;
    Ok(Json(found.ok_or_else(|| no_run(&run))?))
}

/// The sentence for an id that names nothing.
pub(crate) fn no_run(run: &str) -> Failure {
    Failure::not_found(format!("no run has the id {run}"))
}

async fn metrics(State(shared): State<Shared>, Run(run): Run, query: Numbers) -> Reply<Metrics> {
    let [after, points] = query.read([("after", POSITIONS), ("points", 1..=POINTS_MAX)])?;
    let points = points.unwrap_or(POINTS) as u32;
    Ok(Json(shared.backend.metrics(&run, after, points).await?))
}

async fn validations(
    State(shared): State<Shared>,
    Run(run): Run,
    _: NoQuery,
) -> Reply<Vec<Validation>> {
    Ok(Json(shared.backend.validations(&run).await?))
}

async fn timeline(
    State(shared): State<Shared>,
    Run(run): Run,
    query: Numbers,
) -> Reply<Vec<TimelineEntry>> {
    let [after] = query.read([("after", POSITIONS)])?;
    Ok(Json(shared.backend.timeline(&run, after, ENTRIES_MAX).await?))
}

async fn plugins(State(shared): State<Shared>, _: NoQuery) -> Reply<Vec<PluginSummary>> {
    Ok(Json(shared.backend.plugins().await?))
}

async fn upload(
    State(shared): State<Shared>,
    _: NoQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<UploadVerdict>), Failure> {
    // In any case, with or without parameters.
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/wasm") {
        let sentence = "send the component's bytes with content-type application/wasm";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence));
    }
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let sentence = format!("a component is at most {} MiB", COMPONENT_MAX_BYTES >> 20);
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, sentence)
        }
        status => Failure::new(status, rejection.body_text()),
    })?;
    let verdict = shared.backend.upload_plugin(body.into(), BY).await?;
    let status = match verdict.accepted {
        true => StatusCode::CREATED,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Ok((status, Json(verdict)))
}

async fn command(
    State(shared): State<Shared>,
    Run(run): Run,
    _: NoQuery,
    command: Result<Json<Command>, JsonRejection>,
) -> Result<(StatusCode, Json<CommandAccepted>), Failure> {
    let Json(command) = command.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let sentence = format!("not a command: one has at most {WISH_BYTES_MAX} bytes");
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, sentence)
        }
        status => Failure::new(status, format!("not a command: {}", rejection.body_text())),
    })?;
    let accepted = shared.backend.command(&run, command, BY).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}
