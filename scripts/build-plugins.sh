#!/usr/bin/env bash
# Builds every plugin to a core module in $HM_WASM_TARGET/wasm32-unknown-unknown/release.
set -euo pipefail
cd "$(dirname "$0")/../plugins"
exec ../scripts/plugin-toolchain.sh cargo build -q --release --target wasm32-unknown-unknown \
  --target-dir "${HM_WASM_TARGET:-$HOME/.cache/heurimentor/plugins}"
