#!/usr/bin/env bash
# Every test of the workspace in one optimised build: rules, real Postgres, real components, a real
# browser. Every part runs, whatever became of those before, and what failed is named at the end.
set -uo pipefail
cd "$(dirname "$0")/.."

failed=()
part() {
  local name=$1
  shift
  echo "test: $name"
  "$@" || failed+=("$name")
}
in_plugins() { (cd plugins && "$@"); }

part "the page" scripts/build-web.sh
part "format" cargo fmt --check
part "format of the plugins" in_plugins cargo fmt --check
for script in scripts/tests/*.sh; do
  part "$script" "$script"
done
part "building the plugins" scripts/build-plugins.sh
part "tests of the plugins" in_plugins cargo test -q --no-fail-fast \
  --target-dir "${HM_WASM_TARGET:-$HOME/.cache/heurimentor/plugins}/native"
# The browser is there by now; a test that finds none fails instead of passing by.
export HM_REQUIRE_BROWSER=1
part "tests of the workspace" cargo test --release --workspace --no-fail-fast

if [ ${#failed[@]} -gt 0 ]; then
  printf 'test: FAILED: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "test: all parts passed"
