r"""Converts masks: colors to class indices, or palette PNGs to gray ones.

Called by datasets/convert_color_masks.py and datasets/remove_gt_colormap.py, and as `deeplab convert_color_masks`.
"""

from __future__ import annotations

from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.conversion_config import ColorMaskConfig, RemoveColormapConfig

_COLORS_PURPOSE = r"""Converts color masks to masks of class indices, exactly.

Example:

    python datasets/convert_color_masks.py \
        --mask_folder=parts_lfw_funneled_gt_images --palette=datasets/lfw_parts.palette --output_dir=masks

The palette file has a line `R G B name` for each class, in the order of the classes. Text after `#` is a comment; lines
with the same name are one class with several colors; colors called `ignore` become the ignore label. A dataset.yml with
colors works as well. The new masks are palette PNGs: the pixels are indices, and viewers show the colors.
"""
_GRAY_PURPOSE = r"""Converts palette PNGs to gray PNGs of the same indices.

Example:

    python datasets/remove_gt_colormap.py \
        --original_gt_folder=VOC2012/SegmentationClass --output_dir=VOC2012/SegmentationClassRaw

The record builders read palette PNGs as they are; other programs may need gray ones.
"""


def convert_colors(given: Given) -> None:
    """Runs the command that converts color masks."""
    (config,) = configs_from(given, [ColorMaskConfig])
    from deeplab.data.conversion.mask_tools import convert_color_masks

    convert_color_masks(config)


def remove_palettes(given: Given) -> None:
    """Runs the command that converts palette PNGs."""
    (config,) = configs_from(given, [RemoveColormapConfig])
    from deeplab.data.conversion.mask_tools import remove_colormap

    remove_colormap(config)


CONVERT_COLORS = Command("convert_color_masks", convert_colors, (ColorMaskConfig,), _COLORS_PURPOSE)
REMOVE_PALETTES = Command("remove_gt_colormap", remove_palettes, (RemoveColormapConfig,), _GRAY_PURPOSE)
