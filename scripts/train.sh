#!/usr/bin/env bash
# Trains MobileNetV2 on a folder of records:
#   scripts/train.sh data/tfrecord runs/mine [more flags of deeplab/train.py]
# 500 steps take about four minutes on two processor cores.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
use_environment
DATASET_DIR="${1:?usage: scripts/train.sh DATASET_DIR RUN_DIR [flags]}"
RUN="${2:?usage: scripts/train.sh DATASET_DIR RUN_DIR [flags]}"

python "$ROOT/deeplab/train.py" \
  --dataset_dir="$DATASET_DIR" \
  --train_logdir="$RUN/train" \
  --model_variant=mobilenet_v2 \
  --output_stride=16 \
  --train_crop_size=257,257 \
  --train_batch_size=4 \
  --training_number_of_steps=500 \
  --base_learning_rate=0.007 \
  "${@:3}"
