#!/usr/bin/env bash
# Every test of the workspace, in one optimised build.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --check
cargo test --release --workspace
