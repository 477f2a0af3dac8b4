#!/usr/bin/env bash
# Repeats the agreement with Hugging Face transformers live: the fixtures are made anew and compared, our
# tests run against the new ones, and a trained and exported model is loaded in transformers.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(scripts/transformers.sh)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1
fixtures=core/train/fixtures
echo "verify-hf: what transformers finds, anew"
"$python" -W ignore $fixtures/transformers_family.py "$folder/family.json"
"$python" $fixtures/same_findings.py $fixtures/transformers_family.json "$folder/family.json"
scripts/build-web.sh
export HM_TRANSFORMERS_FAMILY=$folder/family.json HM_TRANSFORMERS_PYTHON=$python
# The whole workspace is built, as for `make test`, so that nothing is built twice.
cargo test -q --release --workspace --lib -- --nocapture family_test
cargo test -q --release --workspace --test product -- --nocapture hugging_face
