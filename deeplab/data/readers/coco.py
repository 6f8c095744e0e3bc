"""COCO JSON: polygons and run lengths, crowds, things and stuff.

The objects of an image are painted from the largest to the smallest; crowd regions become ignored pixels and are
painted before everything else, so that whatever is annotated in front of them keeps its label.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deeplab.config.fields import setting
from deeplab.data.dataset import Color
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import (
    DrawnConfig,
    ImageFinder,
    Tally,
    class_name,
    image_size,
    in_words,
    read_json,
    require,
    require_pairs,
)
from deeplab.data.readers.regions import IGNORED, Region, RegionsMask
from deeplab.data.readers.rle import checked_runs, coco_runs
from deeplab.data.readers.shapes import polygon
from deeplab.data.readers.source import BACKGROUND, UNDIVIDED, Pair, Source, with_background
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_text, shorten, split_paths

_SPLIT_PREFIX = re.compile(r"([A-Za-z0-9][\w-]+):(?!//|\\)(.+)")  # one letter is a drive, `http:` an address
_SPLIT_ENDING = re.compile(r"(?:^|[_\-. ])(trainval|train|val|test)[a-z]*[_-]?\d*$", re.IGNORECASE)
_ALL_THINGS = (183, "other")  # the category that stands for all things in COCO's stuff files
_LARGE = 2e7  # bytes, a second or two
_MOST_CLASSES = 255  # in 8 bits, beside the ignore label


@dataclass(frozen=True)
class BuildCocoConfig(DrawnConfig):
    """Where annotation files and images lie."""

    annotations: str = setting(
        "",
        "JSON files, with commas; several files of the same images, such as things and stuff, go together. "
        "train:FILE,val:FILE names the splits; otherwise file names that end in train, val or test do.",
        required=True,
    )
    image_folder: str = setting(
        "", "Folder of the images; train:FOLDER,val:FOLDER where each split has its own.", required=True
    )
    crowd: str = setting(
        "ignore",
        "Crowd regions: pixels that do not count, pixels of their class, or left out.",
        choices=("ignore", "class", "skip"),
    )
    overlap: str = setting(
        "area",
        "Which object covers which: small ones the large ones, or later ones in the file the earlier ones.",
        choices=("file", "area"),
    )


@register_format("coco", BuildCocoConfig)
def read_coco(config: BuildCocoConfig) -> Source:
    """A dataset in COCO's JSON.

    Raises:
      UserError: files that cannot be read, break the format, or name images that are not there.
    """
    files = _files(config.annotations)
    finders = _finders(config.image_folder, [split for split, _ in files])
    tally = Tally(config.skip_empty)
    reader = _Reader(config.crowd, tally)
    for split, path in files:
        reader.read(path, split, finders[split])
    for split, images in reader.images.items():
        for image in images.values():
            _add(tally, image, split, config)
    unused = {name for finder in finders.values() for name in finder.unused()}
    tally.left_out(sorted(unused), "that no annotation file lists")
    tally.report()
    require_pairs(tally, config.annotations, "check that the files hold images, and `skip_empty`")
    class_names = reader.categories.class_names(config.annotations)
    return Source(tally.splits, class_names, reader.categories.class_colors(class_names), drawn=True)


def _add(tally: Tally, image: _Image, split: str, config: BuildCocoConfig) -> None:
    mask = RegionsMask(image.where, image.size, tuple(image.regions), config.overlap)
    with tally.collecting():
        tally.add(Pair(image.name, image.path, mask), image.where, split, empty=not image.regions)


# --- Flags --------------------------------------------------------------------------------------------------


def _by_split(text: str, flag: str) -> list[tuple[str, str]]:
    """Split and path of every part of `train:PATH,val:PATH`; the split is empty where no part names one."""
    found = [_split_of(part) for part in split_paths(text, lambda part: os.path.exists(_split_of(part)[1]))]
    if not found:
        raise UserError("unclassified", "is empty", f"{flag}=PATH, or {flag}=train:PATH,val:PATH", where=flag)
    without = [path for split, path in found if not split]
    if 0 < len(without) < len(found):
        raise UserError(
            "unclassified",
            f"names a split for some parts, but not for {without[0]}",
            f"write train:{without[0]}",
            where=flag,
        )
    return found


def _split_of(part: str) -> tuple[str, str]:
    match = None if os.path.exists(part) else _SPLIT_PREFIX.fullmatch(part)
    return (match[1], match[2]) if match else (UNDIVIDED, part)


def _files(text: str) -> list[tuple[str, str]]:
    files = _by_split(text, "`annotations`")
    if files[0][0]:
        return files
    stems = [os.path.splitext(os.path.basename(path))[0] for _, path in files]
    matches = [_SPLIT_ENDING.search(stem) for stem in stems]
    if not all(matches):
        return files
    return [(match[1].lower(), path) for match, (_, path) in zip(matches, files, strict=True) if match]


def _finders(text: str, splits: Sequence[str]) -> dict[str, ImageFinder]:
    folders = _by_split(text, "`image_folder`")
    if not folders[0][0]:
        if len(folders) > 1:
            raise UserError(
                "unclassified",
                f"{text} are several folders",
                "name a split for each: train:FOLDER,...",
                field="image_folder",
            )
        return dict.fromkeys(splits, ImageFinder(folders[0][1], "`image_folder`"))
    finders = {split: ImageFinder(folder, "`image_folder`") for split, folder in folders}
    if len(finders) < len(folders):
        raise UserError(
            "unclassified", "names a split twice", "bring its images together in one folder", field="image_folder"
        )
    for split in splits:
        if split not in finders:
            rule = f"has no folder for split {split!r}" if split else "names splits, but `annotations` does not"
            raise UserError("unclassified", rule, f"the splits it names are {', '.join(finders)}", field="image_folder")
    return finders


# --- Files --------------------------------------------------------------------------------------------------


@dataclass
class _Image:
    name: str
    path: str
    where: str
    size: tuple[int, int] | None
    file: str  # the annotation file that told of it last
    regions: list[Region] = field(default_factory=list)


class _Reader:
    """Images and their regions, gathered from one file after the other."""

    def __init__(self, crowd: str, tally: Tally):
        self.crowd, self.tally = crowd, tally
        self.categories = _Categories()
        self.images: dict[str, dict[str, _Image]] = {}  # by split and path of the image

    def read(self, path: str, split: str, finder: ImageFinder) -> None:
        """Takes in one file.

        Raises:
          UserError: it is no COCO file of objects or stuff, or its categories contradict an earlier file's.
        """
        content = _read_packed(path)
        _require_coco(content, path)
        entries, annotations = require(content, "images", list, path), require(content, "annotations", list, path)
        _refuse_other_kinds(annotations, path)
        self.categories.add(content, path)
        images = self._listed(entries, path, self.images.setdefault(split, {}), finder)
        del content, entries
        what = f"reading {os.path.basename(path)}"
        bar = console.progress(_consumed(annotations), total=len(annotations), what=what, unit="annotation")
        for number, annotation in enumerate(bar, 1):
            with self.tally.collecting():
                self._take(annotation, images, f"{path}, annotation {_identity(annotation, number)}")

    def _listed(
        self, entries: Sequence[Any], path: str, images: dict[str, _Image], finder: ImageFinder
    ) -> dict[int | str, _Image | None]:
        """The file's images by its own ids; None for those with a fault, which is told already."""
        by_id: dict[int | str, _Image | None] = {}
        for number, entry in enumerate(entries, 1):
            where = f"{path}, image {_identity(entry, number)}"
            with self.tally.collecting():
                identity = require(entry, "id", (int, str), where)
                if identity in by_id:
                    raise UserError(
                        "unclassified",
                        "the id was there before",
                        "each image must stand once, with its own id",
                        where=where,
                    )
                by_id[identity] = None
                by_id[identity] = _image(entry, where, path, images, finder)
        return by_id

    def _take(self, annotation: Any, images: Mapping[int | str, _Image | None], where: str) -> None:
        identity = require(annotation, "image_id", (int, str), where)
        if identity not in images:
            raise UserError(
                "unclassified",
                f"image {identity!r} is not in the list `images`",
                "add it, or take this out",
                where=where,
            )
        image = images[identity]
        if image is None:
            return
        region = self._region(annotation, image, f"{where} of {image.name}")
        if region:
            image.regions.append(region)

    def _region(self, annotation: Any, image: _Image, where: str) -> Region | None:
        name = self.categories.name(require(annotation, "category_id", int, where), where)
        crowd = bool(require(annotation, "iscrowd", (int, bool), where, 0))
        if crowd and self.crowd != "class":  # CVAT calls every mask a crowd
            done = "left out" if self.crowd == "skip" else "taken for pixels that do not count"
            self.tally.noted(f"crowd regions {done} (`crowd=class` gives them their class)", image.name)
        if name is None or (crowd and self.crowd == "skip"):
            return None
        first = crowd and self.crowd == "ignore"
        name = IGNORED if first else name
        outline = require(annotation, "segmentation", (list, dict), where, [])
        if isinstance(outline, dict):
            runs, size = _runs(outline, image.size, where)
            return Region(name, runs=runs, size=size, first=first)
        rings = [ring for ring in outline if not (isinstance(ring, (list, np.ndarray)) and len(ring) == 0)]
        if not rings:
            self.tally.skipped("boxes", image.name)
            return None
        return Region(name, tuple(polygon(name, ring, where=where).rings[0] for ring in rings), first=first)


