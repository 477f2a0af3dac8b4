#!/usr/bin/env bash
# Builds every plugin and packs it into a component under $HM_COMPONENTS, with the hm given:
#   scripts/pack-plugins.sh target/release/hm
set -euo pipefail
hm=$(realpath "${1:?the hm binary to pack with}")
cd "$(dirname "$0")/.."
components=${HM_COMPONENTS:-$HOME/.cache/heurimentor/components}

scripts/build-plugins.sh
mkdir -p "$components"
scripts/build-plugins.sh --list | while read -r _ module; do
  component=$components/$(basename "$module" .wasm).component.wasm
  if [ ! -e "$component" ] || [ "$module" -nt "$component" ] || [ "$hm" -nt "$component" ]; then
    "$hm" plugin build "$module" -o "$component"
  fi
done
