"""Color masks to masks of class indices; see `deeplab/convert_masks.py`."""

import pathlib
import sys

# In place of this script's own folder, whose name would hide the library of the same name.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.convert_masks import CONVERT_COLORS

if __name__ == "__main__":
    sys.exit(CONVERT_COLORS.main())
