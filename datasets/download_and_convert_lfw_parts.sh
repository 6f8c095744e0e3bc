#!/usr/bin/env bash
# LFW part labels as TFRecords: background, hair, skin; splits train (1500), val (500) and test (927) as published.
# Downloads 0.3 GB, needs 2 GB.
#
#   bash datasets/download_and_convert_lfw_parts.sh [FOLDER] [flags]
#
# FOLDER (default data/lfw_parts) gets raw/ and tfrecord/. A second run resumes where the first was stopped.
#   --by_person           splits by a seed instead, so that no person is in two splits (--train_pct, --seed)
#   --archives=FOLDER     uses archives that you have already from this folder
#   --keep_archives       keeps the downloaded archives
# All other flags are those of `deeplab build-data folder`: --overwrite, --num_shards=8 ...
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
source "$ROOT/datasets/common.sh"
take_words data/lfw_parts "--by_person" "$@"
use_environment

# published_list FROM TO: the lists name a person and a number, `Ann_Lee 2`, where the files are called Ann_Lee_0002.
published_list() {
  awk 'NF == 2 { printf "%s_%04d\n", $1, $2 }' "$RAW/lists/parts_$1.txt" >"$RAW/lists/$2.txt"
}

download lfw_parts
if has --by_person; then
  DIVISION=(--group_by='^(.+)_[0-9]+$')
else
  published_list train train
  published_list validation val
  published_list test test
  DIVISION=(--list_files="$RAW/lists/train.txt,$RAW/lists/val.txt,$RAW/lists/test.txt")
fi
build folder \
  --image_folder="$RAW/images" \
  --mask_folder="$RAW/masks" \
  --dataset=lfw_parts \
  --name=lfw_parts \
  "${DIVISION[@]}"