def _read_packed(path: str) -> Any:
    """The content of a JSON file, with outlines as arrays from the moment they are parsed, at half the memory."""
    if os.path.isfile(path) and os.path.getsize(path) > _LARGE:
        console.note(f"{path}: parsing {os.path.getsize(path) / 1e6:.0f} MB")
    text = read_text(path)
    if "\\ud" not in text and "\\uD" not in text:  # these may be broken characters, which read_json looks for
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text, object_hook=_packed)
    return read_json(path)  # knows the words for what is wrong


def _packed(holder: dict[str, Any]) -> dict[str, Any]:
    outline = holder.get("segmentation")
    if isinstance(outline, list):
        with contextlib.suppress(ValueError, TypeError, OverflowError):  # `polygon` will say why
            holder["segmentation"] = [np.asarray(ring) if isinstance(ring, list) else ring for ring in outline]
    return holder


def _require_coco(content: Any, path: str) -> None:
    lacking = [
        key for key in ("images", "annotations", "categories") if not isinstance(content, dict) or key not in content
    ]
    if lacking:
        held = shorten([str(key)[:40] for key in content]) if isinstance(content, dict) else in_words(content)
        rule = f"is no COCO file: it has no {', '.join(f'`{key}`' for key in lacking)}, but holds {held or 'nothing'}"
        raise UserError(
            "unclassified",
            rule,
            "take instances_*.json; files of other tools have formats of their own here",
            where=path,
        )


