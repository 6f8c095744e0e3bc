"""Palette PNGs to gray PNGs; see `deeplab/convert_masks.py`."""

import pathlib
import sys

# In place of this script's own folder, whose name would hide the library of the same name.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.convert_masks import REMOVE_PALETTES

if __name__ == "__main__":
    sys.exit(REMOVE_PALETTES.main())
