//! The built page, embedded in the program. Without one, a sentence says how to build it.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use crate::error::Failure;

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Built;

const NOT_BUILT: &str = "The page is not built into this program: run `make web`, then build again. The API is at /api/v1.\n";

/// Whether a page was there when this program was built.
pub fn page_is_built() -> bool {
    Built::get("index.html").is_some()
}

/// Answers with the file at the path, or with the page itself at `/`.
pub(crate) async fn file(method: Method, uri: Uri) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return Failure::not_found(format!("nothing takes a {method} at {}", uri.path()))
            .into_response();
    }
    let path = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    let Some(found) = Built::get(path) else {
        if path == "index.html" {
            let plain = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
            return (StatusCode::SERVICE_UNAVAILABLE, plain, NOT_BUILT).into_response();
        }
        return Failure::not_found(format!("nothing is at {}", uri.path())).into_response();
    };
    // File names under assets/ carry a hash of the content.
    let keep = match path.starts_with("assets/") {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    let kind = mime_guess::from_path(path).first_or_octet_stream().to_string();
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, keep.to_owned())], found.data.into_owned())
        .into_response()
}
