#!/usr/bin/env bash
# PASCAL VOC 2012 as TFRecords: splits train (1464), val (1449), trainval (2913). Downloads 2 GB, needs 5 GB.
#
#   bash datasets/download_and_convert_voc2012.sh [FOLDER] [flags]
#
# FOLDER (default data/voc2012) gets raw/ and tfrecord/. A second run resumes where the first was stopped.
#   --sbd                 also downloads SBD (1.4 GB), whose masks make the split train_aug (10,582)
#   --archives=FOLDER     uses archives that you have already from this folder
#   --keep_archives       keeps the downloaded archives
# All other flags are those of `deeplab build-data voc`: --overwrite, --num_shards=8 ...
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
source "$ROOT/datasets/common.sh"
take_words data/voc2012 "--sbd" "$@"
use_environment

download voc2012
VOC="$RAW/VOCdevkit/VOC2012"
SBD=()
if has --sbd; then
  download sbd
  SBD=(--sbd_root="$RAW/benchmark_RELEASE")
fi
build voc \
  --image_folder="$VOC/JPEGImages" \
  --semantic_segmentation_folder="$VOC/SegmentationClass" \
  --list_folder="$VOC/ImageSets/Segmentation" \
  --dataset=pascal_voc_seg \
  --name=pascal_voc_seg \
  ${SBD[@]+"${SBD[@]}"}
