"""dataset.yml compared with what was counted in the records."""

from __future__ import annotations

from collections.abc import Iterator

from deeplab.data.dataset import FILE_NAME, Dataset, SizeRange
from deeplab.data.validation.check_report import Finding, SplitFacts
from deeplab.data.validation.rules import DATASET_CHECKS, finding
from deeplab.data.validation.statistics import Summary


@DATASET_CHECKS.register("description")
def check_description(summary: Summary) -> Iterator[Finding]:
    """Where dataset.yml and the records differ; only whole splits can be compared."""
    described = summary.subject.described
    if described is None or summary.config.max_images:
        return
    for split in described.splits if not summary.config.splits else ():
        if split not in summary.splits and described.splits[split]:
            text = f"states {described.splits[split]} images, but the folder holds no shard of that split"
            yield _finding(split, text)
    for split, facts in summary.splits.items():
        if described.splits and split not in described.splits:
            yield _finding(split, f"does not list the split, of which there are {facts.images} records")
        for text in _differences(described, split, facts, summary.totals[split].unread > 0):
            yield _finding(split, text)


def _finding(split: str, text: str) -> Finding:
    return finding("description-disagrees", f"{FILE_NAME}, split {split}", text, split=split)


def _differences(described: Dataset, split: str, facts: SplitFacts, unread: bool) -> Iterator[str]:
    stated = described.splits.get(split)
    if stated is not None and stated != facts.images:
        yield f"states {stated} images, there are {facts.images} records"
        return  # pixels then differ as well
    if unread:
        return
    pixels = described.pixels.get(split)
    if pixels and tuple(pixels) != facts.pixels and len(pixels) == len(facts.pixels):
        index = next(i for i, (one, other) in enumerate(zip(pixels, facts.pixels, strict=True)) if one != other)
        name = described.class_names[index]
        yield f"states {pixels[index]} pixels of {name} ({index}), the labels hold {facts.pixels[index]}"
    ignored = described.ignored_pixels.get(split)
    if ignored is not None and ignored != facts.ignored_pixels:
        yield f"states {ignored} ignored pixels, the labels hold {facts.ignored_pixels}"
    sizes = described.size_range.get(split)
    if sizes and facts.size_range and sizes != facts.size_range:
        yield f"states images of {_range(sizes)}, there are {_range(facts.size_range)} (height x width)"


def _range(sizes: SizeRange) -> str:
    low, high = f"{sizes.min_height}x{sizes.min_width}", f"{sizes.max_height}x{sizes.max_width}"
    return low if low == high else f"{low} to {high}"
