"""What a build counts while it converts pairs, the notes and errors it reports, and the table at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TextIO

import numpy as np

from deeplab.data.bands import PERCENTILES, RGB, BandHistogram, ImageBands, describe_bands
from deeplab.data.class_names import MANY_CLASSES, frequent_and_rare
from deeplab.data.conversion.encode import Converted
from deeplab.data.dataset import Dataset, SizeRange
from deeplab.data.images import NOTES
from deeplab.data.labels import add_counts
from deeplab.data.merged_classes import MergedClasses
from deeplab.data.split_names import is_training
from deeplab.utils import console
from deeplab.utils.errors import MAX_ERRORS, UserError, joined
from deeplab.utils.text import percent

_MAX_NAMED = 6  # pairs of a kind that a warning names, plus one that shows there are more


@dataclass
class SplitCounts:
    """Sums over the pairs of one split.

    Attributes:
      images: number of pairs.
      counts: pixels of each label value, int64 [256], or [65536] of 16 bits.
      size: range of image sizes.
      formats: encodings met.
      values: how often each value occurs, of images that are stored with their bands.
    """

    images: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    size: SizeRange | None = None
    formats: set[str] = field(default_factory=set)
    values: BandHistogram | None = None

    def add(self, converted: Converted) -> None:
        """Adds one pair."""
        image = converted.image
        size = SizeRange(image.height, image.height, image.width, image.width)
        self.images += 1
        self.counts = add_counts(self.counts, converted.counts)
        self.size = self.size.including(size) if self.size else size
        self.formats.add(image.format)
        self._add_values(converted.values)

    def _add_values(self, values: BandHistogram | None) -> None:
        if values is not None:
            self.values = self.values or BandHistogram(values.channels, values.dtype)
            self.values.merge(values)

    def merge(self, other: SplitCounts) -> None:
        """Adds the sums over other pairs of the split."""
        self.images += other.images
        self.counts = add_counts(self.counts.copy(), other.counts)
        if other.size:
            self.size = self.size.including(other.size) if self.size else other.size
        self.formats |= other.formats
        self._add_values(other.values)


class BadPairs:
    """Collects the errors of pairs; after ten, or at the end, the build stops and names them.

    Args:
      total: number of pairs of the build, for the message.
    """

    def __init__(self, total: int):
        self.total = total
        self.errors: list[UserError] = []

    def add(self, error: UserError) -> None:
        """Adds one.

        Raises:
          UserError: these are too many.
        """
        self.errors.append(error)
        if len(self.errors) == MAX_ERRORS:
            self.stop()

    def stop(self) -> None:
        """Raises what was collected, if anything."""
        if self.errors:
            raise joined(self.errors, f"more pairs of {self.total} cannot be used")


@dataclass
class Oddities:
    """Pairs that can be used but are probably not as the user wants them: all are counted, the first few named.

    Attributes:
      names: the first names of each kind.
      numbers: number of pairs of each kind.
      snapped_pixels: pixels that took the nearest color of the palette.
    """

    names: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    snapped_pixels: int = 0

    TEXTS: ClassVar[Mapping[str, str]] = {
        **{note: f"images {text}" for note, text in NOTES.items()},
        "snapped": "masks with colors that are not in the palette: their pixels took the nearest color that is",
        "ignored": "labels with nothing but ignored pixels: training learns nothing from them",
    }

    def look(self, converted: Converted, ignore_label: int) -> None:
        """Counts what is unusual about one pair."""
        image = converted.image
        for kind in image.notes:
            self._note(kind, True, converted.name)
        self._note("snapped", converted.snapped > 0, converted.name)
        self.snapped_pixels += converted.snapped
        self._note("ignored", converted.counts[ignore_label] == image.height * image.width, converted.name)

    def _note(self, kind: str, met: bool, name: str) -> None:
        if met:
            self.numbers[kind] = self.numbers.get(kind, 0) + 1
            if len(self.names.setdefault(kind, [])) < _MAX_NAMED:
                self.names[kind].append(name)

    def merge(self, other: Oddities) -> None:
        """Adds what was counted elsewhere."""
        for kind, number in other.numbers.items():
            self.numbers[kind] = self.numbers.get(kind, 0) + number
            self.names[kind] = [*self.names.get(kind, []), *other.names[kind]][:_MAX_NAMED]
        self.snapped_pixels += other.snapped_pixels

    def report(self) -> None:
        """Prints one warning per kind."""
        for kind, number in self.numbers.items():
            pixels = f" ({self.snapped_pixels} pixels in all)" if kind == "snapped" else ""
            named = self.names[kind][: _MAX_NAMED - 1]
            more = f" and {number - len(named)} more" if number > len(named) else ""
            text = self.TEXTS[kind] if number > 1 else self.TEXTS[kind].replace("s ", " ", 1)  # "1 image with ..."
            console.warning(f"{number} {text}{pixels}: {', '.join(named)}{more}")
        if {"turned", "unturned"} <= set(self.numbers):
            console.warning(
                "some photos were turned by their EXIF data and some were not: square or upside-down photos do not "
                "show which orientation their mask has; `exif=ignore` if all masks fit the photos as stored"
            )


def describe(
    name: str,
    class_names: Sequence[str],
    colors: Sequence,
    ignore_label: int,
    counts_of: Mapping[str, SplitCounts],
    bands: ImageBands = RGB,
) -> Dataset:
    """The dataset descriptor for what was counted in each split."""
    number = len(class_names)
    # An ignore label within the classes (ADE20K's 0) is counted as ignored, not as a class.
    counted = {split: found.counts.copy() for split, found in counts_of.items()}
    ignored = {split: int(counts[ignore_label]) for split, counts in counted.items()}
    for counts in counted.values():
        counts[ignore_label] = 0
    return Dataset(
        name=name,
        class_names=tuple(class_names),
        colors=tuple(colors),
        ignore_label=ignore_label,
        splits={split: found.images for split, found in counts_of.items()},
        pixels={split: tuple(counts[:number].tolist()) for split, counts in counted.items()},
        ignored_pixels=ignored,
        size_range={split: found.size for split, found in counts_of.items() if found.size},
        image_formats=tuple(sorted(set().union(*(found.formats for found in counts_of.values())))),
        image_bands=bands,
    )


def measured_bands(
    bands: ImageBands, counts_of: Mapping[str, SplitCounts], scale_from: Sequence[float], kept: ImageBands | None
) -> ImageBands:
    """The bands with scaling and statistics, which are told: those of the training splits, of all where there is none.

    Args:
      bands: channels, dtype and selection.
      counts_of: what was counted in each split.
      scale_from: the setting.
      kept: what other splits of the folder have, if a training split is among them.
    """
    if kept is not None:
        return kept
    training = [split for split in counts_of if is_training(split)] or list(counts_of)
    values = BandHistogram(bands.channels, bands.dtype)
    for split in training:
        if (counted := counts_of[split].values) is not None:
            values.merge(counted)
    found = describe_bands(bands, values, scale_from)
    if found.low:
        numbers = found.bands or range(1, found.channels + 1)
        ends = zip(numbers, found.low, found.high, strict=True)
        shown = ", ".join(f"band {number} {low:g}..{high:g}" for number, low, high in ends)
        low, high = PERCENTILES
        origin = "`scale_from`" if scale_from else f"percentiles {low:g} and {high:g} of split {', '.join(training)}"
        console.note(f"values that models see as 0..255 ({origin}): {shown}")
    return found


def fraction_table(dataset: Dataset) -> str:
    """Table of the pixels of each class in each split: percent of the pixels that count; ignored ones of all pixels.

    Of very many classes, only the most frequent and the rarest ones are listed.
    """
    splits = list(dataset.splits)
    totals = {split: sum(dataset.pixels[split]) for split in splits}
    rows: list[list[object]] = [
        [index, name, *(_percent(dataset.pixels[split][index], totals[split]) for split in splits)]
        for index, name in enumerate(dataset.class_names)
    ]
    if len(rows) > MANY_CLASSES:
        kept = frequent_and_rare([sum(numbers) for numbers in zip(*dataset.pixels.values(), strict=True)])
        rest: list[object] = ["", f"... {len(rows) - len(kept)} more", *[""] * len(splits)]
        rows = [*(rows[index] for index in kept), rest]
    ignored = [_percent(dataset.ignored_pixels[s], totals[s] + dataset.ignored_pixels[s]) for s in splits]
    rows.append([dataset.ignore_label, "(ignored)", *ignored])
    rows.append(["", "images", *(dataset.splits[split] for split in splits)])
    rows.append(["", "size (pixels)", *(_sizes(dataset.size_range[split]) for split in splits)])
    return console.table(rows, ["label", "class", *splits])


def print_merged(merged: MergedClasses, dataset: Dataset, stream: TextIO | None = None) -> None:
    """Prints which classes were merged, with the pixels of each over all splits, by default to standard output."""
    pixels = [sum(numbers) for numbers in zip(*dataset.pixels.values(), strict=True)]
    console.result(merged.table(pixels, sum(dataset.ignored_pixels.values())), stream)


def _percent(part: int, whole: int) -> str:
    return percent(part / whole) if whole else "-"


def _sizes(size: SizeRange) -> str:
    low, high = f"{size.min_width}x{size.min_height}", f"{size.max_width}x{size.max_height}"
    return low if low == high else f"{low} to {high}"
