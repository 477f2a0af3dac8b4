//! The page over a real run, in a real browser: a plugin written after the binary was built is
//! uploaded, bound to the run while it trains, decides, and audits clean.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::{Place, components, repository};

/// A policy that leans towards the first domain, a little more at each call.
const POLICY: &str = r#"
use heurimentor::{Action, DomainFacts, Observations, Policy, RunFacts};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Newcomer {
    calls: u32,
    domains: usize,
}

#[derive(Deserialize)]
pub struct Config {}

impl Policy for Newcomer {
    const NAME: &'static str = "newcomer";
    const VERSION: &'static str = "1.0.0";
    const DOCUMENTATION: &'static str = "Leans towards the first domain.";
    const CONFIG_SCHEMA: &'static str = r@{"type": "object"}@;
    type Config = Config;

    fn init(_: &RunFacts, domains: &[DomainFacts], _: Config) -> Result<Newcomer, String> {
        Ok(Newcomer { calls: 0, domains: domains.len() })
    }

    fn step(&mut self, _: &Observations) -> Result<Vec<Action>, String> {
        self.calls += 1;
        let mut shares = vec![1.0; self.domains];
        shares[0] += f64::from(self.calls.min(100)) / 100.0;
        Ok(vec![Action::set_mixture(shares, "the first domain is my favourite")])
    }
}

heurimentor::export_policy!(Newcomer);
"#;

const MANIFEST: &str = r#"
[workspace]
[package]
name = "newcomer"
version = "1.0.0"
edition = "2024"
[lib]
crate-type = ["cdylib"]
[dependencies]
heurimentor-plugin-sdk = { path = "SDK" }
serde = { version = "1", default-features = false, features = ["alloc", "derive"] }
[profile.release]
panic = "abort"
opt-level = "s"
lto = true
codegen-units = 1
strip = "debuginfo"
"#;

/// Writes, compiles and packs a policy that no binary of ours has met.
fn newcomer(place: &Place) -> PathBuf {
    let folder = place.path("newcomer");
    std::fs::create_dir_all(folder.join("src")).unwrap();
    let plugins = repository().canonicalize().unwrap().join("plugins");
    let manifest = MANIFEST.replace("SDK", plugins.join("sdk").to_str().unwrap());
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(folder.join("src/lib.rs"), POLICY.replace("r@", "r#\"").replace('@', "\"#"))
        .unwrap();
    // Versions, profile and folder of our own plugins: only the newcomer itself is left to compile.
    let target = std::env::var_os("HM_WASM_TARGET").map_or_else(
        || Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/heurimentor/plugins"),
        PathBuf::from,
    );
    std::fs::copy(plugins.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let status =
        Command::new(repository().canonicalize().unwrap().join("scripts/plugin-toolchain.sh"))
            .args(["cargo", "build", "-q", "--release", "--target", "wasm32-unknown-unknown"])
            .current_dir(&folder)
            .env("CARGO_TARGET_DIR", &target)
            .status();
    assert!(status.unwrap().success());
    let module = target.join("wasm32-unknown-unknown/release/newcomer.wasm");
    let component = place.path("newcomer.component.wasm");
    place.ok(&["plugin", "build", module.to_str().unwrap(), "-o", component.to_str().unwrap()]);
    component
}

/// What keeps a browser from being driven here, if anything does.
fn missing(chromium: &Path) -> Option<&'static str> {
    if !hm_serve::page_is_built() {
        Some("the page is not built: run `make web`, then build again")
    } else if !repository().join("web/node_modules/playwright-core").exists() {
        Some("no packages in web/node_modules: run `make web`")
    } else if !chromium.exists() {
        Some("no Chromium: install it or name it in CHROMIUM")
    } else {
        None
    }
}

#[test]
fn plugin_written_later_is_uploaded_and_bound_through_the_page_and_audits_clean() {
    let chromium = std::env::var_os("CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into());
    if let Some(reason) = missing(Path::new(&chromium)) {
        assert!(std::env::var_os("HM_REQUIRE_BROWSER").is_none(), "{reason}");
        eprintln!("skipped: {reason}");
        return;
    }
    components();
    let place = Place::with_run_file();
    let worker = place.train_in_background(
        "live",
        &["training.steps=1000000", "checkpoint.every_steps=500", "plugins=[]"],
    );
    place.wait_for_step("live", 20);
    let component = newcomer(&place);
    let (server, address) = place.serve();
    let output = Command::new("node")
        .args(["tests/bind.mjs", &address, "live", "newcomer"])
        .env("CHROMIUM", &chromium)
        .env("COMPONENT", component)
        .current_dir(repository().join("web"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let (code, errors) = worker.end();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(server.interrupt(), Some(0));

    let decided =
        "select count(*) from decision where reason like '%favourite' and kind = 'mixture'";
    let decisions: u64 = place.sql(decided).parse().unwrap();
    assert!(decisions > 0);
    let report = place.audit("live", &["--strict"], 0);
    assert_eq!(report["proved"], decisions + 1, "every call and the init");
    let reader =
        "select s.sequences[2] > s.sequences[1] from step_metric s order by step desc limit 1";
    assert_eq!(place.sql(reader), "f", "the batches follow the newcomer");
}
