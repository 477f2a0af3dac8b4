#!/usr/bin/env bash
# Makes a fresh Debian machine ready to build and test. Idempotent; installs nothing that is there.
# As an ordinary user it does not install system packages: it names the one line to run and stops.
set -euo pipefail

say() { printf 'setup: %s\n' "$*"; }

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v make >/dev/null || missing+=(make)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
if [ ${#missing[@]} -gt 0 ]; then
  line="apt-get install -y --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" = 0 ]; then
    say "installing ${missing[*]}"
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive $line
  else
    say "missing system packages; run: sudo $line"
    exit 1
  fi
fi
command -v cargo >/dev/null || { say "no Rust: install it from https://rustup.rs"; exit 1; }
say "ready"
