#!/usr/bin/env bash
# scripts/test.sh runs every part whatever fails before it, and names all that failed.
set -euo pipefail
script=$(cd "$(dirname "$0")/.." && pwd)/test.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/bin" "$folder/scripts/tests" "$folder/plugins"
cp "$script" "$folder/scripts/"

# Every stand-in fails if its name and arguments are among the faults.
stand_in='#!/bin/bash
line="$(basename "$PWD")/$(basename "$0") $*"
echo "$line" >>"$PLACE/log"
while read -r fault; do [[ -z $fault || $line != *"$fault"* ]] || exit 1; done <<<"$FAULTS"'
for name in bin/cargo scripts/build-web.sh scripts/build-plugins.sh scripts/tests/one.sh; do
  echo "$stand_in" >"$folder/$name"
  chmod +x "$folder/$name"
done
run() {
  : >"$folder/log"
  code=0
  said=$(FAULTS=$1 PLACE=$folder PATH=$folder/bin:$PATH "$folder/scripts/test.sh" 2>&1) || code=$?
}
fail() { printf 'test of test.sh: %s; it ended with %s and said:\n%s\n' "$1" "$code" "$said" >&2; exit 1; }

run ""
[ $code = 0 ] && [[ $said == *"all parts passed"* ]] || fail "a sound tree does not pass"
parts=$(wc -l <"$folder/log")
[ "$parts" = 7 ] || fail "not seven parts"
grep -q 'cargo test --release --workspace --no-fail-fast' "$folder/log" || fail "the first failing test hides others"

for fault in build-web "cargo fmt" one.sh build-plugins "plugins/cargo test" "--workspace"; do
  run "$fault"
  [ $code = 1 ] && [[ $said == *"FAILED: "* ]] || fail "a fault of $fault passes"
  [ "$(wc -l <"$folder/log")" = "$parts" ] || fail "a fault of $fault hides other parts"
done
run $'plugins/cargo fmt\none.sh'
[[ $said == *"FAILED: format of the plugins"*"FAILED: scripts/tests/one.sh"* ]] || fail "not every fault is named"
