#!/usr/bin/env bash
# Cityscapes as TFRecords: splits train_fine (2975) and val_fine (500), 19 classes. Needs 25 GB beside
# the archives.
#
#   bash datasets/download_and_convert_cityscapes.sh [FOLDER] --archives=FOLDER_OF_ARCHIVES [flags]
#
# Get the archives gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip from
# https://www.cityscapes-dataset.com/downloads/ (account required).
# FOLDER (default data/cityscapes) gets raw/ and tfrecord/. A second run resumes where the first was stopped.
#   --coarse              also makes split train_coarse (22,973) from gtCoarse.zip and leftImg8bit_trainextra.zip
# All other flags are those of `deeplab build-data cityscapes`: --overwrite, --num_shards=8 ...
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
source "$ROOT/datasets/common.sh"
take_words data/cityscapes "--coarse" "$@"
use_environment

download cityscapes
if has --coarse; then
  download cityscapes_coarse
fi
build cityscapes --cityscapes_root="$RAW" --name=cityscapes
if has --coarse; then
  build cityscapes --cityscapes_root="$RAW" --annotations=gtCoarse --name=cityscapes
fi
