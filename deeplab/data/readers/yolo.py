"""YOLO: one text file per image, one line per polygon, in fractions of the image's width and height.

https://docs.ultralytics.com/datasets/segment/. A line is `class x1 y1 x2 y2 ...`, with classes from 0 and no
background; here the background is class 0, and their class i becomes i + 1.
"""

from __future__ import annotations

import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from deeplab.config.conversion_config import DrawnConfig
from deeplab.config.fields import setting
from deeplab.data.image_files import IMAGE_EXTENSIONS
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_values import checked, in_words, require_plain
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.image_finder import ImageFinder, safe_parts
from deeplab.data.readers.name_lists import canonical, numbered_names, read_list, splits_in_folders
from deeplab.data.readers.shapes import FRACTIONS, Shape, polygon
from deeplab.data.readers.source import Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import list_files, read_text, require_folder
from deeplab.utils.text import counted, shorten

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SLACK = {"fail": 0.01, "cut": 1.0}  # of the image, by `on_outside`: points may be so far outside, and are cut off
_BOX = "lines are boxes, drawn as rectangles: this looks like data for detection"


@dataclass(frozen=True)
class BuildYoloConfig(DrawnConfig):
    """Where images, labels and names are: all in data.yaml, or one by one."""

    data_yaml: str = setting("", "Ultralytics' data.yaml, with path, train, val, test and names.")
    image_folder: str = setting("", "Without data.yaml: folder of the images; subfolders count.")
    label_folder: str = setting("", "Without data.yaml: folder of the labels, NAME.txt for image NAME.jpg.")
    names: str = setting(
        "", "Without data.yaml: file of class names, one per line (unset: classes.txt among the labels)."
    )


@register_format("yolo", BuildYoloConfig)
def read_yolo(config: BuildYoloConfig) -> Source:
    """Reads all images, in the splits of data.yaml or of folders; classes are the background and those listed.

    Raises:
      UserError: settings that contradict each other; files or folders that do not exist; lines that are not polygons.
    """
    names, images = _from_yaml(config) if _has_yaml(config) else _from_folders(config)
    collector = Collector(config)
    for image in console.progress(images, what="reading labels", unit="file"):
        with collector.catching():
            lines = _read_lines(image.labels, names, _SLACK[config.on_outside]) if os.path.isfile(image.labels) else []
            for line in lines:
                if line.is_box:
                    collector.note(_BOX, image.labels)
            shapes = [line.shape(names) for line in lines]
            collector.add(image.name, image.path, image.labels, shapes, FRACTIONS, image.split)
    collector.report()
    collector.require_pairs(config.data_yaml or config.image_folder, "`skip_empty=false` keeps images without a shape")
    return Source(collector.splits, collector.class_names(names), drawn=True)


@dataclass(frozen=True)
class _YoloImage:
    """An image that was found: its split, its name, its path, and the path that its labels must have."""

    split: str
    name: str
    path: str
    labels: str


# --- Which images there are ---------------------------------------------------------------------------------


def _has_yaml(config: BuildYoloConfig) -> bool:
    others = [field for field in ("image_folder", "label_folder", "names") if getattr(config, field)]
    if config.data_yaml and others:
        given = ", ".join(f"`{field}`" for field in others)
        rule, hint = f"already says what {given} would say", f"leave out {given}, or `data_yaml`"
        raise UserError("conflicting-settings", rule, hint, field="data_yaml")
    if not config.data_yaml and not (config.image_folder and config.label_folder):
        hint = "set it, or `image_folder`, `label_folder` and `names`"
        raise UserError("missing-setting", "is not set", hint, field="data_yaml")
    return bool(config.data_yaml)


