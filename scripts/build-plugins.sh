#!/usr/bin/env bash
# Builds every plugin to a core module; `hm plugin build` makes a component of it.
#
#   scripts/build-plugins.sh          builds all
#   scripts/build-plugins.sh --list   builds nothing; one line per plugin: its folder and its module
#
#   HM_WASM_TARGET  where to build; the modules are in its wasm32-unknown-unknown/release
set -euo pipefail
export RUSTUP_AUTO_INSTALL=0
cd "$(dirname "$0")/../plugins"
target=${HM_WASM_TARGET:-$HOME/.cache/heurimentor/plugins}

if [ "${1:-}" = --list ]; then
  # Every crate that becomes a module is a plugin; the others are libraries.
  for manifest in $(grep -l '"cdylib"' ./*/*/Cargo.toml); do
    name=$(sed -n 's/^name = "\(.*\)"$/\1/p' "$manifest" | head -n 1)
    folder=${manifest%/Cargo.toml}
    echo "${folder#./} $target/wasm32-unknown-unknown/release/${name//-/_}.wasm"
  done
  exit
fi
exec ../scripts/plugin-toolchain.sh cargo build -q --release --target wasm32-unknown-unknown \
  --target-dir "$target"
