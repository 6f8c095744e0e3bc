#!/usr/bin/env bash
# Makes an environment with PyTorch for benchmarks/train_step.py --pytorch=FOLDER/bin/python. Nothing else needs PyTorch.
#   scripts/make_pytorch_env.sh FOLDER
set -euo pipefail
folder=${1:?"usage: scripts/make_pytorch_env.sh FOLDER"}
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet torch numpy --extra-index-url https://download.pytorch.org/whl/cpu
"$folder/bin/python" -c 'import torch; print("PyTorch", torch.__version__, "is in", __import__("sys").prefix)'
