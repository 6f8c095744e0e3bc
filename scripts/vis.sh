#!/usr/bin/env bash
# Draws the predictions of a trained model: color masks, overlays, an image grid.
#   scripts/vis.sh data/tfrecord runs/mine [more flags of deeplab/vis.py]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
use_environment
DATASET_DIR="${1:?usage: scripts/vis.sh DATASET_DIR RUN_DIR [flags]}"
RUN="${2:?usage: scripts/vis.sh DATASET_DIR RUN_DIR [flags]}"

python "$ROOT/deeplab/vis.py" \
  --dataset_dir="$DATASET_DIR" \
  --checkpoint_dir="$RUN/train" \
  --vis_logdir="$RUN/vis" \
  --also_save_raw_predictions \
  "${@:3}"
