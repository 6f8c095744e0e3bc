#!/usr/bin/env bash
# COCO 2017 as TFRecords: splits train (118,287) and val (5000), 80 classes and background. Downloads 20 GB, needs 60 GB.
#
#   bash datasets/download_and_convert_coco.sh [FOLDER] [flags]
#
# FOLDER (default data/coco) gets raw/ and tfrecord/. A second run resumes where the first was stopped.
#   --archives=FOLDER     uses archives that you have already from this folder
#   --keep_archives       keeps the downloaded archives
# All other flags are those of `deeplab build-data coco`: --skip_empty, --crowd=class, --num_shards=64 ...
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
source "$ROOT/datasets/common.sh"
take_words data/coco "" "$@"
use_environment

download coco
build coco \
  --annotations="train:$RAW/annotations/instances_train2017.json,val:$RAW/annotations/instances_val2017.json" \
  --image_folder="train:$RAW/train2017,val:$RAW/val2017" \
  --num_shards=64 \
  --name=coco
