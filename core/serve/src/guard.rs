//! What every request must satisfy before anything looks at it. Other pages in the same browser and
//! names that point at this machine (DNS rebinding) can reach the port; Host and Origin tell them
//! apart. Writing takes the token as well. Reading does not: who can open the port may look.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::Failure;
use crate::token::Token;

const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

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
    pub(crate) port: u16,
    pub(crate) token: Arc<Token>,
}

/// Lets a request through or refuses it, and adds the security headers either way.
pub(crate) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match guard.refusal(&request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Guard {
    fn refusal(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        if !text(headers, HOST).is_some_and(|host| self.is_ours(host)) {
            let sentence = format!("this server answers to localhost:{} only", self.port);
            return Some(Failure::new(StatusCode::MISDIRECTED_REQUEST, sentence).into_response());
        }
        if headers.contains_key(ORIGIN) && !self.origin_is_ours(headers) {
            let sentence = "pages of other sites may not use this server";
            return Some(Failure::new(StatusCode::FORBIDDEN, sentence).into_response());
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if !reads && !self.token_is_shown(headers) {
            let sentence =
                "this needs the token: open the address that the server printed when it started";
            let refused = Failure::new(StatusCode::UNAUTHORIZED, sentence);
            return Some(([(WWW_AUTHENTICATE, "Bearer")], refused).into_response());
        }
        None
    }

    fn is_ours(&self, host: &str) -> bool {
        // A port of 80 may be left out, by the rules of HTTP.
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
            _ => (host, Some(80)),
        };
        port == Some(self.port) && LOCAL_NAMES.iter().any(|local| name.eq_ignore_ascii_case(local))
    }

    fn origin_is_ours(&self, headers: &HeaderMap) -> bool {
        let origin = text(headers, ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
        // The same name, too: localhost and 127.0.0.1 are two sites to a browser.
        origin.is_some_and(|origin| {
            text(headers, HOST).is_some_and(|host| origin.eq_ignore_ascii_case(host))
        })
    }

    fn token_is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = text(headers, AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        shown.is_some_and(|shown| self.token.is(shown.trim()))
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    // Two of one header is a way to be read differently by two readers.
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}
