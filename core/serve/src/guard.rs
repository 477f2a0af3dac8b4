//! What every request must satisfy before anything looks at it. Other pages in the same browser and
//! names that point at this machine (DNS rebinding) can reach the port; Host and Origin tell them
//! apart. Writing takes the token as well. Reading does not: who can open the port may look.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::door::Door;
use crate::error::Failure;
use crate::token::Token;

/// Sent with every answer.
const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// What the guard compares with.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) door: Arc<Door>,
    pub(crate) token: Arc<Token>,
}

/// Adds the security headers to whatever is answered.
pub(crate) async fn add_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Lets a request through or refuses it. Whatever would write is noted: who asked what, and what came
/// of it.
pub(crate) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if is_read(&request) {
        return guard.answer(request, next).await;
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let begun = Instant::now();
    let response = guard.answer(request, next).await;
    let (status, took_ms) = (response.status().as_u16(), begun.elapsed().as_millis() as u64);
    tracing::info!(%method, path, status, took_ms, "{method} {path} was answered with {status}");
    response
}

fn is_read(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
}

impl Guard {
    async fn answer(&self, request: Request, next: Next) -> Response {
        match self.refusal(&request) {
            Some(refusal) => refusal,
            None => next.run(request).await,
        }
    }

    fn refusal(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let Some(host) = text(headers, HOST).filter(|host| self.door.is_ours(host)) else {
            let sentence =
                "this server answers to localhost and to the addresses that --public-url names";
            return Some(Failure::new(StatusCode::MISDIRECTED_REQUEST, sentence).into_response());
        };
        let is_own =
            || text(headers, ORIGIN).is_some_and(|origin| self.door.is_own_page(origin, host));
        if headers.contains_key(ORIGIN) && !is_own() {
            let sentence = "pages of other sites may not use this server";
            return Some(Failure::new(StatusCode::FORBIDDEN, sentence).into_response());
        }
        if !is_read(request) && !self.token_is_shown(headers) {
            let sentence =
                "this needs the token: open the address that the server printed when it started";
            let refused = Failure::new(StatusCode::UNAUTHORIZED, sentence);
            return Some(([(WWW_AUTHENTICATE, "Bearer")], refused).into_response());
        }
        None
    }

    fn token_is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = text(headers, AUTHORIZATION).and_then(|value| value.split_once(' '));
        shown.is_some_and(|(scheme, shown)| {
            scheme.eq_ignore_ascii_case("Bearer") && self.token.is(shown.trim())
        })
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    // Two of one header is a way to be read differently by two readers.
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}
