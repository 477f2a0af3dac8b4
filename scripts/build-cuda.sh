#!/usr/bin/env bash
# Builds hm with CPU and CUDA in one binary. Needs no GPU and no CUDA toolkit: the driver is looked for
# when a run asks for it. burn compiles its CUDA kernels with LLVM; its build fetches a bundle of that,
# and where Debian has LLVM 22 we take Debian's instead and fetch nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'build-cuda: %s\n' "$*"; }
cache="$HOME/.cache/heurimentor"
export RUSTUP_AUTO_INSTALL=0
# A folder of its own: with and without CUDA burn is built with other features.
export CARGO_TARGET_DIR="${HM_CUDA_TARGET:-$cache/cuda-target}"

version=$(sed -n '/^name = "tracel-llvm-bundler"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
[ -n "$version" ] || { say "Cargo.lock names no tracel-llvm-bundler"; exit 1; }
llvm=/usr/lib/llvm-22
packages=(llvm-22-dev libpolly-22-dev libz3-dev libzstd-dev zlib1g-dev)

# Old lists may not know it.
if [ ! -x "$llvm/bin/llvm-config" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -q
fi
if [ ! -x "$llvm/bin/llvm-config" ] && apt-cache show llvm-22-dev >/dev/null 2>&1; then
  line="apt-get install -y --no-install-recommends ${packages[*]}"
  [ "$(id -u)" = 0 ] || { say "missing LLVM; run: sudo apt-get update && sudo $line"; exit 1; }
  say "installing ${packages[*]}"
  DEBIAN_FRONTEND=noninteractive $line
fi
if [ -x "$llvm/bin/llvm-config" ]; then
  # burn's build looks for a bundle under the user's data folder and asks for z3 as `libz3`.
  place="$cache/llvm"
  bundle="$place/tracel/tracel-llvm-$version"
  mkdir -p "$bundle" "$place/lib"
  # Only what is missing: anything newer than the last build would have burn's CUDA part built again.
  for part in bin include lib; do
    [ "$(readlink "$bundle/$part")" = "$llvm/$part" ] || ln -sfn "$llvm/$part" "$bundle/$part"
  done
  [ -e "$bundle/.tracel-llvm-installed" ] || touch "$bundle/.tracel-llvm-installed"
  z3=$(cc -print-file-name=libz3.so)
  [ "$(readlink "$place/lib/liblibz3.so")" = "$z3" ] || ln -sfn "$z3" "$place/lib/liblibz3.so"
  export XDG_DATA_HOME="$place" LIBRARY_PATH="$place/lib${LIBRARY_PATH:+:$LIBRARY_PATH}"
  say "LLVM $("$bundle/bin/llvm-config" --version) of Debian"
else
  say "no LLVM 22 of Debian's: burn's build fetches its own bundle"
fi
unset DOCS_RS
# With the checks of `make gpu-check`: built by themselves they would have other features, and burn would
# be built twice.
cargo build --release -p hm --features cuda --bin hm --bench gpu "$@"
say "built $CARGO_TARGET_DIR/release/hm"
