//! Puts guard, API and page together, and runs them until told to stop.

use std::future::{Future, IntoFuture as _};
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api::{self, Shared};
use crate::backend::Backend;
use crate::error::ServeError;
use crate::guard::{self, Guard};
use crate::page;
use crate::token::Token;

/// Where to listen unless told otherwise: this machine only.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:7400";

/// Requests still open at shutdown get this long.
const GRACE_MS: u64 = 3_000;

/// Serves page and API until `shutdown` is done; live streams end then, other requests are
/// finished within three seconds. Fails if the listener does.
pub async fn serve(
    listener: TcpListener,
    backend: Arc<dyn Backend>,
    token: Token,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let port = listener.local_addr()?.port();
    let (close, closing) = watch::channel(false);
    let router = router(backend, token, port, closing.clone());
    let stopping = async move {
        shutdown.await;
        let _ = close.send(true);
    };
    let served = axum::serve(listener, router).with_graceful_shutdown(stopping);
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

/// The whole service for one port. Live streams end when `closing` turns true.
pub fn router(
    backend: Arc<dyn Backend>,
    token: Token,
    port: u16,
    closing: watch::Receiver<bool>,
) -> Router {
    let guard = Guard { port, token: Arc::new(token) };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .nest("/api/v1", api::routes())
        .method_not_allowed_fallback(api::wrong_method)
        .fallback(page::file)
        .layer(middleware::from_fn_with_state(guard, guard::check))
        .with_state(Shared { backend, closing })
}
