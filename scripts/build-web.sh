#!/usr/bin/env bash
# Builds the page into web/dist, from where the binary takes it. Does nothing when nothing changed.
set -euo pipefail
cd "$(dirname "$0")/../web"

# npm writes this list when it has installed all; an older one belongs to other packages.
installed=node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ]; then
  echo "web: fetching npm packages"
  npm ci --no-audit --no-fund
  touch "$installed"
fi
if [ ! -e dist/index.html ] ||
  [ -n "$(find src index.html package-lock.json ./*.config.* tsconfig.json -newer dist/index.html -print -quit)" ]; then
  echo "web: building the page"
  npm run --silent check
  npm run --silent build
fi
