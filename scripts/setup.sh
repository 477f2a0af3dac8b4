#!/usr/bin/env bash
# Makes a fresh Debian machine ready to build; with --tests also to run every test. Idempotent, and
# installs nothing that is there. As an ordinary user it installs no system packages: it names the
# one line to run and stops.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
stop() { say "$*"; exit 1; }

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v c++ >/dev/null || missing+=(g++)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
if [ "${1:-}" = --tests ] && [ ! -x "${CHROMIUM:-/usr/bin/chromium}" ]; then
  missing+=(chromium)
fi
if [ ${#missing[@]} -gt 0 ]; then
  line="apt-get install -y --no-install-recommends ${missing[*]}"
  command -v apt-get >/dev/null || stop "please install what Debian calls: ${missing[*]}"
  [ "$(id -u)" = 0 ] || stop "missing system packages; run: sudo apt-get update && sudo $line"
  say "installing ${missing[*]}"
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive $line
fi
command -v cargo >/dev/null || stop "no Rust: install it from https://rustup.rs"
wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
# The toolchain that rust-toolchain.toml names may not be there: rustup would fetch it, unasked.
found=$(RUSTUP_AUTO_INSTALL=0 rustc --version 2>/dev/null | cut -d' ' -f2) || true
[ -n "$found" ] || stop "no stable Rust: run: rustup toolchain install stable --profile minimal -c rustfmt -c clippy"
[ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -1)" = "$wanted" ] ||
  stop "Rust $found is too old: $wanted or later is needed; run: rustup update stable"
command -v npm >/dev/null || stop "no Node: install version 20.19 or later with npm"
node --eval 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
  stop "Node $(node --version) is too old: install version 20.19 or later"