def _from_folders(config: BuildYoloConfig) -> tuple[tuple[str, ...], list[_YoloImage]]:
    require_folder(config.image_folder, "image_folder")
    require_folder(config.label_folder, "label_folder")
    listed = config.names or os.path.join(config.label_folder, "classes.txt")
    if not os.path.isfile(listed):
        hint = "write the class names into a file, one per line"
        raise UserError("file-not-found", f"no such file: {listed}", hint, field="names", value=listed)
    paths = _images_in(config.image_folder)
    stems = [os.path.splitext(path)[0] for path in paths]
    images = [
        _YoloImage(split, canonical(stem), *(os.path.join(*parts) for parts in places))
        for split, stem, path in zip(splits_in_folders(stems), stems, paths, strict=True)
        for places in [((config.image_folder, path), (config.label_folder, f"{stem}.txt"))]
    ]
    _require_labels(images, config.image_folder)
    texts = [name for name in list_files(config.label_folder) if name.endswith(".txt") and name != "classes.txt"]
    known = {image.labels for image in images} | {listed}
    unused = [name for name in texts if os.path.join(config.label_folder, name) not in known]
    if unused:
        number = counted(len(unused), "label")
        console.warning(f"{config.label_folder}: {number} without an image left out: {shorten(unused)}")
    return _checked_names(read_list(listed), listed), images


def _from_yaml(config: BuildYoloConfig) -> tuple[tuple[str, ...], list[_YoloImage]]:
    file = pathlib.Path(config.data_yaml)
    content = _read_yaml(file)
    names = _names_of(content, str(file))
    root = _root(content, file)
    collector = Collector(config)
    found: dict[str, list[str]] = {}
    for key, split in _SPLITS.items():
        images = _images_of(content[key], key, root, file, collector) if content.get(key) else []
        found.setdefault(split, []).extend(images)
    collector.report()
    if not any(found.values()):
        hint = "write 'train:' and 'val:' with the folders of the images"
        raise UserError("missing-key", "names no images", hint, where=file)
    common = os.path.commonpath([os.path.dirname(path) for paths in found.values() for path in paths])
    listed = [
        _YoloImage(split, _name_in(path, common), path, _labels_of(path))
        for split, paths in found.items()
        for path in dict.fromkeys(paths)
    ]
    _require_labels(listed, str(file))
    return names, listed


def _images_in(folder: str) -> list[str]:
    """Returns the images of a folder and its subfolders, as paths in it."""
    found = [name for name in list_files(folder) if os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS]
    if not found:
        rule = f"contains no image ({', '.join(IMAGE_EXTENSIONS)})"
        raise UserError("no-files", rule, "set the folder of the images", where=folder)
    return found


def _require_labels(images: Sequence[_YoloImage], where: str) -> None:
    if not any(os.path.isfile(image.labels) for image in images):
        rule = f"none of the {len(images)} images has labels: {images[0].path} would have {images[0].labels}"
        hint = "labels have the paths of the images, with 'labels' instead of 'images' and .txt at the end"
        raise UserError("no-files", rule, hint, where=where)


def _labels_of(image: str) -> str:
    """Returns the path of an image's labels: the last folder `images` becomes `labels`; else beside the image."""
    beside = os.path.splitext(image)[0] + ".txt"
    parts = list(pathlib.PurePath(beside).parts)
    places = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if not places:
        return beside
    parts[places[-1]] = "labels"
    path = os.path.join(*parts)
    return beside if os.path.isfile(beside) and not os.path.isfile(path) else path


def _name_in(path: str, common: str) -> str:
    """Returns the name of a pair: its path below what all images share, without the folders called `images`."""
    inside = pathlib.PurePath(path).relative_to(common).with_suffix("")
    return canonical("/".join([*(part for part in inside.parts[:-1] if part != "images"), inside.name]))


# --- data.yaml ----------------------------------------------------------------------------------------------


