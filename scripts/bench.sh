#!/usr/bin/env bash
# The numbers of `make bench`. Only a quiet machine gives figures worth quoting.
#
#   scripts/bench.sh [ARM...]    append, and the arms of benches/main.rs; without a name all of them
set -euo pipefail
cd "$(dirname "$0")/.."

# Whether one of these arms was asked for.
wanted() {
  [ ${#arms[@]} = 0 ] && return
  local arm name
  for arm in "${arms[@]}"; do for name in "$@"; do [ "$arm" = "$name" ] && return; done; done
  return 1
}
# Names in a variable the Python that a script makes, if it can.
name_python() {
  local path
  if path=$("scripts/$2"); then
    export "$1=$path"
  else
    echo "bench: scripts/$2 made no Python, so nothing is compared with it" >&2
  fi
}

arms=("$@")
product=()
for arm in "${arms[@]}"; do [ "$arm" = append ] || product+=("$arm"); done
scripts/build-web.sh
unset HM_PYTORCH_PYTHON HM_TRANSFORMERS_PYTHON
if wanted peak train profile sequence; then name_python HM_PYTORCH_PYTHON pytorch.sh; fi
if wanted generate; then name_python HM_TRANSFORMERS_PYTHON transformers.sh; fi
# The whole workspace is built, as for `make test`, so that nothing is built twice.
cargo bench -q --workspace --bench product --bench append --no-run
# Names first: one that is not known ends the program before anything is measured.
if [ ${#arms[@]} = 0 ] || [ ${#product[@]} -gt 0 ]; then
  cargo bench -q --workspace --bench product -- "${product[@]}"
fi
if wanted append; then cargo bench -q --workspace --bench append; fi
