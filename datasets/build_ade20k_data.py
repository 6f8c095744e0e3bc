r"""Builds TFRecords from ADE20K's scene parsing benchmark (ADEChallengeData2016).

    python datasets/build_ade20k_data.py \
        --train_image_folder=ADEChallengeData2016/images/training \
        --train_image_label_folder=ADEChallengeData2016/annotations/training \
        --val_image_folder=ADEChallengeData2016/images/validation \
        --val_image_label_folder=ADEChallengeData2016/annotations/validation --output_dir=tfrecord

Splits are train, in an order drawn by --shuffle_seed, and val. Label 0 (other) is ignored, 1 to 150 are the classes.
Beside the shards stands dataset.yml, which the other commands read.
"""

import pathlib
import sys

# In place of this script's own folder, whose name would hide the library of the same name.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab import build_data

if __name__ == "__main__":
    sys.exit(build_data.main_of_format("ade20k", __doc__))