def _read_yaml(file: pathlib.Path) -> dict[str, Any]:
    text = read_text(file)
    hint = "see docs.ultralytics.com/datasets/segment"
    try:
        content = _parsed(text)
    except RecursionError:
        raise UserError("invalid-yaml", "is nested too deeply", hint, where=file) from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = f"{error.problem} in line {mark.line + 1}" if mark else " ".join(str(error).split())[:200]  # type: ignore
        raise UserError("invalid-yaml", f"is not YAML: {reason}", hint, where=file) from None
    checked(content, dict, "it", str(file))
    if content.get("kpt_shape") is not None:
        rule = "describes key points ('kpt_shape'), which have no area"
        raise UserError("wrong-format", rule, "use data for segmentation", where=file)
    return content


def _parsed(text: str) -> Any:
    """Parses YAML. Backslashes in double quotes, as in Windows paths, are read as slashes if nothing else will do."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        if "\\" not in text:
            raise
        return yaml.safe_load(text.replace("\\", "/"))


def _names_of(content: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Returns the class names: a list, or an object with the keys 0, 1, 2 ..."""
    names = checked(content.get("names"), (list, dict), "'names'", where)
    if isinstance(names, dict):
        keys = [str(key) for key in names]
        if sorted(keys) != sorted(map(str, range(len(keys)))):
            rule = f"'names' must number the classes 0, 1, 2 ..., not {shorten(keys)}"
            hint = "give every class a name: labels count from 0 without gaps"
            raise UserError("missing-class-names", rule, hint, where=where, value=tuple(keys))
        names = [names[key] for _, key in sorted(zip(map(int, keys), names, strict=True))]
    number = content.get("nc")
    if number is not None and number != len(names):
        rule = f"'nc' is {in_words(number)}, but 'names' has {len(names)} classes"
        raise UserError("class-count-mismatch", rule, "correct one of the two", where=where, value=number)
    return _checked_names(names, where)


def _checked_names(names: Sequence[Any], where: str) -> tuple[str, ...]:
    for index, name in enumerate(names):
        if isinstance(name, bool) or not isinstance(name, (str, int)) or not str(name).strip():
            rule = f"the name of class {index} must be text, not {in_words(name)}"
            hint = 'put it in quotes: YAML reads "yes", "no", "on" and "off" as true and false'
            raise UserError("wrong-type", rule, hint, where=where)
        require_plain(str(name).strip(), f"the name of class {index}", where)
    found = tuple(str(name).strip() for name in names)
    repeated = [name for name in dict.fromkeys(found) if found.count(name) > 1]
    if repeated:
        rule, hint = f"names {shorten(repeated)} more than once", "give each class a name of its own"
        raise UserError("duplicate-name", rule, hint, where=where, value=tuple(repeated))
    if not found:
        raise UserError("missing-class-names", "names no class", "list the class names", where=where)
    return found


def _root(content: Mapping[str, Any], file: pathlib.Path) -> pathlib.Path:
    """Returns what paths in data.yaml are relative to: `path`, itself relative to the file's folder, or that folder."""
    stated = checked(content.get("path") or "", str, "'path'", str(file))
    root = file.parent / stated
    return root if os.path.isdir(root) else file.parent  # Ultralytics' own files name a folder of its settings


def _images_of(entry: Any, key: str, root: pathlib.Path, file: pathlib.Path, collector: Collector) -> list[str]:
    """Returns the images of a split: of a folder, of a list of folders, or of the lines of a .txt file."""
    found: list[str] = []
    for place in entry if isinstance(entry, list) else [entry]:
        path = _place(checked(place, str, f"'{key}'", str(file)), key, root, file)
        if os.path.isdir(path):
            found += [os.path.join(path, name) for name in _images_in(path)]
        else:
            found += _images_listed(path, root, collector)
    return found


