"""YOLO: a text file an image, a line a polygon, in shares of the image's width and height.

https://docs.ultralytics.com/datasets/segment/. A line is `class x1 y1 x2 y2 ...`, with classes from 0 and no
background; here the background is class 0, and their class i becomes i + 1.
"""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from deeplab.config.fields import setting
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import (
    DrawnConfig,
    ImageFinder,
    Tally,
    checked,
    in_words,
    require_pairs,
    require_plain,
)
from deeplab.data.readers.pairs import IMAGE_EXTENSIONS, read_list
from deeplab.data.readers.shapes import Shape, background_of, paint, polygon
from deeplab.data.readers.source import UNDIVIDED, Painter, Pair, Source, with_background
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import list_files, read_text, require_folder, shorten

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SLACK = 0.01  # of the image: points may lie so far outside, by rounding; what lies there is cut
_BOX = "lines are boxes, drawn as rectangles: this looks like data for detection"


@dataclass(frozen=True)
class BuildYoloConfig(DrawnConfig):
    """Where images, labels and names lie: all in data.yaml, or one by one."""

    data_yaml: str = setting("", "Ultralytics' data.yaml, with path, train, val, test and names.")
    image_folder: str = setting("", "Without data.yaml: folder of the images; subfolders count.")
    label_folder: str = setting("", "Without data.yaml: folder of the labels, NAME.txt for image NAME.jpg.")
    names: str = setting(
        "", "Without data.yaml: file of class names, one a line (unset: classes.txt among the labels)."
    )


@dataclass(frozen=True)
class YoloMask:
    """A mask that is drawn from one label file; see `source.Mask`.

    Attributes:
      where: the file, which may not be there: then the image has no shapes.
      names: YOLO's classes in their order.
      overlap: which shape covers which; see `shapes.paint`.
      size: always None, as coordinates are shares of whatever size the image has.
    """

    where: str
    names: tuple[str, ...]
    overlap: str
    size: tuple[int, int] | None = None

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """The label, uint8 [height, width].

        Raises:
          UserError: the file is not what it was.
        """
        lines = _read_lines(self.where, self.names) if os.path.isfile(self.where) else []
        shapes = [_shape(line, self.names, height, width) for line in lines]
        return paint(shapes, painter, self.where, height, width, self.overlap, background_of(painter))


@register_format("yolo", BuildYoloConfig)
def read_yolo(config: BuildYoloConfig) -> Source:
    """All images, in the splits of data.yaml or undivided; classes are the background and those that are listed.

    Raises:
      UserError: settings that contradict each other; files or folders that are missing; lines that are no polygons.
    """
    names, images = _from_yaml(config) if _has_yaml(config) else _from_folders(config)
    tally = Tally(config.skip_empty)
    for image in console.progress(images, what="reading labels", unit="file"):
        with tally.collecting():
            _take(image, names, tally, config)
    tally.report()
    require_pairs(tally, config.data_yaml or config.image_folder, "`skip_empty=false` keeps images without a shape")
    return Source(tally.splits, with_background(names), drawn=True)


@dataclass(frozen=True)
class _Image:
    """An image that was found: its split, its name, its path, and the path that its labels must have."""

    split: str
    name: str
    path: str
    labels: str


def _take(image: _Image, names: tuple[str, ...], tally: Tally, config: BuildYoloConfig) -> None:
    lines = _read_lines(image.labels, names) if os.path.isfile(image.labels) else []
    for line in lines:
        if line.is_box:
            tally.noted(_BOX, image.labels)
    mask = YoloMask(image.labels, names, config.overlap)
    tally.add(Pair(image.name, image.path, mask), image.labels, image.split, empty=not lines)


# --- Which images there are ---------------------------------------------------------------------------------


def _has_yaml(config: BuildYoloConfig) -> bool:
    others = [flag for flag in ("image_folder", "label_folder", "names") if getattr(config, flag)]
    if config.data_yaml and others:
        given = ", ".join(f"--{flag}" for flag in others)
        raise UserError(
            "unclassified",
            f"says what {given} would say again",
            f"leave {given} out, or `data_yaml`",
            field="data_yaml",
        )
    if not config.data_yaml and not (config.image_folder and config.label_folder):
        raise UserError(
            "unclassified", "is not given", "give it, or `image_folder`, `label_folder` and `names`", field="data_yaml"
        )
    return bool(config.data_yaml)


def _from_folders(config: BuildYoloConfig) -> tuple[tuple[str, ...], list[_Image]]:
    require_folder(config.image_folder, "`image_folder`")
    require_folder(config.label_folder, "`label_folder`")
    listed = config.names or os.path.join(config.label_folder, "classes.txt")
    if not os.path.isfile(listed):
        raise UserError(
            "unclassified", f"no such file: {listed}", "write the class names into a file, one a line", field="names"
        )
    images = []
    for path in _images_in(config.image_folder):
        stem = os.path.splitext(path)[0]
        labels = os.path.join(config.label_folder, f"{stem}.txt")
        images.append(_Image(UNDIVIDED, stem, os.path.join(config.image_folder, path), labels))
    _require_labels(images, config.image_folder)
    _tell_of_lonely(config.label_folder, {image.labels for image in images} | {listed})
    return _checked_names(read_list(listed), listed), images


