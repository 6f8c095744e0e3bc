"""What dataset.yml says, held against what was counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deeplab.data.dataset import FILE_NAME, Dataset, SizeRange
from deeplab.data.validation.check_report import Finding, SplitFacts
from deeplab.data.validation.rules import finding
from deeplab.data.validation.statistics import SplitTally


def look_at_description(
    described: Dataset, splits: Mapping[str, SplitFacts], tallies: Mapping[str, SplitTally], all_splits: bool
) -> Iterator[Finding]:
    """Where the description and the records differ.

    Args:
      described: dataset.yml.
      splits, tallies: what was counted, of whole splits.
      all_splits: all splits of the folder were looked at.
    """

    def wrong(split: str, text: str) -> Finding:
        return finding("description-disagrees", f"{FILE_NAME}, split {split}", text, split=split)

    for split in described.splits if all_splits else ():
        if split not in splits and described.splits[split]:
            yield wrong(split, f"says {described.splits[split]} images, but the folder holds no shard of that split")
    for split, facts in splits.items():
        if described.splits and split not in described.splits:
            yield wrong(split, f"does not know the split, of which there are {facts.images} records")
        for text in _differences(described, split, facts, tallies[split].unread > 0):
            yield wrong(split, text)


def _differences(described: Dataset, split: str, facts: SplitFacts, unread: bool) -> Iterator[str]:
    said = described.splits.get(split)
    if said is not None and said != facts.images:
        yield f"says {said} images, there are {facts.images} records"
        return  # pixels then differ as well
    if unread:
        return
    pixels = described.pixels.get(split)
    if pixels and tuple(pixels) != facts.pixels and len(pixels) == len(facts.pixels):
        index = next(i for i, (one, other) in enumerate(zip(pixels, facts.pixels, strict=True)) if one != other)
        name = described.class_names[index]
        yield f"says {pixels[index]} pixels of {name} ({index}), the labels hold {facts.pixels[index]}"
    ignored = described.ignored_pixels.get(split)
    if ignored is not None and ignored != facts.ignored_pixels:
        yield f"says {ignored} ignored pixels, the labels hold {facts.ignored_pixels}"
    sizes = described.size_range.get(split)
    if sizes and facts.size_range and sizes != facts.size_range:
        yield f"says images of {_range(sizes)}, there are {_range(facts.size_range)} (height x width)"


def _range(sizes: SizeRange) -> str:
    low, high = f"{sizes.min_height}x{sizes.min_width}", f"{sizes.max_height}x{sizes.max_width}"
    return low if low == high else f"{low} to {high}"
