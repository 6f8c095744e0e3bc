"""Collects the pairs of images and shapes that a reader finds, and reports at the end what is wrong with them.

Readers of shapes call `Collector.add` for each image. It counts shapes without an area, images without shapes and
shapes outside their image, and prints one warning per kind. It never reads an annotation file.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn

import numpy as np

from deeplab.config.conversion_config import DrawnConfig
from deeplab.data.class_names import is_ignored, with_background
from deeplab.data.readers.annotation_values import CONTROL
from deeplab.data.readers.image_finder import shown_size
from deeplab.data.readers.name_lists import canonical
from deeplab.data.readers.shapes import FRACTIONS, Shape, ShapesMask
from deeplab.data.readers.source import UNDIVIDED, Pair
from deeplab.utils import console
from deeplab.utils.errors import MAX_ERRORS, UserError, joined

_MAX_NAMED = 5  # files in a warning
_NO_AREA = "shapes without an area left out"
_OUTSIDE = "images with shapes that reach far outside, as if they had been resized or cropped after annotating"
_ALL_BACKGROUND = "background everywhere (`skip_empty=true` leaves such images out)"
_MAX_OUTSIDE = 5  # images with such shapes that are slips of the mouse
_MAX_OUTSIDE_FRACTION = 0.1  # of the images with shapes
_THINGS = re.compile(r"\b(annotation|color|image|region|shape|task)s\b")  # what is counted: of one, without the s


class Collector:
    """Collects pairs as they are found, and what is wrong with them: one warning per kind at the end.

    Args:
      config: the format's config.
    """

    def __init__(self, config: DrawnConfig):
        self.config = config
        self.splits: dict[str, list[Pair]] = {}
        self.used_names: set[str] = set()  # classes of shapes that are painted
        self._names = PairNames()
        self._kinds: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._first: dict[str, list[str]] = {}
        self._errors: list[UserError] = []
        self._painted = 0  # images with shapes
        self._stated = 0  # images whose annotation states a size
        self._reach = 1.0  # how far shapes reach to the right or down, in widths or heights of their image

    def add(
        self,
        name: str,
        image: str,
        where: str,
        shapes: Sequence[Shape] | Callable[[int, int], Sequence[Shape]],
        size: tuple[int, int] | None = None,
        split: str = UNDIVIDED,
        empty: bool = False,
        outlines: Sequence[Shape] = (),
    ) -> None:
        """Adds the pair of an image and the mask that its shapes draw.

        Args:
          name: what the pair is called.
          image: path of the image.
          where: annotation file and image, for messages.
          shapes: as in `ShapesMask`. Those without an area are counted and left out.
          size: height and width that the annotation states.
          split: of the pair.
          empty: the image has no shape; where `shapes` is a list, that is found out here.
          outlines: those of the shapes that are known now, where `shapes` is a function.

        Raises:
          UserError: the split has a pair of that name already.
        """
        self._stated += size is not None
        factor = 1.0 if size == FRACTIONS else self.config.annotation_scale
        scale = size == FRACTIONS or self.config.scale_annotations
        if callable(shapes):
            shapes = shapes if factor == 1 else functools.partial(_scaled_later, shapes, factor)
            size = size if factor == 1 else None
            self._painted += not empty
            known = [shape.scaled(factor, factor) for shape in outlines if shape.has_area]
            if self._reach_outside(known, image, size):
                self.note(_OUTSIDE, name)
        else:
            shapes = self._with_area(shapes, name, factor)
            size = size if factor == 1 else None
            if self._reach_outside(shapes, image, size):
                self.note(_OUTSIDE, name)
            empty = not shapes
            self._painted += not empty
        if empty:
            done = (
                "left out"
                if self.config.skip_empty
                else "background everywhere (`skip_empty=true` leaves such images out)"
            )
            self.note(f"images without a shape: {done}", name)
            if self.config.skip_empty:
                return
        name = self._names.unused(split, name, image, where)
        mask = ShapesMask(where, shapes, size, self.config.overlap, scale)
        self.splits.setdefault(split, []).append(Pair(name, image, mask))

    def _with_area(self, shapes: Sequence[Shape], name: str, factor: float) -> tuple[Shape, ...]:
        kept = tuple(shape for shape in shapes if shape.has_area)
        for _ in range(len(shapes) - len(kept)):
            self.skipped("too small", name)
        self.used_names.update(shape.name for shape in kept)
        return kept if factor == 1 else tuple(shape.scaled(factor, factor) for shape in kept)

    def _reach_outside(self, shapes: Sequence[Shape], image: str, size: tuple[int, int] | None) -> bool:
        """Whether shapes reach further outside the image than people draw over its border."""
        size = size or (shown_size(image) if shapes else None)
        if size is None or size == FRACTIONS:
            return False
        height, width = size
        margin = np.array([2 + width / 20, 2 + height / 20])  # people draw a little over the border
        points = [ring for shape in shapes for ring in shape.rings]
        if points and all(shape.bitmap is None for shape in shapes):  # fast, since most images have no such shape
            every = np.concatenate(points)
            if (every.min(axis=0) >= -margin).all() and (every.max(axis=0) - margin <= [width, height]).all():
                return False
        found = False
        for shape in shapes:
            if shape.bitmap and (shape.bitmap.height > height or shape.bitmap.width > width):
                continue  # an error of its own
            left, top, right, bottom = shape.bounds()
            if left < -margin[0] or top < -margin[1] or right > width + margin[0] or bottom > height + margin[1]:
                self._reach = max(self._reach, right / width, bottom / height)
                found = True
        return found

    def class_names(self, names: Iterable[str] | None = None) -> tuple[str, ...]:
        """Returns the classes: the background, then the given names; by default those of the shapes, sorted.

        Names that mark ignored pixels are pointed out.
        """
        found = list(sorted(self.used_names) if names is None else names)
        ignored = sorted(name for name in {*found, *self.used_names} if is_ignored(name))
        if ignored:
            console.note(f"class {', '.join(map(repr, ignored))} marks pixels that do not count")
        return with_background(found)

    def skipped(self, kind: str, where: str) -> None:
        """Counts a shape that has no area."""
        kind = CONTROL.sub("?", kind[:40])
        self._kinds[kind] = self._kinds.get(kind, 0) + 1
        self.note(_NO_AREA, where)

    def left_out(self, images: Iterable[str], what: str) -> None:
        """Counts images that no annotation is about: `3 images without a .json file left out`."""
        for image in images:
            self.note(f"images {what} left out", image)

    def note(self, text: str, where: str) -> None:
        """Counts anything else; the warning gives the number, the text, and the first places."""
        self._numbers[text] = self._numbers.get(text, 0) + 1
        named, where = self._first.setdefault(text, []), CONTROL.sub("?", where)
        if len(named) <= _MAX_NAMED and where not in named:
            named.append(where if len(named) < _MAX_NAMED else "...")

    @contextlib.contextmanager
    def catching(self) -> Iterator[None]:
        """Keeps a UserError for the end, so that several errors are reported together; the tenth ends the reading."""
        try:
            yield
        except UserError as error:
            if error.code == "image-not-found" and self.config.on_missing == "skip":
                self.note("images named by annotations but not found: left out", str(error.value)[:200])
                return
            self._errors.append(error)
            if len(self._errors) == MAX_ERRORS:
                self._stop()

    def report(self) -> None:
        """Prints one warning per kind; none if there were errors, of which the warnings would be a consequence.

        Raises:
          UserError: errors were caught; up to ten are named. Shapes of more than a few images reach outside
            (`shapes-outside`), or shapes are to be scaled and no file states the size of an image (`no-stated-size`).
        """
        if self._errors:
            self._stop()
        if self.config.scale_annotations and self._painted and not self._stated:
            rule = "needs annotations that state the size of their images, which these do not"
            hint = "`annotation_scale=0.5` scales by a factor, here for images that were halved"
            raise UserError("no-stated-size", rule, hint, field="scale_annotations")
        outside = self._numbers.get(_OUTSIDE, 0)
        if outside > min(_MAX_OUTSIDE, _MAX_OUTSIDE_FRACTION * self._painted) and self.config.on_outside == "fail":
            rule = f"there are {outside} of {self._painted} {_OUTSIDE}: {', '.join(self._first[_OUTSIDE])}"
            raise UserError("shapes-outside", rule, self._hint_on_outside(), where="annotations", value=outside)
        for text, number in self._numbers.items():
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._kinds.items()))
            detail = f" ({kinds})" if text == _NO_AREA else ""
            hint = f"; {self._hint_on_outside()}" if text == _OUTSIDE and self.config.on_outside == "fail" else ""
            shown = _THINGS.sub(r"\1", text, count=1) if number == 1 else text
            console.warning(f"{number} {shown}{detail}: {', '.join(self._first[text])}{hint}")
        self._numbers.clear()

    def _hint_on_outside(self) -> str:
        times = math.ceil(min(self._reach, 1000) - 0.05)
        resized = f"if they were resized since, all shapes fit with `annotation_scale={1 / times:.3g}`"
        steps = ["use the images that were annotated", *([resized] if times > 1 else [])]
        return "; ".join([*steps, "`on_outside=cut` cuts off what is outside"])

    def _stop(self) -> NoReturn:
        raise joined(self._errors, "more errors")

    def require_pairs(self, where: str, hint: str = "") -> None:
        """Stops if nothing was found.

        Raises:
          UserError: there is no pair.
        """
        if not any(self.splits.values()):
            raise UserError("no-pairs", "there is no image with annotations", hint, where=where)


class PairNames:
    """Gives every pair of a split a name of its own."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], tuple[str, str]] = {}  # image and annotation of a split and a name

    def unused(self, split: str, name: str, image: str, where: str) -> str:
        """Returns the name of a pair, with more of its path before it where another image of the split has that name.

        So several annotation files may each have a folder of their own, with a frame_000000.png in each.

        Raises:
          UserError: the split has a pair of that image already (`duplicate-image`).
        """
        path = os.path.abspath(image)
        parts = pathlib.PurePath(path).with_suffix("").parts[1:]
        longer = (canonical("/".join(parts[-number:])) for number in range(name.count("/") + 2, len(parts) + 1))
        for other in (name, *longer):
            if (split, other) not in self._names:
                self._names[split, other] = path, where
                return other
            listed, place = self._names[split, other]
            if listed == path:
                break
        rule = f"image {name!r} was listed before, in {place}"
        hint = "list each image once: put its shapes together, or rename one of the images"
        raise UserError("duplicate-image", rule, hint, where=where, value=name)


def _scaled_later(shapes: Callable[[int, int], Sequence[Shape]], factor: float, height: int, width: int) -> list[Shape]:
    """Returns shapes that depend on the image's size, for an image that was resized by a factor since."""
    return [shape.scaled(factor, factor) for shape in shapes(round(height / factor), round(width / factor))]
