#!/usr/bin/env bash
# Every number of `make bench`. Only a quiet machine gives figures worth quoting.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/build-web.sh
if ! HM_PYTORCH_PYTHON=$(scripts/pytorch.sh); then
  echo "bench: no PyTorch here, so nothing is compared with it" >&2
  unset HM_PYTORCH_PYTHON
else
  export HM_PYTORCH_PYTHON
fi
cargo bench -q -p hm-store --bench append
cargo bench -q -p hm --bench product
