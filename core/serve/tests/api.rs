//! The API over a fake backend: what is refused, what passes, and what a stream tells.

mod fake;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use fake::{Fake, PANICS, RUN};
use futures_util::StreamExt as _;
use hm_domain::command::Command;
use hm_serve::{Door, Token, router};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt as _;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

struct Service {
    router: Router,
    fake: Arc<Fake>,
    close: watch::Sender<bool>,
}

fn service() -> Service {
    let fake = Arc::new(Fake::new(10));
    let (close, closing) = watch::channel(false);
    let door = Door { listening: "127.0.0.1:7400".parse().unwrap(), public: Vec::new() };
    let router = router(door, fake.clone(), Token::agreed(SECRET).unwrap(), closing);
    Service { router, fake, close }
}

fn ask(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "localhost:7400")
}

impl Service {
    async fn answer(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert!(response.headers().contains_key("content-security-policy"));
        let body = to_bytes(response.into_body(), 1 << 24).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.answer(ask("GET", path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, kind: &str, body: &'static [u8]) -> (StatusCode, Value) {
        let request = ask("POST", path)
            .header("content-type", kind)
            .header("authorization", format!("Bearer {SECRET}"));
        self.answer(request.body(Body::from(body)).unwrap()).await
    }
}

#[tokio::test]
async fn a_foreign_host_is_refused_and_loopback_answered_on_any_port() {
    let service = service();
    for host in ["evil.example:7400", "127.0.0.1.evil.example:7400", "192.168.1.5:7400", ""] {
        let request =
            Request::get("/api/v1/runs").header("host", host).body(Body::empty()).unwrap();
        let (status, body) = service.answer(request).await;
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{host}");
        assert!(body["error"].is_string());
    }
    for host in ["localhost:7400", "localhost:8080", "localhost", "127.0.0.1:1", "[::1]:7400"] {
        let request = Request::get("/api/v1/runs")
            .header("host", host)
            .header("origin", format!("http://{host}"))
            .body(Body::empty())
            .unwrap();
        assert_eq!(service.answer(request).await.0, StatusCode::OK, "{host}");
    }
    let twice =
        ask("GET", "/api/v1/runs").header("host", "evil.example").body(Body::empty()).unwrap();
    assert_eq!(service.answer(twice).await.0, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn health_is_told_to_whoever_reaches_the_port() {
    let service = service();
    let probe = |path: &str| {
        Request::get(path).header("host", "10.0.0.7:7400").body(Body::empty()).unwrap()
    };
    assert_eq!(service.answer(probe("/healthz")).await.0, StatusCode::OK);
    assert_eq!(service.answer(probe("/readyz")).await.0, StatusCode::OK);
    service.fake.gone.store(true, Ordering::Relaxed);
    assert_eq!(service.answer(probe("/healthz")).await.0, StatusCode::OK);
    let (status, body) = service.answer(probe("/readyz")).await;
    assert_eq!(
        (status, &body["error"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("the database does not answer"))
    );
}

#[tokio::test]
async fn any_number_in_a_query_is_answered_or_refused_in_words() {
    let service = service();
    for (path, after, due) in [
        ("metrics", "9223372036854775807", StatusCode::OK),
        ("timeline", "9223372036854775807", StatusCode::OK),
        ("metrics", "9223372036854775808", StatusCode::BAD_REQUEST),
        ("timeline", "18446744073709551615", StatusCode::BAD_REQUEST),
        ("metrics", "99999999999999999999999", StatusCode::BAD_REQUEST),
        ("timeline", "-1", StatusCode::BAD_REQUEST),
        ("metrics", "", StatusCode::BAD_REQUEST),
        ("timeline", "1e3", StatusCode::BAD_REQUEST),
    ] {
        let (status, body) = service.get(&format!("/api/v1/runs/{RUN}/{path}?after={after}")).await;
        assert_eq!(status, due, "{path} {after}: {body}");
        if due != StatusCode::OK {
            let sentence = body["error"].as_str().unwrap();
            let must = "must be a whole number from 0 to 9223372036854775807";
            assert!(sentence.contains(after) && sentence.contains(must), "{sentence}");
        }
    }
    for (query, due) in [
        ("metrics?points=0", "points is \"0\": it must be a whole number from 1 to 20000"),
        ("metrics?limit=3", "`limit` is no key of this query; there are after, points"),
        ("metrics?after=1&after=2", "after is given twice"),
        ("timeline?points=5", "`points` is no key of this query; there are after"),
        ("validations?after=1", "`after` is no key of this query; there are none"),
        ("events?x", "`x` is no key"),
    ] {
        let (status, body) = service.get(&format!("/api/v1/runs/{RUN}/{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert!(body["error"].as_str().unwrap().contains(due), "{query}: {body}");
    }
    assert_eq!(service.get("/api/v1/runs?page=2").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_handler_that_panics_is_a_failure_inside() {
    let service = service();
    let (status, body) = service.get(&format!("/api/v1/runs/{PANICS}")).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(body["error"], "the server failed to answer; its log says why");
    assert_eq!(service.get("/api/v1/runs").await.0, StatusCode::OK, "the next request");
}

#[tokio::test]
async fn a_foreign_origin_is_refused() {
    let service = service();
    for origin in ["http://evil.example", "http://localhost:5173", "https://localhost:7400", "null"]
    {
        let request =
            ask("GET", "/api/v1/runs").header("origin", origin).body(Body::empty()).unwrap();
        assert_eq!(service.answer(request).await.0, StatusCode::FORBIDDEN, "{origin}");
    }
    let own = ask("GET", "/api/v1/runs").header("origin", "http://localhost:7400");
    assert_eq!(service.answer(own.body(Body::empty()).unwrap()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_write_without_the_token_is_refused_and_reaches_nothing() {
    let service = service();
    let path = format!("/api/v1/runs/{RUN}/commands");
    let wrong = format!("Bearer {}", SECRET.replace('f', "e"));
    for shown in [None, Some("Bearer "), Some(SECRET), Some("Bearer"), Some(wrong.as_str())] {
        let mut request = ask("POST", &path).header("content-type", "application/json");
        if let Some(shown) = shown {
            request = request.header("authorization", shown);
        }
        let body = Body::from(r#"{"command":"pause"}"#);
        let (status, _) = service.answer(request.body(body).unwrap()).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{shown:?}");
    }
    assert!(service.fake.commands.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_token_can_be_tried_and_its_scheme_is_written_as_one_likes() {
    let service = service();
    for (shown, due) in [
        (format!("Bearer {SECRET}"), StatusCode::NO_CONTENT),
        (format!("bearer {SECRET}"), StatusCode::NO_CONTENT),
        (format!("BEARER {SECRET}"), StatusCode::NO_CONTENT),
        (format!("Basic {SECRET}"), StatusCode::UNAUTHORIZED),
        (format!("Bearer {}", SECRET.replace('f', "e")), StatusCode::UNAUTHORIZED),
    ] {
        let request = ask("POST", "/api/v1/token").header("authorization", &shown);
        let (status, _) = service.answer(request.body(Body::empty()).unwrap()).await;
        assert_eq!(status, due, "{shown}");
    }
}

#[tokio::test]
async fn commands_reach_the_backend_as_they_were_asked() {
    let service = service();
    let path = format!("/api/v1/runs/{RUN}/commands");
    let bind =
        br#"{"command":"bind","plugin":"odm@0.1.0","config":{"smoothing":0.9},"role":"shadow"}"#;
    let (status, body) = service.post(&path, "application/json", bind).await;
    assert_eq!(
        (status, body),
        (
            StatusCode::ACCEPTED,
            json!({ "command": "1", "note": "the run answers at its next step" })
        )
    );
    let mixture = br#"{"command":"set-mixture","shares":[1,2,1]}"#;
    assert_eq!(service.post(&path, "application/json", mixture).await.0, StatusCode::ACCEPTED);
    let commands = service.fake.commands.lock().unwrap();
    assert!(matches!(&commands[0], Command::Bind { plugin, .. } if plugin == "odm@0.1.0"));
    assert_eq!(
        commands[1],
        Command::SetMixture { shares: vec![1.0, 2.0, 1.0], reason: String::new() }
    );
}

#[tokio::test]
async fn a_command_that_is_none_is_answered_with_a_sentence() {
    let service = service();
    let path = format!("/api/v1/runs/{RUN}/commands");
    let long: &'static str =
        format!(r#"{{"command":"pause","reason":"{}"}}"#, "x".repeat(1 << 16)).leak();
    for body in [
        &b"{"[..],
        br#"{"command":"explode"}"#,
        br#"{"command":"set-mixture"}"#,
        br#"{"command":"pause","extra":1}"#,
        long.as_bytes(),
    ] {
        let (status, answer) = service.post(&path, "application/json", body).await;
        assert!(status.is_client_error());
        assert!(answer["error"].as_str().unwrap().starts_with("not a command: "), "{answer}");
    }
}

#[tokio::test]
async fn an_upload_brings_back_the_verdict() {
    let service = service();
    let (status, verdict) = service.post("/api/v1/plugins", "application/wasm", b"\0asm....").await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(verdict["name"], "loss-outlier");
    let (status, verdict) = service.post("/api/v1/plugins", "application/wasm", b"#!/bin/sh").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(verdict["accepted"], false);
    assert_eq!(verdict["checks"][0]["passed"], false);
    for kind in ["application/WASM", "application/wasm; charset=binary", "application/wasm ;a=b"] {
        let (status, _) = service.post("/api/v1/plugins", kind, b"\0asm").await;
        assert_eq!(status, StatusCode::CREATED, "{kind}");
    }
    for kind in ["text/plain", "application/wasm2", ""] {
        let (status, _) = service.post("/api/v1/plugins", kind, b"\0asm").await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
}

#[tokio::test]
async fn an_upload_of_41_mib_is_taken_and_one_of_65_is_not() {
    let service = service();
    for (mebibytes, expected) in [(41, StatusCode::CREATED), (65, StatusCode::PAYLOAD_TOO_LARGE)] {
        let mut component = vec![0; mebibytes << 20];
        component[..4].copy_from_slice(b"\0asm");
        let component: &'static [u8] = component.leak();
        assert_eq!(
            service.post("/api/v1/plugins", "application/wasm", component).await.0,
            expected
        );
    }
}

#[tokio::test]
async fn a_failure_inside_is_not_told() {
    let (status, body) = service().post("/api/v1/plugins", "application/wasm", b"broken").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!body.to_string().contains("secret"), "{body}");
}

#[tokio::test]
async fn what_is_not_there_is_404_as_json() {
    let service = service();
    for path in [
        "/api/v1/nothing",
        "/api/v1/runs/%ff",
        "/api/v1/runs/%00/metrics",
        "/api/v1/runs/x",
        "/api/v1/runs/x/metrics",
        "/api/v1/runs/x/events",
        "/nothing.js",
    ] {
        let (status, body) = service.get(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(body["error"].is_string(), "{path}");
    }
    let request = ask("DELETE", "/api/v1/runs").header("authorization", format!("Bearer {SECRET}"));
    let (status, body) = service.answer(request.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(body["error"], "/api/v1/runs does not take this method");
    let (_, body) = service.get("/api/v1/nothing").await;
    assert_eq!(body["error"], "the API has nothing at /api/v1/nothing");
}

#[tokio::test]
async fn what_is_asked_of_metrics_reaches_the_backend_and_its_answer_the_reader() {
    let service = service();
    let path = format!("/api/v1/runs/{RUN}/metrics");
    let (status, metrics) = service.get(&format!("{path}?after=99&points=5")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(metrics["steps"], json!([100, 101, 102, 103, 104]));
    assert_eq!(metrics["domain_losses"].as_array().unwrap().len(), 3);
    service.get(&format!("{path}?points=20000")).await;
    service.get(&path).await;
    // Thinning is the store's, and tested there.
    let asked = [(Some(99), 5), (None, 20_000), (None, 2_000)];
    assert_eq!(*service.fake.asked.lock().unwrap(), asked);
}

#[tokio::test]
async fn a_refusal_does_not_send_the_request_back_whole() {
    let long = "x".repeat(60_000);
    for path in [
        format!("/api/v1/{long}"),
        format!("/api/v1/runs/{long}"),
        format!("/api/v1/runs/{RUN}/metrics?{long}=1"),
        format!("/api/v1/runs/{RUN}/metrics?after={long}"),
    ] {
        let (status, answer) = service().get(&path).await;
        assert!(status.is_client_error(), "{status}");
        let sentence = answer["error"].as_str().unwrap();
        assert!(sentence.len() < 1_100 && sentence.contains("characters more"), "{sentence}");
    }
}

/// Reads a stream's text until `wanted` is in it, for at most five seconds.
async fn read_until(stream: &mut axum::body::BodyDataStream, text: &mut String, wanted: &str) {
    let reading = async {
        while !text.contains(wanted) {
            let chunk = stream.next().await.expect("the stream goes on").unwrap();
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(5), reading).await;
    assert!(in_time.is_ok(), "no {wanted} in {text}");
}

#[tokio::test]
async fn a_stream_tells_what_is_there_then_what_is_new_and_ends_at_shutdown() {
    let service = service();
    let request = ask("GET", &format!("/api/v1/runs/{RUN}/events")).body(Body::empty()).unwrap();
    let response = service.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let mut text = String::new();
    read_until(&mut stream, &mut text, "event: metrics").await;
    assert!(text.starts_with("event: run\n"), "{text}");
    assert!(text.contains("\"seq\":300"));
    assert!(!text.contains("\"seq\":350"));
    read_until(&mut stream, &mut text, "\"seq\":350").await;
    assert_eq!(text.matches("\"seq\":300").count(), 1, "an entry is told once");
    service.close.send(true).unwrap();
    let rest = tokio::time::timeout(Duration::from_secs(5), async {
        while let Some(chunk) = stream.next().await {
            chunk.unwrap();
        }
    });
    assert!(rest.await.is_ok(), "the stream ends at shutdown");
}
