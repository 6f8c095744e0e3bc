r"""Builds TFRecords from two parallel folders: an image and its mask have the same name.

    python datasets/build_folder_data.py \
        --image_folder=photos --mask_folder=masks --output_dir=tfrecord --train_pct=0.8 --seed=0 --num_shards=4

The pairs are divided into splits train and val, or by lists of your own (--list_files=train.txt,val.txt). Masks are
palette PNG or gray; RGB masks need --palette. Beside the shards stands dataset.yml, which the other commands read.
"""

import pathlib
import sys

# In place of this script's own folder, whose name would hide the library of the same name.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab import build_data

if __name__ == "__main__":
    sys.exit(build_data.main_of_format("folder", __doc__))