def _refuse_other_kinds(annotations: Sequence[Any], path: str) -> None:
    keys = set(annotations[0]) if annotations and isinstance(annotations[0], dict) else set()
    hint = "take instances_*.json, and stuff_*.json beside it if stuff is wanted"
    if "segments_info" in keys:
        raise UserError("unclassified", "is a panoptic file, whose regions are in PNG files", hint, where=path)
    if "caption" in keys:
        raise UserError("unclassified", "holds captions, no regions", hint, where=path)


def _consumed(items: list[Any]) -> Iterator[Any]:
    """The items in order; each is let go of when the next is asked for, so that large files leave memory as they go."""
    items.reverse()
    while items:
        yield items.pop()


def _identity(entry: Any, number: int) -> int | str:
    """An id for messages: the entry's own, else its place in the list."""
    identity = entry.get("id") if isinstance(entry, dict) else None
    return identity if isinstance(identity, int) and abs(identity) < 1e18 else f"number {number}"


def _image(entry: Any, where: str, path: str, images: dict[str, _Image], finder: ImageFinder) -> _Image:
    found = finder.find(require(entry, "file_name", str, where), where)
    size = image_size(entry, "height", "width", where)
    image = images.get(found)
    if image is None:
        name = finder.name(found)
        image = images[found] = _Image(name, found, f"{path}, image {name}", size, path)
        return image
    if image.file == path:
        raise UserError(
            "unclassified", f"{image.name} was there before", "each image must stand once, with one id", where=where
        )
    if size and image.size and size != image.size:
        rule = f"{image.name} has {size[1]}x{size[0]} pixels, in {image.file} {image.size[1]}x{image.size[0]}"
        raise UserError(
            "unclassified", rule, "the files are not of the same images: build them one by one", where=where
        )
    image.file, image.size = path, image.size or size
    return image


