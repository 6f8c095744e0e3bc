"""How many bits a label has: 8, or 16 beyond 256 classes.

Owns these limits, the usual ignore labels, and the one conversion of predicted classes to labels (`as_label`), which
never lets a class wrap around to another one. Descriptors, label specs and everything that writes predictions ask it.
It reads no files, and judges no values of masks: `labels.LabelSpec` does.
"""

from __future__ import annotations

import numpy as np

from deeplab.utils.errors import UserError

MAX_CLASSES = 65535  # values 0..65534 of 16 bits; 65535 marks ignored pixels
MAX_CLASSES_8_BIT = 256  # more classes make labels of 16 bits
IGNORE_8_BIT, IGNORE_16_BIT = 255, 65535  # the usual ignore labels: the highest values


def usual_ignore_label(num_classes: int | None) -> int:
    """The default ignore label: 255, or 65535 beyond 256 classes, where 255 is a class."""
    return IGNORE_16_BIT if bits_of(num_classes) == 16 else IGNORE_8_BIT


def bits_of(num_classes: int | None, ignore_label: int = 0) -> int:
    """Bits per pixel of labels: 8, or 16 where there are more than 256 classes or a higher ignore label than 255."""
    return 16 if (num_classes or 0) > MAX_CLASSES_8_BIT or ignore_label > IGNORE_8_BIT else 8


def as_label(values: np.ndarray, num_classes: int | None = None) -> np.ndarray:
    """Class indices of any integer type as label: uint8 [...], or uint16 beyond 256 classes.

    Args:
      values: integers from 0, below `num_classes`, or the highest value of the type as ignore label.
      num_classes: None = the values themselves show whether 8 bits are enough.

    Raises:
      UserError: values that the type does not hold (`label-out-of-range`): they would become other classes.
    """
    values = np.asarray(values)
    if values.dtype == np.uint8 and bits_of(num_classes) == 8:
        return values
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    dtype = np.uint16 if bits_of(num_classes) == 16 or (num_classes is None and high > 255) else np.uint8
    if low < 0 or high > np.iinfo(dtype).max:
        rule = f"holds values {low} to {high}, which labels of type {np.dtype(dtype)} cannot hold"
        hint = "check the number of classes"
        raise UserError("label-out-of-range", rule, hint, where="label", value=high if low >= 0 else low)
    return values.astype(dtype, copy=False)
