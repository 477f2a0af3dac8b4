#!/usr/bin/env bash
# Every test of the workspace in one optimised build: rules, real Postgres, real components, a real
# browser.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/build-web.sh
cargo fmt --check
scripts/build-plugins.sh
(cd plugins && cargo fmt --check && cargo test -q --target-dir "${HM_WASM_TARGET:-$HOME/.cache/heurimentor/plugins}/native")
# The browser is there by now; a test that finds none fails instead of passing by.
export HM_REQUIRE_BROWSER=1
cargo test --release --workspace
