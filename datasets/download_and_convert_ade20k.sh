#!/usr/bin/env bash
# ADE20K scene parsing as TFRecords: splits train (20,210) and val (2000), 150 classes. Downloads 1 GB, needs 4 GB.
#
#   bash datasets/download_and_convert_ade20k.sh [FOLDER] [flags]
#
# FOLDER (default data/ade20k) gets raw/ and tfrecord/. A second run resumes where the first was stopped.
#   --archives=FOLDER     uses archives that you have already from this folder
#   --keep_archives       keeps the downloaded archives
# All other flags are those of `deeplab build-data ade20k`: --overwrite, --num_shards=8 ...
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
source "$ROOT/datasets/common.sh"
take_words data/ade20k "" "$@"
use_environment

download ade20k
ADE="$RAW/ADEChallengeData2016"
build ade20k \
  --train_image_folder="$ADE/images/training" \
  --train_image_label_folder="$ADE/annotations/training" \
  --val_image_folder="$ADE/images/validation" \
  --val_image_label_folder="$ADE/annotations/validation" \
  --name=ade20k
