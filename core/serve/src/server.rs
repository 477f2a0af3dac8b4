//! Puts guard, API and page together, and runs them until told to stop.

use std::future::{Future, IntoFuture as _};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Router, middleware};
use futures_util::FutureExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api::{self, Shared};
use crate::backend::Backend;
use crate::connections::{CONNECTIONS_MAX, Connections, SILENCE_MAX};
use crate::door::Door;
use crate::error::{Failure, ServeError};
use crate::guard::{self, Guard};
use crate::page;
use crate::token::Token;

/// Where to listen unless told otherwise: this machine only.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:7400";

/// How long `/readyz` waits for the database.
const READY_PATIENCE_MS: u64 = 3_000;

/// Requests still open at shutdown get this long.
const GRACE_MS: u64 = 3_000;

/// Serves page and API until `shutdown` is done; live streams end then, other requests are
/// finished within three seconds. Fails if the listener does.
pub async fn serve(
    listener: TcpListener,
    door: Door,
    backend: Arc<dyn Backend>,
    token: Token,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let (close, closing) = watch::channel(false);
    let router = router(door, backend, token, closing.clone());
    let stopping = async move {
        shutdown.await;
        let _ = close.send(true);
    };
    let connections = Connections::new(listener, CONNECTIONS_MAX, SILENCE_MAX);
    let served = axum::serve(connections, router).with_graceful_shutdown(stopping);
    let out_of_grace = async move {
        let mut closing = closing;
        let _ = closing.wait_for(|closing| *closing).await;
        tokio::time::sleep(Duration::from_millis(GRACE_MS)).await;
    };
    tokio::select! {
        served = served.into_future() => Ok(served?),
        () = out_of_grace => Ok(()),
    }
}

/// The whole service behind one door. Live streams end when `closing` turns true.
pub fn router(
    door: Door,
    backend: Arc<dyn Backend>,
    token: Token,
    closing: watch::Receiver<bool>,
) -> Router {
    let guard = Guard { door: Arc::new(door), token: Arc::new(token) };
    Router::new()
        .nest("/api/v1", api::routes())
        .fallback(page::file)
        .layer(middleware::from_fn(catch_panic))
        .layer(middleware::from_fn_with_state(guard, guard::check))
        // Whoever watches over the process asks by its address, and learns nothing else.
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .method_not_allowed_fallback(api::wrong_method)
        .layer(middleware::from_fn(guard::add_headers))
        .with_state(Shared::new(backend, closing))
}

/// A handler that panics costs its own request an answer, and no more.
async fn catch_panic(request: Request, next: Next) -> Response {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    // The panic's hook has told standard error where and why.
    answer.unwrap_or_else(|_| Failure::inside().into_response())
}

async fn ready(State(shared): State<Shared>) -> Result<&'static str, Failure> {
    let patience = Duration::from_millis(READY_PATIENCE_MS);
    match tokio::time::timeout(patience, shared.backend.ready()).await {
        Ok(Ok(())) => Ok("ready\n"),
        unready => {
            tracing::warn!(?unready, "the database does not answer");
            let sentence = "the database does not answer";
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, sentence))
        }
    }
}
