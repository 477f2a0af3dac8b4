//! The built page in a real browser, over a fake backend: what `web/tests/page.mjs` asserts. Skips,
//! saying why, where the page is not built or Node, its packages or Chromium are missing;
//! `HM_REQUIRE_BROWSER=1` makes that a failure.

mod fake;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use fake::Fake;
use hm_serve::{Door, Token, page_is_built, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

fn missing(web: &Path, chromium: &Path) -> Option<&'static str> {
    if !page_is_built() {
        Some("the page is not built: run `make web`, then build again")
    } else if !web.join("node_modules/playwright-core").exists() {
        Some("no packages in web/node_modules: run `npm ci` in web/")
    } else if !chromium.exists() {
        Some("no Chromium: install it or name it in CHROMIUM")
    } else if Command::new("node").arg("--version").output().is_err() {
        Some("no Node: install it")
    } else {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_a_live_run_and_an_uploads_verdict() {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let chromium = std::env::var_os("CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into());
    if let Some(reason) = missing(&web, &PathBuf::from(&chromium)) {
        assert!(std::env::var_os("HM_REQUIRE_BROWSER").is_none(), "{reason}");
        eprintln!("skipped: {reason}");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let token = Token::random().unwrap();
    let door = Door { listening: listener.local_addr().unwrap(), public: Vec::new() };
    let address = token.address(&door);
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let server = tokio::spawn(serve(listener, door, Arc::new(Fake::new(3)), token, shutdown));
    let browse = move || {
        Command::new("node")
            .arg("tests/page.mjs")
            .arg(address)
            .env("CHROMIUM", chromium)
            .current_dir(web)
            .output()
            .unwrap()
    };
    let output = tokio::task::spawn_blocking(browse).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}
