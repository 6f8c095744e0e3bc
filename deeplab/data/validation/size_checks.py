"""Crop and batch sizes: which ones suit the images, and what is wrong with those that are planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from deeplab.config.validation_config import CheckConfig
from deeplab.data.dataset import Dataset
from deeplab.data.split_names import is_training, training_split
from deeplab.data.validation.check_report import CropAdvice, Finding, size_text
from deeplab.data.validation.label_statistics import absent_classes
from deeplab.data.validation.rules import DATASET_CHECKS, finding
from deeplab.data.validation.statistics import SplitTotals, Summary
from deeplab.model.resize import fitting_length, fitting_size
from deeplab.utils.text import counted

Sizes = Mapping[tuple[int, int], int]  # number of images of each (height, width)

USUAL_SIDE = 513  # the training crop of the research DeepLab on PASCAL VOC
_SCALES = 31  # augmentation scales over which coverage is averaged
_MIN_COVERAGE = 0.4  # of a training crop that must show image, on average


# --- Advice -------------------------------------------------------------------------------------------------


def advise(totals: Mapping[str, SplitTotals], output_stride: int) -> CropAdvice | None:
    """Crop sizes that suit the images of all splits; None where none could be read."""
    training = training_split(list(totals))
    others: dict[tuple[int, int], int] = {}
    for split, of_split in totals.items():
        if split != training and not is_training(split):
            others |= of_split.sizes
    return crops_for(totals[training].sizes if training in totals else {}, others, output_stride)


def crops_for(train: Sizes, other: Sizes, output_stride: int) -> CropAdvice | None:
    """Crop sizes that suit the images; None where there are none.

    The training crop holds the median image, so that at scale 1 most of an image is seen and little is padding, but
    no side is longer than the usual 513 pixels: memory grows with the area.

    Args:
      train: sizes of the training split.
      other: sizes of the splits that are evaluated; without any, those of the training split count.
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
    """Mean fraction of a training crop that shows image and not padding, 0 to 1.

    Every image counts at scales spread evenly from `min_scale` to `max_scale`.
    """
    scales = np.linspace(min_scale, max_scale, _SCALES)
    heights, widths = np.array(list(sizes), np.float64).T
    numbers = np.fromiter(sizes.values(), np.float64)
    rows = np.minimum(heights[:, None] * scales, crop[0]) / crop[0]
    columns = np.minimum(widths[:, None] * scales, crop[1]) / crop[1]
    return float(((rows * columns).mean(1) * numbers).sum() / numbers.sum())


# --- Before a training --------------------------------------------------------------------------------------


def training_findings(
    dataset: Dataset, split: str, crop: tuple[int, int], batch_size: int, scales: tuple[float, float], stride: int
) -> Iterator[Finding]:
    """What a training will meet, from dataset.yml alone: absent classes, a batch or a crop that is too large.

    `train` prints these at its start; `check-data` finds the same by the same functions.

    Args:
      dataset: as described; what it does not state is not judged.
      split: the split that is trained.
      crop: height and width of the training crop.
      batch_size: images per step.
      scales: the smallest and the largest augmentation scale.
      stride: the output stride.
    """
    yield from (item for item in absent_classes(dataset, split) if item.severity != "note")
    if dataset.splits.get(split):
        yield from batch_findings(split, dataset.splits[split], batch_size)
    sizes = dataset.size_range.get(split)
    if sizes:
        yield from crop_findings(split, {(sizes.max_height, sizes.max_width): 1}, crop, scales, stride)


def batch_findings(split: str, images: int, batch_size: int) -> Iterator[Finding]:
    """A batch that is larger than the split."""
    if 0 < images < batch_size:
        text = f"a batch of {batch_size} is larger than split {split}, which has {counted(images, 'image')}"
        hint = f"use `train_batch_size={images}` or less, or add images"
        yield finding("batch-larger-than-split", split, text, split=split, hint=hint)


def crop_findings(
    split: str, sizes: Sizes, crop: tuple[int, int], scales: tuple[float, float], stride: int
) -> Iterator[Finding]:
    """A training crop that is mostly padding, or larger than every image."""
    advised = crops_for(sizes, {}, stride)
    if advised is None:
        return
    height, width = advised.train
    setting, covered = f"`train_crop_size={height},{width}`", coverage(sizes, crop, *scales)
    if covered < _MIN_COVERAGE:
        text = (
            f"{crop[0]},{crop[1]} would show {100 * covered:.0f} % image and {100 - 100 * covered:.0f} % padding on "
            f"average, at scales from {scales[0]:g} to {scales[1]:g}"
        )
        hint = f"{setting} shows {100 * coverage(sizes, advised.train, *scales):.0f} % image"
        yield finding("crop-mostly-padding", "`train_crop_size`", text, split=split, hint=hint)
        return
    largest = largest_size(sizes)
    holds_all = fitting_size(largest, stride)
    if crop[0] > holds_all[0] and crop[1] > holds_all[1]:
        text = f"{crop[0]},{crop[1]} is larger than every image of split {split}, which go up to {size_text(largest)}"
        yield finding("crop-larger-than-images", "`train_crop_size`", text, split=split, hint=f"use {setting}")


# --- The check ----------------------------------------------------------------------------------------------


@DATASET_CHECKS.register("crops and batches")
def check_crops_and_batches(summary: Summary) -> Iterator[Finding]:
    """Planned crop and batch sizes that do not suit the images."""
    config, training = summary.config, summary.training
    yield from _eval_crop(summary)
    if training in summary.totals:
        totals = summary.totals[training]
        if config.train_batch_size and not config.max_images:
            yield from batch_findings(training, totals.images, config.train_batch_size)
        if config.train_crop_size and totals.sizes:
            scales = (config.min_scale_factor, config.max_scale_factor)
            yield from crop_findings(training, totals.sizes, config.train_crop_size, scales, config.output_stride)
    for field, crop in (("train_crop_size", config.train_crop_size), ("eval_crop_size", config.eval_crop_size)):
        if crop and crop != fitting_size(crop, config.output_stride):
            better = fitting_size(crop, config.output_stride)
            text = f"{crop[0]},{crop[1]} is not a multiple of the output stride {config.output_stride}, plus 1"
            yield finding("crop-off-stride", f"`{field}`", text, hint=f"`{field}={better[0]},{better[1]}`")


def _eval_crop(summary: Summary) -> Iterator[Finding]:
    """Images that do not fit into the evaluation crop; those of the training split need not."""
    crop = summary.config.eval_crop_size
    for split, totals in summary.totals.items():
        if crop and totals.sizes and (split != summary.training or len(summary.totals) == 1):
            yield from _too_large(split, totals, crop, summary.config)


def _too_large(split: str, totals: SplitTotals, crop: tuple[int, int], config: CheckConfig) -> Iterator[Finding]:
    largest = largest_size(totals.sizes)
    if largest[0] <= crop[0] and largest[1] <= crop[1]:
        return
    number = sum(n for (height, width), n in totals.sizes.items() if height > crop[0] or width > crop[1])
    where = totals.highest[1] if largest[0] > crop[0] else totals.widest[1]
    better = fitting_size(largest, config.output_stride)
    text = (
        f"{counted(number, 'image')} of split {split} {'is' if number == 1 else 'are'} larger than "
        f"`eval_crop_size={crop[0]},{crop[1]}`, {'this one' if number == 1 else 'this one among them'}; sides go up to "
        f"{size_text(largest)} (height x width)"
    )
    hint = f"`eval_crop_size={better[0]},{better[1]}`, or leave it out: each image at its own size"
    yield finding("larger-than-eval-crop", where, text, split=split, hint=hint)
