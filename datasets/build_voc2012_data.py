r"""Builds TFRecords from images, masks and lists of names, laid out as in PASCAL VOC.

    python datasets/build_voc2012_data.py \
        --image_folder=VOC2012/JPEGImages --semantic_segmentation_folder=VOC2012/SegmentationClass \
        --list_folder=VOC2012/ImageSets/Segmentation --image_format=jpg --output_dir=tfrecord

Every list NAME.txt gives a split NAME. Masks are palette PNG or gray; RGB masks need --palette. Beside the shards
stands dataset.yml, which the other commands read: classes, colors, images per split, pixels per class.
"""

import pathlib
import sys

# In place of this script's own folder, whose name would hide the library of the same name.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab import build_data

if __name__ == "__main__":
    sys.exit(build_data.main_of_format("voc", __doc__))
