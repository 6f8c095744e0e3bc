#!/usr/bin/env bash
# DeepFashion2 as TFRecords: splits train (191,961) and val (32,153), 13 kinds of clothes and background.
# Needs 25 GB beside the archives.
#
#   bash datasets/download_and_convert_deepfashion2.sh [FOLDER] [flags]
#
# https://github.com/switchablenorms/DeepFashion2 links to the archives train.zip and validation.zip, and to the form
# that the owners answer with their password. Unpack both into FOLDER/raw first:
#   7z x -pPASSWORD -oFOLDER/raw/train train.zip; 7z x -pPASSWORD -oFOLDER/raw/validation validation.zip
# FOLDER (default data/deepfashion2) gets raw/ and tfrecord/. A second run resumes where the first was stopped.
# All other flags are those of `deeplab build-data deepfashion2`: --overwrite, --num_shards=8 ...
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
source "$ROOT/datasets/common.sh"
take_words data/deepfashion2 "" "$@"
use_environment

download deepfashion2
build deepfashion2 --deepfashion2_root="$RAW" --dataset=deepfashion2 --num_shards=64 --name=deepfashion2
