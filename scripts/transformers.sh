#!/usr/bin/env bash
# Makes a private Python environment with Hugging Face transformers, once, and prints its interpreter.
# Only fixtures and `make verify-hf` need it. PyTorch is borrowed from the environment of pytorch.sh,
# in which nothing is changed.
#
#   HM_TRANSFORMERS  the environment's folder
set -euo pipefail
cd "$(dirname "$0")"
home=${HM_TRANSFORMERS:-$HOME/.cache/heurimentor/transformers}
transformers=5.24.0
stop() { echo "transformers: $*" >&2; exit 1; }

pytorch=$(./pytorch.sh)
if [ ! -f "$home/ok-$transformers" ]; then
  echo "transformers: installing transformers $transformers into $home, once (60 MB)" >&2
  rm -rf "$home"
  "$pytorch" -m venv "$home" || stop "python3 cannot make an environment: install python3-venv"
  # The packages of the other environment are seen, after this one's own.
  packages() { "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
  packages "$pytorch" >"$(packages "$home/bin/python")/pytorch.pth"
  "$home/bin/pip" install -q "transformers==$transformers" safetensors >&2
  "$home/bin/python" -c 'from transformers import LlamaForCausalLM' ||
    stop "transformers is installed but cannot be imported"
  touch "$home/ok-$transformers"
fi
echo "$home/bin/python"
