#!/usr/bin/env bash
# Makes a private Python environment with PyTorch for the CPU, once, and prints its interpreter. The
# benches measure against it; nothing else needs it.
#
#   HM_PYTORCH  the environment's folder
#
# PyPI's Linux wheel is built for CUDA and links to its libraries even where only the CPU is used.
# They are gigabytes that a machine without a GPU cannot use, so each gets an empty stand-in.
set -euo pipefail
cd "$(dirname "$0")"
home=${HM_PYTORCH:-$HOME/.cache/heurimentor/pytorch}
torch=2.15.0
stop() { echo "pytorch: $*" >&2; exit 1; }

if [ ! -f "$home/ok-$torch" ]; then
  command -v python3 >/dev/null || stop "no python3"
  command -v readelf >/dev/null || stop "no readelf: install binutils"
  echo "pytorch: installing torch $torch into $home, once (540 MB)" >&2
  rm -rf "$home"
  python3 -m venv "$home" || stop "python3 cannot make an environment: install python3-venv"
  "$home/bin/pip" install -q --no-deps "torch==$torch" >&2
  # What torch needs to be imported, without the CUDA packages that it also asks for.
  "$home/bin/pip" install -q numpy filelock typing-extensions sympy networkx jinja2 fsspec >&2
  "$home/bin/python" cuda_stand_ins.py "$home"
  "$home/bin/python" -c 'import torch; assert torch.ones(2).sum() == 2' ||
    stop "torch is installed but cannot be imported"
  touch "$home/ok-$torch"
fi
echo "$home/bin/python"