def _runs(
    outline: dict[str, Any], image_size: tuple[int, int] | None, where: str
) -> tuple[np.ndarray, tuple[int, int]]:
    """Run lengths that fit, and the picture's height and width."""
    size = require(outline, "size", list, where)
    counts = require(outline, "counts", (str, list), where)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise UserError(
            "unclassified", "`size` must be the height and the width in pixels", "export it again", where=where
        )
    height, width = size
    if image_size and image_size != (height, width):
        rule = f"run lengths are of {width}x{height} pixels, the image has {image_size[1]}x{image_size[0]}"
        raise UserError("unclassified", rule, "`size` is [height, width]; export it again", where=where)
    runs = coco_runs(counts, where) if isinstance(counts, str) else counts
    return checked_runs(runs, height * width, where), (height, width)


class _Categories:
    """Class names by id; the label value is the place in the order of ids, after the background."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._colors: dict[str, Color] = {}

    def add(self, content: Any, path: str) -> None:
        """Takes in the categories of one file.

        Raises:
          UserError: there are none, or an id has another name than before.
        """
        entries = require(content, "categories", list, path)
        if not entries:
            raise UserError("unclassified", "`categories` is empty", "export it again with its classes", where=path)
        for number, entry in enumerate(entries, 1):
            where = f"{path}, category {_identity(entry, number)}"
            identity, name = require(entry, "id", int, where), class_name(entry, "name", where)
            if self._names.setdefault(identity, name) != name:
                rule = f"is {name!r}, but was {self._names[identity]!r} before"
                raise UserError(
                    "unclassified", rule, "files that are built together must have the same categories", where=where
                )
            if entry.get("color") is not None:
                self._colors.setdefault(name, _color(entry["color"], where))

    def name(self, identity: int, where: str) -> str | None:
        """Name of a category; None for COCO's stand-in for all things, of which nothing is painted.

        Raises:
          UserError: there is no such category.
        """
        if identity not in self._names:
            known = ", ".join(map(str, sorted(self._names)[:8])) + (" ..." if len(self._names) > 8 else "")
            raise UserError(
                "unclassified",
                f"category {identity} is not in the list `categories`",
                f"its ids are {known}",
                where=where,
            )
        name = self._names[identity]
        return None if (identity, name) == _ALL_THINGS else name

    def class_names(self, where: str) -> tuple[str, ...]:
        """The background and the classes after it.

        Raises:
          UserError: more than labels of 8 bits can tell apart.
        """
        in_order = [item for item in sorted(self._names.items()) if item != _ALL_THINGS]
        names = with_background(name for _, name in in_order)
        if len(names) > _MOST_CLASSES:
            rule = f"{len(names)} classes with the background; labels of 8 bits hold {_MOST_CLASSES}"
            raise UserError(
                "unclassified", rule, "take categories, and their annotations, out of the files", where=where
            )
        return names

    def class_colors(self, names: Sequence[str]) -> tuple[Color, ...]:
        """Their colors, or none where the files do not give every class one."""
        colors = {BACKGROUND: (0, 0, 0), **self._colors}
        if not self._colors or not all(name in colors for name in names):
            return ()
        return tuple(colors[name] for name in names)


def _color(value: Any, where: str) -> Color:
    if isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value):
        return value[0], value[1], value[2]
    raise UserError(
        "unclassified", "`color` must be three whole numbers from 0 to 255", "mend it, or take it out", where=where
    )
