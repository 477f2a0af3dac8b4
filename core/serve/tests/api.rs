//! The API over a fake backend: what is refused, what passes, and what a stream tells.

mod fake;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use fake::{Fake, RUN};
use futures_util::StreamExt as _;
use hm_domain::command::Command;
use hm_serve::{Token, router};
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
    let router = router(fake.clone(), Token::agreed(SECRET).unwrap(), 7400, closing);
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
async fn a_foreign_host_is_refused() {
    let service = service();
    for host in
        ["evil.example:7400", "localhost:7401", "localhost", "127.0.0.1.evil.example:7400", ""]
    {
        let request =
            Request::get("/api/v1/runs").header("host", host).body(Body::empty()).unwrap();
        let (status, body) = service.answer(request).await;
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{host}");
        assert!(body["error"].is_string());
    }
    for host in ["localhost:7400", "127.0.0.1:7400", "[::1]:7400"] {
        let request =
            Request::get("/api/v1/runs").header("host", host).body(Body::empty()).unwrap();
        assert_eq!(service.answer(request).await.0, StatusCode::OK, "{host}");
    }
    let twice =
        ask("GET", "/api/v1/runs").header("host", "evil.example").body(Body::empty()).unwrap();
    assert_eq!(service.answer(twice).await.0, StatusCode::MISDIRECTED_REQUEST);
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
    for shown in [None, Some("Bearer "), Some(SECRET), Some(wrong.as_str())] {
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
async fn commands_reach_the_backend_as_they_were_asked() {
    let service = service();
    let path = format!("/api/v1/runs/{RUN}/commands");
    let bind =
        br#"{"command":"bind","plugin":"odm@0.1.0","config":{"smoothing":0.9},"role":"shadow"}"#;
    let (status, body) = service.post(&path, "application/json", bind).await;
    assert_eq!((status, body), (StatusCode::ACCEPTED, json!({ "command": "1" })));
    let mixture = br#"{"command":"set-mixture","shares":[1,2,1]}"#;
    assert_eq!(service.post(&path, "application/json", mixture).await.0, StatusCode::ACCEPTED);
    let commands = service.fake.commands.lock().unwrap();
    assert!(matches!(&commands[0], Command::Bind { plugin, .. } if plugin == "odm@0.1.0"));
    assert_eq!(commands[1], Command::SetMixture { shares: vec![1.0, 2.0, 1.0] });
}

#[tokio::test]
async fn a_command_that_is_none_is_answered_with_a_sentence() {
    let service = service();
    let path = format!("/api/v1/runs/{RUN}/commands");
    for body in [&b"{"[..], br#"{"command":"explode"}"#, br#"{"command":"set-mixture"}"#] {
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
    let (status, _) = service.post("/api/v1/plugins", "text/plain", b"\0asm").await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
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
    assert!(body["error"].is_string());
}

#[tokio::test]
async fn metrics_come_after_a_step_and_thinned() {
    let (status, metrics) =
        service().get(&format!("/api/v1/runs/{RUN}/metrics?after=99&points=5")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(metrics["steps"], json!([100, 101, 102, 103, 104]));
    assert_eq!(metrics["domain_losses"].as_array().unwrap().len(), 3);
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