def _tell_of_lonely(folder: str, known: set[str]) -> None:
    texts = [name for name in list_files(folder) if name.endswith(".txt")]
    lonely = [name for name in texts if os.path.join(folder, name) not in known and name != "classes.txt"]
    if lonely:
        console.warning(f"{folder}: {len(lonely)} labels without an image left out: {shorten(lonely)}")


def _from_yaml(config: BuildYoloConfig) -> tuple[tuple[str, ...], list[_Image]]:
    file = pathlib.Path(config.data_yaml)
    content = _read_yaml(file)
    names = _names_of(content, str(file))
    root = _root(content, file)
    found: dict[str, list[str]] = {}
    for key, split in _SPLITS.items():
        found.setdefault(split, []).extend(_images_of(content[key], key, root, file) if content.get(key) else [])
    if not any(found.values()):
        raise UserError(
            "unclassified", "names no images", "write train: and val: with the folders of the images", where=file
        )
    common = os.path.commonpath([os.path.dirname(path) for paths in found.values() for path in paths])
    images = [
        _Image(split, _name_in(path, common), path, _labels_of(path))
        for split, paths in found.items()
        for path in dict.fromkeys(paths)
    ]
    _require_labels(images, str(file))
    return names, images


def _images_in(folder: str) -> list[str]:
    """Images of a folder and its subfolders, as paths within it."""
    found = [name for name in list_files(folder) if os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS]
    if not found:
        raise UserError(
            "unclassified",
            f"holds no image ({', '.join(IMAGE_EXTENSIONS)})",
            "give the folder of the images",
            where=folder,
        )
    return found


def _require_labels(images: Sequence[_Image], where: str) -> None:
    if not any(os.path.isfile(image.labels) for image in images):
        rule = f"none of the {len(images)} images has labels: {images[0].path} would have {images[0].labels}"
        raise UserError(
            "unclassified",
            rule,
            "labels lie as images do, with `labels` for `images` in the path, as .txt",
            where=where,
        )


def _labels_of(image: str) -> str:
    """Path of an image's labels: the last folder `images` becomes `labels`; if nothing is there, beside the image."""
    beside = os.path.splitext(image)[0] + ".txt"
    parts = list(pathlib.PurePath(beside).parts)
    places = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if not places:
        return beside
    parts[places[-1]] = "labels"
    path = os.path.join(*parts)
    return beside if os.path.isfile(beside) and not os.path.isfile(path) else path


def _name_in(path: str, common: str) -> str:
    """What a pair is called: its path below what all images share, without the folders called `images`."""
    inside = pathlib.PurePath(path).relative_to(common).with_suffix("")
    return "/".join([*(part for part in inside.parts[:-1] if part != "images"), inside.name])


# --- data.yaml ----------------------------------------------------------------------------------------------


