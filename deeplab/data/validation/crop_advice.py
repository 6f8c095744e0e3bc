"""Crop sizes: which ones suit the images, and how well a given one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deeplab.data.validation.check_report import CropAdvice
from deeplab.model.resize import fitting_length, fitting_size

Sizes = Mapping[tuple[int, int], int]  # number of images of each (height, width)

USUAL_SIDE = 513  # the training crop of the research DeepLab on PASCAL VOC
_SCALES = 31  # augmentation scales over which coverage is averaged


def advise(train: Sizes, other: Sizes, output_stride: int) -> CropAdvice | None:
    """Crop sizes that suit the images; None where there are none.

    The training crop holds the median image, so that at scale 1 most of a picture is seen and little is padding, but
    is nowhere longer than the usual 513 pixels: memory grows with its area.

    Args:
      train: sizes of the training split.
      other: sizes of the splits that are evaluated; where there are none, those of the training split count.
      output_stride: sides are multiples of it, plus 1.
    """
    if not train and not other:
        return None
    median = median_size(train or other)
    crop = fitting_size(median, output_stride)
    longest = fitting_length(USUAL_SIDE, output_stride)
    bounded = (min(crop[0], longest), min(crop[1], longest))
    largest = largest_size(other or train)
    return CropAdvice(bounded, fitting_size(largest, output_stride), _why(median, bounded, largest, output_stride))


def _why(median: tuple[int, int], crop: tuple[int, int], largest: tuple[int, int], output_stride: int) -> str:
    area = crop[0] * crop[1] / USUAL_SIDE**2
    memory = f"it takes {area:.2f} times the memory of {USUAL_SIDE},{USUAL_SIDE}"
    whole = crop[0] >= median[0] and crop[1] >= median[1]
    seen = "a crop of this size holds it whole" if whole else f"sides beyond {USUAL_SIDE} would cost too much memory"
    return (
        f"The median training image is {size_text(median)}: {seen} ({memory}). The evaluation crop holds the largest "
        f"of the other images, {size_text(largest)}. Sides are multiples of the output stride {output_stride}, plus 1."
    )


def median_size(sizes: Sizes) -> tuple[int, int]:
    """Median height and median width over all images."""
    numbers = np.fromiter(sizes.values(), np.int64)
    heights, widths = np.array(list(sizes)).T
    return _median(heights, numbers), _median(widths, numbers)


def _median(lengths: np.ndarray, numbers: np.ndarray) -> int:
    order = np.argsort(lengths)
    place = np.searchsorted(np.cumsum(numbers[order]), numbers.sum() / 2)
    return int(lengths[order][place])


def largest_size(sizes: Sizes) -> tuple[int, int]:
    """The largest height and the largest width, perhaps of two different images."""
    heights, widths = zip(*sizes, strict=True)
    return max(heights), max(widths)


def coverage(sizes: Sizes, crop: Sequence[int], min_scale: float, max_scale: float) -> float:
    """Mean share of a training crop that shows picture and not padding, 0 to 1.

    Every image counts at scales spread evenly from `min_scale` to `max_scale`.
    """
    scales = np.linspace(min_scale, max_scale, _SCALES)
    heights, widths = np.array(list(sizes), np.float64).T
    numbers = np.fromiter(sizes.values(), np.float64)
    rows = np.minimum(heights[:, None] * scales, crop[0]) / crop[0]
    columns = np.minimum(widths[:, None] * scales, crop[1]) / crop[1]
    return float(((rows * columns).mean(1) * numbers).sum() / numbers.sum())


def size_text(size: Sequence[int]) -> str:
    """`375x500` for a height of 375 and a width of 500, as crop flags have it."""
    return f"{size[0]}x{size[1]}"
