r"""Turns masks in colors into masks of class indices, exactly.

    python datasets/convert_color_masks.py \
        --mask_folder=parts_lfw_funneled_gt_images --palette=datasets/lfw_parts.palette --output_dir=masks

The palette file has a line `R G B name` for each class, in the order of the classes; `#` begins a remark, lines of the
same name are one class of several colors, and colors called `ignore` become the ignore label. A dataset.yml with
colors does as well. The masks written are palette PNGs: the pixels are indices, and viewers show the colors.
"""

import pathlib
import sys

# In place of this script's own folder, whose name would hide the library of the same name.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config import flags
from deeplab.config.conversion_config import ColorMaskConfig
from deeplab.data.conversion.mask_tools import convert_color_masks


def main(config: ColorMaskConfig) -> None:
    """Converts the masks that the settings name."""
    convert_color_masks(config)


if __name__ == "__main__":
    sys.exit(flags.run(main, [ColorMaskConfig]))