def _read_yaml(file: pathlib.Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(read_text(file))
    except RecursionError:
        raise UserError("unclassified", "is nested too deep for a data.yaml", where=file) from None
    except (yaml.YAMLError, ValueError) as fault:
        mark = getattr(fault, "problem_mark", None)
        reason = f"{fault.problem} in line {mark.line + 1}" if mark else " ".join(str(fault).split())[:200]  # type: ignore
        raise UserError(
            "unclassified", f"is not YAML: {reason}", "see docs.ultralytics.com/datasets/segment", where=file
        ) from None
    checked(content, dict, "it", str(file))
    if content.get("kpt_shape") is not None:
        raise UserError(
            "unclassified",
            "describes key points (`kpt_shape`), which have no area",
            "use data for segmentation",
            where=file,
        )
    return content


def _names_of(content: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The class names: a list, or an object with the keys 0, 1, 2 ..."""
    names = checked(content.get("names"), (list, dict), "`names`", where)
    if isinstance(names, dict):
        keys = [str(key) for key in names]
        if sorted(keys) != sorted(map(str, range(len(keys)))):
            rule = f"`names` must number the classes 0, 1, 2 ..., not {shorten(keys)}"
            raise UserError(
                "unclassified", rule, "give every class a name: labels count from 0 without gaps", where=where
            )
        names = [names[key] for _, key in sorted(zip(map(int, keys), names, strict=True))]
    number = content.get("nc")
    if number is not None and number != len(names):
        rule = f"`nc` is {in_words(number)}, but `names` has {len(names)} classes"
        raise UserError("unclassified", rule, "one of the two is wrong", where=where)
    return _checked_names(names, where)


def _checked_names(names: Sequence[Any], where: str) -> tuple[str, ...]:
    for index, name in enumerate(names):
        if isinstance(name, bool) or not isinstance(name, (str, int)) or not str(name).strip():
            rule = f"the name of class {index} must be text, not {in_words(name)}"
            raise UserError(
                "unclassified",
                rule,
                'put it in quotes: YAML reads "yes", "no", "on" and "off" as true and false',
                where=where,
            )
        require_plain(str(name).strip(), f"the name of class {index}", where)
    found = tuple(str(name).strip() for name in names)
    repeated = [name for name in dict.fromkeys(found) if found.count(name) > 1]
    if repeated or not found:
        rule = f"names {shorten(repeated)} more than once" if repeated else "names no class"
        raise UserError("unclassified", rule, "each class needs a name of its own", where=where)
    return found


def _root(content: Mapping[str, Any], file: pathlib.Path) -> pathlib.Path:
    """What paths in data.yaml are relative to: `path`, itself relative to the file's folder, or else that folder."""
    stated = checked(content.get("path") or "", str, "`path`", str(file))
    root = file.parent / stated
    return root if os.path.isdir(root) else file.parent  # Ultralytics' own files name a folder of its settings


def _images_of(entry: Any, key: str, root: pathlib.Path, file: pathlib.Path) -> list[str]:
    """Paths of the images of a split: of a folder, of a list of folders, or of the lines of a .txt file."""
    found: list[str] = []
    for place in entry if isinstance(entry, list) else [entry]:
        path = _place(checked(place, str, f"`{key}`", str(file)), key, root, file)
        if os.path.isdir(path):
            found += [os.path.join(path, name) for name in _images_in(path)]
        else:
            found += _images_listed(path, root)
    return found


def _place(entry: str, key: str, root: pathlib.Path, file: pathlib.Path) -> str:
    """An existing folder or list. Roboflow writes `../train/images` where `train/images` is meant."""
    tried = [base / end for base in (root, file.parent) for end in (entry, entry.removeprefix("../"))]
    for path in tried:
        if os.path.isdir(path) or (path.suffix == ".txt" and os.path.isfile(path)):
            return os.path.abspath(path)
    rule = f"`{key}` is {entry[:200]!r}, but there is no folder and no list of images {tried[0]}"
    raise UserError(
        "unclassified",
        rule,
        "`path` is relative to the file's folder, train, val and test are relative to `path`",
        where=file,
    )


def _images_listed(file: str, root: pathlib.Path) -> list[str]:
    """Images that a list names, one a line; they must lie in the dataset's folder."""
    finder = ImageFinder(os.path.abspath(root), "`path` in data.yaml")
    beside = os.path.relpath(os.path.dirname(file), os.path.abspath(root)).replace(os.sep, "/")
    inside = "" if beside.startswith(".") else beside
    return [finder.find(name, f"{file}, line {number}", inside) for number, name in enumerate(read_list(file), 1)]


# --- Labels -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """One line of a label file: where it stands, the class, and the numbers after it, in shares of the image."""

    where: str
    label: int
    numbers: tuple[float, ...]

    @property
    def is_box(self) -> bool:
        """Center, width and height instead of a polygon."""
        return len(self.numbers) == 4


def _read_lines(path: str, names: Sequence[str]) -> list[_Line]:
    texts = enumerate(read_text(path).splitlines(), 1)
    return [_parse(text, f"{path}, line {number}", names) for number, text in texts if text.strip()]


def _parse(text: str, where: str, names: Sequence[str]) -> _Line:
    try:
        label, *numbers = (float(word) for word in text.split())
    except ValueError:
        rule = f"must be `class x1 y1 x2 y2 ...` in numbers, not {text.strip()[:60]!r}"
        raise UserError("unclassified", rule, "export it again, or mend the line", where=where) from None
    _require_class(label, where, names)
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        rule = f"has {len(numbers)} numbers after the class; a polygon has pairs of x and y, 3 at least"
        odd = "if the last is a confidence, take it out" if len(numbers) > 4 and len(numbers) % 2 else "take it out"
        raise UserError("unclassified", rule, odd, where=where)
    for number in numbers:
        if not -_SLACK <= number <= 1 + _SLACK:
            rule = f"{number:g} is outside of 0 to 1: coordinates are shares of the image's width and height"
            raise UserError(
                "unclassified", rule, "divide x by the width and y by the height, if these are pixels", where=where
            )
    return _Line(where, int(label), tuple(numbers))


def _require_class(label: float, where: str, names: Sequence[str]) -> None:
    if not (math.isfinite(label) and label == int(label) and 0 <= label < len(names)):
        rule = f"class {label:g} is none of the {len(names)} in `names`, which count from 0"
        raise UserError("unclassified", rule, "add its name, or mend the line", where=where)


def _shape(line: _Line, names: Sequence[str], height: int, width: int) -> Shape:
    numbers: Sequence[float] = line.numbers
    if line.is_box:
        x, y, wide, high = numbers
        left, right, top, bottom = x - wide / 2, x + wide / 2, y - high / 2, y + high / 2
        numbers = (left, top, right, top, right, bottom, left, bottom)
    points = np.reshape(numbers, (-1, 2)) * (width, height)
    return polygon(names[line.label], points, where=line.where)
