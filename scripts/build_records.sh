#!/usr/bin/env bash
# Builds TFRecords from a folder of images and a folder of masks with the same names:
#   scripts/build_records.sh images masks data/tfrecord [more flags of datasets/build_folder_data.py]
# e.g. --train_pct=0.8 --seed=0, --list_files=train.txt,val.txt, --label_map=255:1, --class_names=background,lesion
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
use_environment
IMAGES="${1:?usage: scripts/build_records.sh IMAGES MASKS DATASET_DIR [flags]}"
MASKS="${2:?usage: scripts/build_records.sh IMAGES MASKS DATASET_DIR [flags]}"
DATASET_DIR="${3:?usage: scripts/build_records.sh IMAGES MASKS DATASET_DIR [flags]}"

python "$ROOT/datasets/build_folder_data.py" \
  --image_folder="$IMAGES" \
  --mask_folder="$MASKS" \
  --output_dir="$DATASET_DIR" \
  "${@:4}"
