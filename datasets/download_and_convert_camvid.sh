#!/usr/bin/env bash
# CamVid as TFRecords: splits train (367), val (101) and test (233), 11 classes. Downloads 0.6 GB, needs 2 GB.
#
#   bash datasets/download_and_convert_camvid.sh [FOLDER] [flags]
#
# FOLDER (default data/camvid) gets raw/ and tfrecord/. A second run resumes where the first was stopped.
#   --archives=FOLDER     uses archives that you have already from this folder
#   --keep_archives       keeps the downloaded archives
# All other flags are those of `deeplab build-data camvid`: --overwrite, --num_shards=8 ...
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
source "$ROOT/datasets/common.sh"
take_words data/camvid "" "$@"
use_environment

download camvid
build camvid --camvid_root="$RAW" --layout=original --name=camvid
