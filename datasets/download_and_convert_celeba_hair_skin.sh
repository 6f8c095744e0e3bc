#!/usr/bin/env bash
# 3556 faces of CelebA with masks of hair and skin (Borza, Ileni, Darabant, 2018) as TFRecords: splits train and val.
# Needs 2 GB.
#
#   bash datasets/download_and_convert_celeba_hair_skin.sh [FOLDER] --archives=FOLDER_OF_ARCHIVES [flags]
#
# Get the archives from their owners: the masks from http://www.cs.ubbcluj.ro/~dadi/face-hair-segm-database.html
# (name the archive celeba_hair_masks.zip), the images, img_align_celeba.zip, from
# http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.
# FOLDER (default data/celeba_hair_skin) gets raw/ and tfrecord/. A second run resumes where the first was stopped.
# All other flags are those of `deeplab build-data folder`: --train_pct=0.9, --overwrite, --num_shards=8 ...
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
source "$ROOT/datasets/common.sh"
take_words data/celeba_hair_skin "" "$@"
use_environment

download celeba_hair_skin
# Some masks hold pixels of other grays than 0, 128 and 255: each gets the nearest class.
build folder \
  --image_folder="$RAW/images" \
  --mask_folder="$RAW/masks" \
  --dataset=celeba_hair_skin \
  --palette="$ROOT/datasets/celeba_hair_skin.palette" \
  --color_tolerance=60 \
  --name=celeba_hair_skin
