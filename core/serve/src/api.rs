//! Routes under `/api/v1`. Each asks the backend and passes its answer on; none decides anything.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::{get, post};
use axum::{Json, Router};
use hm_domain::command::Command;
use serde::Deserialize;
use tokio::sync::watch;

use crate::backend::Backend;
use crate::error::Failure;
use crate::live;
use crate::views::*;

/// Largest component that may be uploaded. Python guests come to some 40 MiB.
const COMPONENT_MAX_BYTES: usize = 64 << 20;
/// Points of a chart unless asked otherwise, and at most.
const POINTS: (u32, u32) = (2_000, 20_000);
/// Entries of a timeline in one answer.
pub(crate) const ENTRIES_MAX: u32 = 500;
/// Who a write is by: whoever holds the token.
const BY: &str = "web";

/// What the routes share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) closing: watch::Receiver<bool>,
}

type Reply<T> = Result<Json<T>, Failure>;

/// Every route of the API.
pub(crate) fn routes() -> Router<Shared> {
    let plugins = get(plugins).post(upload).layer(DefaultBodyLimit::max(COMPONENT_MAX_BYTES));
    Router::new()
        .route("/runs", get(runs))
        .route("/runs/{run}", get(run))
        .route("/runs/{run}/metrics", get(metrics))
        .route("/runs/{run}/validations", get(validations))
        .route("/runs/{run}/timeline", get(timeline))
        .route("/runs/{run}/events", get(live::events))
        .route("/runs/{run}/commands", post(command))
        .route("/plugins", plugins)
        .method_not_allowed_fallback(wrong_method)
        .fallback(nowhere)
}

async fn nowhere(uri: Uri) -> Failure {
    Failure::not_found(format!("the API has nothing at {}", uri.path()))
}

/// Answers a known path asked in the wrong way.
pub(crate) async fn wrong_method(uri: Uri) -> Failure {
    let sentence = format!("{} does not take this method", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, sentence)
}

async fn runs(State(shared): State<Shared>) -> Reply<Vec<RunSummary>> {
    Ok(Json(shared.backend.runs().await?))
}

async fn run(State(shared): State<Shared>, Path(run): Path<String>) -> Reply<RunDetail> {
    let found = shared.backend.run(&run).await?;
    Ok(Json(found.ok_or_else(|| no_run(&run))?))
}

/// The sentence for an id that names nothing.
pub(crate) fn no_run(run: &str) -> Failure {
    Failure::not_found(format!("no run has the id {run}"))
}

#[derive(Deserialize)]
struct Window {
    after: Option<u64>,
    points: Option<u32>,
}

async fn metrics(
    State(shared): State<Shared>,
    Path(run): Path<String>,
    window: Result<Query<Window>, QueryRejection>,
) -> Reply<Metrics> {
    let Query(window) = window.map_err(unreadable)?;
    let points = window.points.unwrap_or(POINTS.0).clamp(1, POINTS.1);
    Ok(Json(shared.backend.metrics(&run, window.after, points).await?))
}

async fn validations(
    State(shared): State<Shared>,
    Path(run): Path<String>,
) -> Reply<Vec<Validation>> {
    Ok(Json(shared.backend.validations(&run).await?))
}

async fn timeline(
    State(shared): State<Shared>,
    Path(run): Path<String>,
    window: Result<Query<Window>, QueryRejection>,
) -> Reply<Vec<TimelineEntry>> {
    let Query(window) = window.map_err(unreadable)?;
    Ok(Json(shared.backend.timeline(&run, window.after, ENTRIES_MAX).await?))
}

async fn plugins(State(shared): State<Shared>) -> Reply<Vec<PluginSummary>> {
    Ok(Json(shared.backend.plugins().await?))
}

async fn upload(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<UploadVerdict>), Failure> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind != Some("application/wasm") {
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
    Path(run): Path<String>,
    command: Result<Json<Command>, JsonRejection>,
) -> Result<(StatusCode, Json<CommandAccepted>), Failure> {
    let Json(command) = command.map_err(|rejection| {
        Failure::new(rejection.status(), format!("not a command: {}", rejection.body_text()))
    })?;
    let accepted = shared.backend.command(&run, command, BY).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

fn unreadable(rejection: QueryRejection) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, rejection.body_text())
}