def _place(entry: str, key: str, root: pathlib.Path, file: pathlib.Path) -> str:
    """Returns an existing folder or list: of the path or of its end, as it may come from another machine.

    Roboflow writes `../train/images` where `train/images` is meant.
    """
    parts = safe_parts(entry)
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    tried = [base / end for end in (entry, *ends) for base in (root, file.parent)]
    for path in tried:
        if os.path.isdir(path) or (path.suffix == ".txt" and os.path.isfile(path)):
            return os.path.abspath(path)
    rule = f"'{key}' is {entry[:200]!r}, but there is no folder and no list of images {tried[0]}"
    hint = "'path' is relative to the file's folder, 'train', 'val' and 'test' are relative to 'path'"
    raise UserError("folder-not-found", rule, hint, where=file, value=entry)


def _images_listed(file: str, root: pathlib.Path, collector: Collector) -> list[str]:
    """Returns the images that a list names, one per line; they must be in the dataset's folder."""
    finder = ImageFinder(os.path.abspath(root), "data_yaml")
    beside = os.path.relpath(os.path.dirname(file), os.path.abspath(root)).replace(os.sep, "/")
    inside = "" if beside.startswith(".") else beside
    found = []
    for number, name in numbered_names(file):
        with collector.catching():
            found.append(finder.find(name, f"{file}, line {number}", inside))
    return found


# --- Labels -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _YoloLine:
    """One line of a label file: its place, the class, and the numbers after it, in fractions of the image."""

    where: str
    label: int
    numbers: tuple[float, ...]

    @property
    def is_box(self) -> bool:
        """Center, width and height instead of a polygon."""
        return len(self.numbers) == 4

    def shape(self, names: Sequence[str]) -> Shape:
        """The area that the line describes, in fractions of the image."""
        numbers: Sequence[float] = self.numbers
        if self.is_box:
            x, y, wide, high = numbers
            left, right, top, bottom = x - wide / 2, x + wide / 2, y - high / 2, y + high / 2
            numbers = (left, top, right, top, right, bottom, left, bottom)
        return polygon(names[self.label], np.reshape(numbers, (-1, 2)), where=self.where)


def _read_lines(path: str, names: Sequence[str], slack: float) -> list[_YoloLine]:
    texts = enumerate(read_text(path).splitlines(), 1)
    return [_parse(text, f"{path}, line {number}", names, slack) for number, text in texts if text.strip()]


def _parse(text: str, where: str, names: Sequence[str], slack: float) -> _YoloLine:
    if "," in text and "." not in text and len(text.split()) > 1 and not re.search(r",\s", text):
        rule = f"has commas within its numbers: {text.strip()[:60]!r}"
        raise UserError("wrong-type", rule, "write decimal points, and spaces between the numbers", where=where)
    try:
        label, *numbers = (float(word) for word in re.split(r"[\s,;]+", text.strip(" \t\r\n,;")))
    except ValueError:
        rule = f"must be `class x1 y1 x2 y2 ...` in numbers, not {text.strip()[:60]!r}"
        raise UserError("wrong-type", rule, "export it again, or correct the line", where=where) from None
    _require_class(label, where, names)
    if len(numbers) % 2 or not numbers:
        rule = f"has {len(numbers)} numbers after the class; a polygon has pairs of x and y"
        hint = "if the last one is a confidence, remove it" if len(numbers) > 4 else "remove it"
        raise UserError("invalid-points", rule, hint, where=where, value=len(numbers))
    for number in numbers:
        if not -slack <= number <= 1 + slack:
            rule = f"{number:g} is outside of 0 to 1: coordinates are fractions of the image's width and height"
            hint = "divide x by the width and y by the height, if these are pixels"
            if -_SLACK["cut"] <= number <= 1 + _SLACK["cut"]:
                hint += "; `on_outside=cut` cuts off what is outside"
            raise UserError("out-of-range", rule, hint, where=where, value=number)
    return _YoloLine(where, int(label), tuple(numbers))


def _require_class(label: float, where: str, names: Sequence[str]) -> None:
    if not (math.isfinite(label) and label == int(label) and 0 <= label < len(names)):
        rule = f"class {label:g} is none of the {len(names)} class names, which count from 0"
        raise UserError("unknown-class", rule, "add its name, or correct the line", where=where, value=label)
