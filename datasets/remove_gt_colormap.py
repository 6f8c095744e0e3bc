r"""Turns palette PNGs into gray PNGs of the same indices.

    python datasets/remove_gt_colormap.py \
        --original_gt_folder=VOC2012/SegmentationClass --output_dir=VOC2012/SegmentationClassRaw

The record builders here read palette PNGs as they are; gray ones are for other programs that need them.
"""

import pathlib
import sys

# In place of this script's own folder, whose name would hide the library of the same name.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config import flags
from deeplab.config.conversion_config import RemoveColormapConfig
from deeplab.data.conversion.mask_tools import remove_colormap


def main(config: RemoveColormapConfig) -> None:
    """Converts the masks that the settings name."""
    remove_colormap(config)


if __name__ == "__main__":
    sys.exit(flags.run(main, [RemoveColormapConfig]))
