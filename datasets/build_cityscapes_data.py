r"""Builds TFRecords from Cityscapes, laid out as its archives unpack.

    python datasets/build_cityscapes_data.py --cityscapes_root=cityscapes --output_dir=tfrecord

The root holds leftImg8bit/ and gtFine/ (with --annotations=gtCoarse: gtCoarse/). Masks of label ids are mapped to the
19 train ids on the way, so createTrainIdLabelImgs need not have run. Splits are train_fine and val_fine; --splits
gives trainval_fine, train_coarse or trainval_coarse. Beside the shards stands dataset.yml, which the other commands
read.
"""

import pathlib
import sys

# In place of this script's own folder, whose name would hide the library of the same name.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab import build_data

if __name__ == "__main__":
    sys.exit(build_data.main_of_format("cityscapes", __doc__))
