"""COCO's panoptic format: a JSON file, and for each image a PNG of segments; also of Cityscapes and Mapillary Vistas.

The color of a pixel is the number of its segment, red + 256 * green + 65536 * blue, and the JSON file gives the
category of each segment. 0 means that nothing is annotated: these pixels are ignored. Objects of one category become
one class, and crowds are pixels of their category, as in COCO's own conversion to semantic segmentation.

https://cocodataset.org/#format-data
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.config.fields import Config, setting
from deeplab.data.containers import read_content
from deeplab.data.images import decode_rgb
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import files_by_split
from deeplab.data.readers.annotation_values import image_size, read_json, require
from deeplab.data.readers.coco import Categories, id_in, shown_id
from deeplab.data.readers.collector import PairNames
from deeplab.data.readers.image_finder import ImageFinder, image_finders
from deeplab.data.readers.source import Painter, Pair, Source
from deeplab.utils import console
from deeplab.utils.errors import MAX_ERRORS, UserError, joined
from deeplab.utils.text import shorten

_UNLABELED = 0  # number of pixels that belong to no segment
_CITYSCAPES = "_gtFine_leftImg8bit", "_leftImg8bit"  # its script names the images so, and what they are called
_KEYS = ("images", "annotations", "categories")
_HINT = "use panoptic_train2017.json, for example; the format `coco` reads instances_*.json and stuff_*.json"


@dataclass(frozen=True)
class BuildCocoPanopticConfig(Config):
    """Where annotation files, their PNG files and the images are."""

    annotations: str = setting(
        "",
        "JSON files, with commas, such as panoptic_train2017.json,panoptic_val2017.json. train:FILE,val:FILE names the "
        "splits; otherwise the names of the files or folders tell them.",
        required=True,
    )
    mask_folder: str = setting(
        "",
        "Folder of the PNG files, or several with their splits, as for `image_folder` (unset: beside each JSON file, "
        "called as it is).",
    )
    image_folder: str = setting(
        "", "Folder of the images; train:FOLDER,val:FOLDER if each split has its own (unset: that of the JSON file)."
    )
    on_missing: str = setting(
        "fail",
        "Images or PNG files that annotations name but that do not exist: stop, or leave them out.",
        choices=("fail", "skip"),
    )


@dataclass(frozen=True)
class PanopticMask:
    """The mask of one image: numbers of segments in the colors of a PNG file.

    Attributes:
      where: the PNG file.
      names: the class of each segment by its number.
      size: height and width that the JSON file states, or None.
    """

    where: str
    names: Mapping[int, str]
    size: tuple[int, int] | None = None

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """Return the label, of the size of the PNG file.

        Raises:
          UserError: the file cannot be read, or has segments that the JSON file does not list (`label-out-of-range`).
        """
        colors = decode_rgb(read_content(self.where), self.where).astype(np.uint32)
        numbers, places = np.unique(colors @ np.array([1, 256, 65536], np.uint32), return_inverse=True)
        present = numbers.tolist()
        unknown = [number for number in present if number not in self.names and number != _UNLABELED]
        if unknown and not painter.rule.ignore_bad:
            rule = f"has segments that the JSON file does not list: {shorten(list(map(str, unknown)))}"
            hint = "take both from one release (`on_bad_label=ignore` ignores their pixels)"
            raise UserError("label-out-of-range", rule, hint, where=self.where, value=unknown)
        values = np.full(len(present), painter.ignore_label, painter.rule.dtype)
        for place, number in enumerate(present):
            if number in self.names:
                values[place] = painter.value(self.names[number], self.where)
        return values[places.reshape(colors.shape[:2])]


@register_format("coco_panoptic", BuildCocoPanopticConfig)
def read_coco_panoptic(config: BuildCocoPanopticConfig) -> Source:
    """Reads a dataset in COCO's panoptic format, with the categories as classes, in the order of their ids.

    Raises:
      UserError: files that cannot be read, break the format, or name images or PNG files that do not exist.
    """
    files = files_by_split(config.annotations, "annotations", ".json")
    reader = _PanopticReader(config.on_missing == "skip")
    images = image_finders(config.image_folder, files)
    if config.mask_folder:
        masks = image_finders(config.mask_folder, files, "mask_folder")
    else:
        masks = [ImageFinder(os.path.splitext(path)[0], "mask_folder") for _, path in files]
    for (split, path), image_finder, mask_finder in zip(files, images, masks, strict=True):
        reader.read(_File(path, split, image_finder, mask_finder))
    reader.report()
    if not any(reader.splits.values()):
        hint = "check that the files list images, and annotations of them"
        raise UserError("no-pairs", "there is no image with annotations", hint, where=config.annotations)
    names = tuple(reader.categories.names())
    return Source(reader.splits, names, reader.categories.colors(names), drawn=True)


@dataclass(frozen=True)
class _File:
    """A JSON file, the split of its images, and where these and their PNG files are."""

    path: str
    split: str
    images: ImageFinder
    masks: ImageFinder


class _PanopticReader:
    """Pairs, collected from one file after the other.

    Args:
      skips: leave out images without a file, or without a PNG file.
    """

    def __init__(self, skips: bool):
        self.skips = skips
        self.categories = Categories(lambda text, name: console.note(f"{text}: {name}"))
        self.splits: dict[str, list[Pair]] = {}
        self._names = PairNames()
        self._errors: list[UserError] = []
        self._missing: list[str] = []
        self._without: list[str] = []

    def read(self, file: _File) -> None:
        """Reads one file; what is wrong with single images is kept for `report`.

        Raises:
          UserError: it is not a panoptic file, its categories contradict an earlier file's, or there are ten errors.
        """
        path = file.path
        content = read_json(path)
        missing = [key for key in _KEYS if not isinstance(content, dict) or key not in content]
        if missing:
            rule = f"is not a panoptic file: it has no {', '.join(map(repr, missing))}"
            raise UserError("wrong-format", rule, _HINT, where=path)
        annotations = require(content, "annotations", list, path)
        if annotations and not (isinstance(annotations[0], dict) and "segments_info" in annotations[0]):
            raise UserError("wrong-format", "is not a panoptic file: it has no 'segments_info'", _HINT, where=path)
        self.categories.add(content, path)
        by_image: dict[int | str, tuple[str, dict[int, str]]] = {}
        for number, annotation in enumerate(annotations, 1):
            where = f"{path}, annotation number {number}"
            identity = id_in(annotation, "image_id", where)
            if identity in by_image:
                rule, hint = f"image {identity!r} has several annotations", "each image has one, with all its segments"
                raise UserError("duplicate-id", rule, hint, where=where, value=identity)
            by_image[identity] = require(annotation, "file_name", str, where), self._segments(annotation, where)
        pairs = self.splits.setdefault(file.split, [])
        for number, entry in enumerate(require(content, "images", list, path), 1):
            try:
                pair = self._pair(entry, f"{path}, image {shown_id(entry, number)}", file, by_image)
            except UserError as error:
                self._keep(error)
            else:
                pairs += [pair] if pair else []
        if by_image:
            rule = f"{len(by_image)} annotations are of images that are not in the list 'images': "
            self._keep(UserError("unknown-id", rule + shorten(list(map(str, by_image))), _HINT, where=path))

    def _segments(self, annotation: Any, where: str) -> dict[int, str]:
        """The class of each segment of an image."""
        names: dict[int, str] = {}
        for place, segment in enumerate(require(annotation, "segments_info", list, where), 1):
            within = f"{where}, segment {place}"
            number = require(segment, "id", int, within)
            if not 0 < number < 2**24:
                rule = f"'id' must be from 1 to {2**24 - 1}, as a color can tell it, not {number}"
                raise UserError("out-of-range", rule, "export it again", where=within, value=number)
            name = self.categories.name(id_in(segment, "category_id", within), within)
            if name is not None:
                names[number] = name
        return names

    def _pair(
        self, entry: Any, where: str, file: _File, by_image: dict[int | str, tuple[str, dict[int, str]]]
    ) -> Pair | None:
        """The pair of an image, whose annotation is taken out of `by_image`; None where there is none."""
        identity = id_in(entry, "id", where)
        stored = require(entry, "file_name", str, where).replace(*_CITYSCAPES)
        if identity not in by_image:
            self._without.append(stored)
            return None
        png, names = by_image.pop(identity)
        image = file.images.find(stored, where, file.images.beside(file.path))
        mask = file.masks.find(png, where, file.masks.beside(file.path))
        name = self._names.unused(file.split, file.images.name(image), image, where)
        return Pair(name, image, PanopticMask(mask, names, image_size(entry, "height", "width", where)))

    def _keep(self, error: UserError) -> None:
        if self.skips and error.code in ("image-not-found", "unknown-id"):
            self._missing.append(str(error.value or error.where)[:200])
            return
        self._errors.append(error)
        if len(self._errors) == MAX_ERRORS:
            self.report()

    def report(self) -> None:
        """Prints a warning of images that are left out.

        Raises:
          UserError: errors were kept; up to ten are named.
        """
        if self._errors:
            raise joined(self._errors, "more errors")
        if self._missing:
            console.warning(f"{len(self._missing)} images or PNG files not found, left out: {shorten(self._missing)}")
        if self._without:
            console.warning(f"{len(self._without)} images without an annotation left out: {shorten(self._without)}")
