#!/usr/bin/env bash
# Checks what only a machine with an NVIDIA GPU can show: agreement with the CPU in f32, bf16 and f16,
# several devices in a step, a full memory, and speed beside PyTorch. Builds hm's checks with CUDA, or
# runs those that HM_GPU_CHECK names, built elsewhere. With --bundle FOLDER it only builds them and puts
# all that a machine without this repository needs there: copy it and run its gpu-check.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'gpu-check: %s\n' "$*"; }
target="${HM_CUDA_TARGET:-$HOME/.cache/heurimentor/cuda-target}"

built() {
  scripts/build-cuda.sh >&2
  find "$target/release/deps" -name 'gpu-*' -type f -executable -newer Cargo.toml -printf '%T@ %p\n' |
    sort -n | tail -n 1 | cut -d ' ' -f 2-
}

if [ "${1:-}" = --bundle ]; then
  folder=${2:?the folder to put it in}
  mkdir -p "$folder/scripts" "$folder/benches"
  cp "$(built)" "$folder/gpu-check"
  strip "$folder/gpu-check"
  cp scripts/gpu-check.sh "$folder/scripts/"
  cp benches/pytorch_step.py "$folder/benches/"
  say "copy $folder and run: HM_GPU_CHECK=./gpu-check scripts/gpu-check.sh"
  exit 0
fi

command -v nvidia-smi >/dev/null || {
  say "there is no nvidia-smi here, so no NVIDIA GPU; run this where there is one"
  exit 1
}
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
check=${HM_GPU_CHECK:-$(built)}
# PyTorch with CUDA is the reader's own: what is installed here, if any.
python=${HM_PYTORCH_PYTHON:-python3}
if "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
  export HM_PYTORCH_PYTHON=$python HM_PYTORCH_STEP=$PWD/benches/pytorch_step.py
else
  say "$python has no PyTorch with CUDA: speed is told without it (HM_PYTORCH_PYTHON names another)"
fi
"$check"
