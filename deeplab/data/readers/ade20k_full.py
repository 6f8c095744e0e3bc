"""The full release ADE20K_2021_17_01: objects of some 3,000 names, as masks in colors, with a JSON file beside each.

The red and green channels of `NAME_seg.png` are the number of the object's name, red / 10 * 256 + green, 0 where
nothing is annotated; blue tells objects of one name apart, and is not read. `NAME.json` has these numbers with their
names (`name_ndx`, `name`), so that the index file of the release is not needed. Parts of objects (`NAME_parts_1.png`)
are not read. The format `ade20k` has the 150 classes of the scene parsing benchmark.

https://github.com/CSAILVision/ADE20K
"""

from __future__ import annotations

import os
import pathlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deeplab.config.fields import Config, setting
from deeplab.data.containers import read_content
from deeplab.data.images import decode_rgb
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_values import class_name, parse_json, require
from deeplab.data.readers.source import Painter, Pair, Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import list_files, read_file, require_folder
from deeplab.utils.text import shorten

_SPLITS = {"training": "train", "validation": "val"}  # by the name of a folder
_MASK = "_seg.png"
_MAX_NUMBER = 255 // 10 * 256 + 255  # of a name, as two channels can tell it


@dataclass(frozen=True)
class BuildAde20kFullConfig(Config):
    """Where the release is, and which names are classes."""

    ade20k_root: str = setting(
        "",
        "Folder of the release, ADE20K_2021_17_01, which contains images/ADE/training and validation.",
        required=True,
    )
    min_images: int = setting(
        1,
        "Names of objects in fewer training images than this are no classes: their pixels are ignored.",
        min=1,
        max=1_000_000,
        because="there are fewer images",
        unit="images",
    )


@dataclass(frozen=True)
class AdeObjects:
    """The mask of one image: numbers of names in two channels of a PNG file.

    Attributes:
      where: the PNG file.
      names: the names of the image's objects by number; an empty name is no class.
      size: None, as only the PNG file tells it.
    """

    where: str
    names: Mapping[int, str]
    size: None = None

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """Return the label of the mask's own size.

        Raises:
          UserError: the file cannot be read, or has numbers that the JSON file does not name (`label-out-of-range`).
        """
        pixels = decode_rgb(read_content(self.where), self.where).astype(np.uint16)
        numbers = pixels[..., 0] // 10 * 256 + pixels[..., 1]
        values = np.full(_MAX_NUMBER + 1, painter.ignore_label, painter.rule.dtype)
        present = np.flatnonzero(np.bincount(numbers.ravel(), minlength=len(values))).tolist()
        unknown = [number for number in present if number and number not in self.names]
        if unknown and not painter.rule.ignore_bad:
            rule = f"has objects whose name the JSON file beside it does not tell: {shorten(unknown)}"
            hint = "unpack the release again (`on_bad_label=ignore` ignores their pixels)"
            raise UserError("label-out-of-range", rule, hint, where=self.where, value=unknown)
        for number in present:
            if self.names.get(number):
                values[number] = painter.value(self.names[number], self.where)
        return values[numbers]


@register_format("ade20k_full", BuildAde20kFullConfig)
def read_ade20k_full(config: BuildAde20kFullConfig) -> Source:
    """Reads the splits train and val, with the names of all objects as classes, in the order of their numbers.

    Raises:
      UserError: the folder has no such files (`no-files`), images or masks are missing (`files-missing`), or a JSON
        file breaks the format.
    """
    root = config.ade20k_root
    require_folder(root, "ade20k_root")
    files = sorted(list_files(root))
    found = [name for name in files if name.endswith(".json") and _split_of(name)]
    if not found:
        rule = "contains no training/.../ADE_train_00000001.json"
        hint = "give the unpacked release of 2021, ADE20K_2021_17_01; format `ade20k` reads the scene parsing benchmark"
        raise UserError("no-files", rule, hint, where=root)
    known = set(files)
    expected = [f"{name.removesuffix('.json')}{ending}" for name in found for ending in (".jpg", _MASK)]
    missing = [name for name in expected if name not in known]
    if missing:
        rule = f"cannot find {len(missing)} images and masks of {len(found)} JSON files: {shorten(missing, 6)}"
        raise UserError("files-missing", rule, "unpack the release again", where=root, value=len(missing))
    objects = [_objects(os.path.join(root, name)) for name in console.progress(found, what="reading", unit="file")]
    names = _class_names(found, objects, config.min_images)
    splits: dict[str, list[Pair]] = {"train": [], "val": []}
    for name, of_image in zip(found, objects, strict=True):
        kept = {number: text if text in names else "" for number, text in of_image.names.items()}
        stem = name.removesuffix(".json")
        mask = AdeObjects(os.path.join(root, f"{stem}{_MASK}"), kept)
        image = os.path.join(root, f"{stem}.jpg")
        splits[_split_of(name)].append(Pair(os.path.basename(stem), image, mask))
    return Source({split: pairs for split, pairs in splits.items() if pairs}, tuple(names), drawn=True)


def _split_of(name: str) -> str:
    return next((split for folder, split in _SPLITS.items() if folder in pathlib.PurePath(name).parts[:-1]), "")


@dataclass
class _NamedObjects:
    """What a JSON file names: everything by its number, and the names of whole objects, which alone are in the mask."""

    names: dict[int, str]
    whole: set[str]


def _objects(path: str) -> _NamedObjects:
    """Reads the names in a JSON file; some of the release's files are not in UTF-8."""
    content = read_file(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    annotation = require(parse_json(text, path), "annotation", dict, path)
    found = _NamedObjects({}, set())
    for place, entry in enumerate(require(annotation, "object", (list, dict), path, []) or [], 1):
        where = f"{path}, object {place}"
        number, name = require(entry, "name_ndx", int, where), class_name(entry, "name", where)
        if not 0 < number <= _MAX_NUMBER:
            rule = f"'name_ndx' must be from 1 to {_MAX_NUMBER}, not {number}"
            raise UserError("out-of-range", rule, "unpack the release again", where=where, value=number)
        if found.names.setdefault(number, name) != name:
            rule = f"'name_ndx' {number} is {name!r}, but was {found.names[number]!r} before"
            raise UserError("class-mismatch", rule, "unpack the release again", where=where, value=name)
        if not require(require(entry, "parts", dict, where, {}), "part_level", int, where, 0):
            found.whole.add(name)
    return found


def _class_names(files: list[str], objects: list[_NamedObjects], min_images: int) -> dict[str, None]:
    """Returns the names that are classes, in the order of their numbers; those of parts alone are none.

    Raises:
      UserError: none is in so many training images (`out-of-range`).
    """
    images: Counter[str] = Counter()
    numbers: dict[str, int] = {}
    for file, of_image in zip(files, objects, strict=True):
        images.update(of_image.whole if _split_of(file) == "train" else ())
        for number, name in of_image.names.items():
            if name in of_image.whole:
                numbers[name] = min(number, numbers.get(name, number))
    kept = {name: number for name, number in numbers.items() if min_images == 1 or images[name] >= min_images}
    if not kept:
        rule, hint = f"no name is in {min_images} training images", "lower it"
        raise UserError("out-of-range", rule, hint, field="min_images", value=min_images)
    if len(kept) < len(numbers):
        left = len(numbers) - len(kept)
        console.note(f"{len(kept)} names are classes; {left} are in fewer than {min_images} training images: ignored")
    return dict.fromkeys(sorted(kept, key=kept.__getitem__))
