#!/usr/bin/env bash
# Evaluates a trained model: IoU per class, confusion matrix, plots.
#   scripts/eval.sh data/tfrecord runs/mine [more flags of deeplab/eval.py]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
use_environment
DATASET_DIR="${1:?usage: scripts/eval.sh DATASET_DIR RUN_DIR [flags]}"
RUN="${2:?usage: scripts/eval.sh DATASET_DIR RUN_DIR [flags]}"

python "$ROOT/deeplab/eval.py" \
  --dataset_dir="$DATASET_DIR" \
  --checkpoint_dir="$RUN/train" \
  --eval_logdir="$RUN/eval" \
  "${@:3}"
