"""One image and its mask in, one serialised example out: the work that runs in parallel."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from deeplab.data.build.images import ImageFacts, inspect_image
from deeplab.data.build.pairs import Pair
from deeplab.data.masks import LabelRule, decode_label
from deeplab.data.records import encode_example
from deeplab.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Converted:
    """A pair that is fit for a record.

    Attributes:
      name: the pair's name.
      example: the serialised example.
      counts: pixels of each label value, int64 [256].
      image: what the image's header says.
    """

    name: str
    example: bytes
    counts: np.ndarray
    image: ImageFacts


def convert(pair: Pair, rule: LabelRule, decode: bool = False) -> Converted:
    """Reads, checks and packs one pair. The image's bytes go in unchanged, as do those of an 8-bit grey mask; other
    masks become 8-bit grey PNG.

    Args:
      pair: names and paths.
      rule: what the mask's values mean.
      decode: decode the image, too, to find damage that its structure does not show.

    Raises:
      UserError: unreadable files, sizes that differ, values outside the classes; the message names the file.
    """
    image, mask = _read(pair.image), _read(pair.mask)
    facts = inspect_image(image, pair.image, decode)
    decoded = decode_label(mask, pair.mask, rule)
    height, width = decoded.label.shape
    if (height, width) != (facts.height, facts.width):
        raise _sizes_differ(pair, facts, height, width)
    example = encode_example(image, facts.format, pair.name, height, width, decoded.grey_png)
    return Converted(pair.name, example, decoded.counts, facts)


def _read(path: str) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as fault:
        raise UserError(path, f"cannot be read: {fault.strerror}") from None


def _sizes_differ(pair: Pair, facts: ImageFacts, height: int, width: int) -> UserError:
    rule = f"the mask is {width}x{height} pixels, its image {pair.image} {facts.width}x{facts.height}"
    if (facts.height, facts.width) == (width, height):
        turned = "its EXIF data turn the image; save it upright" if facts.rotated else "one of the two is turned"
        return UserError(pair.mask, rule, turned)
    return UserError(pair.mask, rule, "resize the mask (nearest neighbour) or the image, or leave the pair out")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, waiting: int = 0
) -> Generator[Result, None, None]:
    """`map(function, items)` on several threads, results in order; at most `waiting` of them lie in memory.

    Threads, not processes: reading and decoding leave Python's lock, and results need not be copied between
    processes (measured on two cores, 500x375 pictures: see benchmarks/build_data.py).
    """
    bound = waiting or 4 * workers
    pending: collections.deque[Future[Result]] = collections.deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                if len(pending) == bound:
                    yield pending.popleft().result()
                pending.append(pool.submit(function, item))
            while pending:
                yield pending.popleft().result()
        finally:  # a reader that stops early leaves no work behind
            for future in pending:
                future.cancel()
