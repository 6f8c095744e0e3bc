#!/usr/bin/env bash
# ISIC 2018 as TFRecords: photos of skin lesions with their outlines (task 1) or with five attributes (task 2).
# Needs 30 GB beside the archives.
#
#   bash datasets/download_and_convert_isic2018.sh [FOLDER] --archives=FOLDER_OF_ARCHIVES [flags]
#
# Get the archives from https://challenge2018.isic-archive.com/: ISIC2018_Task1-2_Training_Input.zip, and
# ISIC2018_Task1_Training_GroundTruth.zip or ISIC2018_Task2_Training_GroundTruth_v3.zip. With those of validation and
# test beside them, the splits are train (2594), val (100) and test (1000) as published; otherwise the training images
# are split by a seed. FOLDER (default data/isic2018) gets raw/ and tfrecord/. A second run resumes where the first was stopped.
#   --task=2              the attributes, in FOLDER/tfrecord_task2
# All other flags are those of `deeplab build-data binary`: --train_pct=0.9, --overwrite, --num_shards=8 ...
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
source "$ROOT/datasets/common.sh"
take_words data/isic2018 "--task=1 --task=2" "$@"
use_environment

if has --task=2; then
  NAME=isic2018_task2 KIND=attributes CLASSES=(pigment_network negative_network streaks milia_like_cyst globules)
  RECORDS="$FOLDER/tfrecord_task2"
else
  NAME=isic2018_task1 KIND=masks CLASSES=(lesion)
fi

download "$NAME"
if [ -d "$RAW/$KIND/val" ] || [ -d "$RAW/$KIND/test" ]; then
  INSIDE="" # images and masks lie in train/, val/ and test/, which are the splits
else
  INSIDE=/train
fi
MASKS=""
for CLASS in "${CLASSES[@]}"; do
  ENDING="$([ "$KIND" = masks ] && echo segmentation || echo "attribute_$CLASS")"
  MASKS+="${MASKS:+,}$CLASS=$RAW/$KIND$INSIDE/{name}_$ENDING.png"
done
build binary --image_folder="$RAW/images$INSIDE" --class_masks="$MASKS" --dataset="$NAME" --name="$NAME"
