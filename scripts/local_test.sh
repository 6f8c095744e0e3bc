#!/usr/bin/env bash
# A quick test: every command once on twelve generated portraits, in about two minutes. It shows that an
# installation works, not that anything is learned.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
use_environment
cd "$ROOT"
WORK="$(mktemp -d)"
trap 'rm -rf "$WORK"' EXIT

say "data"
python -m deeplab.data.sample_dataset --output_dir="$WORK" --count=12
python datasets/convert_color_masks.py --mask_folder="$WORK/color_masks" --palette=datasets/lfw_parts.palette \
  --output_dir="$WORK/masks"
bash scripts/build_records.sh "$WORK/images" "$WORK/masks" "$WORK/tfrecord"

say "train, twice: the second run resumes where the first ended"
for STEPS in 4 6; do
  python deeplab/train.py --dataset_dir="$WORK/tfrecord" --train_logdir="$WORK/run/train" --depth_multiplier=0.25 \
    --train_crop_size=65,65 --train_batch_size=2 --training_number_of_steps="$STEPS" --batch_norm_calibration_batches=2
done

say "evaluate, draw, export, predict"
bash scripts/eval.sh "$WORK/tfrecord" "$WORK/run"
bash scripts/vis.sh "$WORK/tfrecord" "$WORK/run"
bash scripts/export.sh "$WORK/run" --crop_size=257,257
python deeplab/predict.py --model="$WORK/run/export/frozen_inference_graph.pb" --input="$WORK/images/portrait_0000.jpg" \
  --output_dir="$WORK/predicted"
say "all commands work"
