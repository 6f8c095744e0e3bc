"""What all readers of annotation files share: checked access to JSON, images by name, and what is reported at the end.

Nothing in an annotation file is trusted: every value is read with the type that it must have, and no name in a file is
ever opened as a path.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from deeplab.config.conversion_config import DrawnConfig, FilePerImageConfig
from deeplab.data.class_names import is_ignored, with_background
from deeplab.data.image_files import IMAGE_EXTENSIONS
from deeplab.data.readers.pairs import canonical, paths_by_split
from deeplab.data.readers.shapes import FRACTIONS, Shape, ShapesMask
from deeplab.data.readers.source import UNDIVIDED, Pair
from deeplab.data.split_names import split_in
from deeplab.utils import console
from deeplab.utils.errors import MAX_ERRORS, UserError, joined
from deeplab.utils.paths import list_files, read_text, require_folder
from deeplab.utils.text import shorten

_REQUIRED: Any = object()
_FOLDER = "annotation_folder"
_MAX_NAMED = 5  # files in a warning
_MAX_CELL = 2**31 - 1  # characters of a cell of a CSV file
_MAX_NUMBER = 1e15  # no count, size or coordinate is larger; above it, floats are not exact integers
_NO_AREA = "shapes without an area left out"
_OUTSIDE = "images have shapes that reach far outside, as if they had been resized or cropped after annotating"
_MAX_OUTSIDE = 5  # images with such shapes that are slips of the mouse
_MAX_OUTSIDE_FRACTION = 0.1  # of the images with shapes
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # half a character: JSON allows it, terminals and file systems do not
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HEX_COLOR = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})(?:[0-9a-fA-F]{2})?")
_ORIENTATION = 274  # the EXIF tag
_TYPE_WORDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "null",
}


# --- JSON ---------------------------------------------------------------------------------------------------


def read_json(path: str | os.PathLike) -> Any:
    """Reads a JSON file.

    Raises:
      UserError: it cannot be read, is not JSON, or contains NaN, Infinity, broken characters or endless nesting.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str, path: str | os.PathLike) -> Any:
    """Parses JSON.

    Args:
      text: the content of a file, or of a line of it.
      path: its name, for messages.

    Raises:
      UserError: as `read_json`.
    """
    hint = "export it again, or copy it again"
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError:
        raise UserError("invalid-json", "is nested too deeply", hint, where=path) from None
    except UnicodeEncodeError:
        rule = r"contains half a character (\ud800 to \udfff)"
        raise UserError("invalid-json", rule, "rename that class or file", where=path) from None
    except ValueError as error:
        raise UserError("invalid-json", f"is not JSON: {_json_reason(text, error)}", hint, where=path) from None


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


def _json_reason(text: str, error: ValueError) -> str:
    if not text.strip():
        return "it is empty"
    if text.lstrip().startswith("<"):
        return "it begins like XML or HTML"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[0].lower()}{error.msg[1:]} in line {error.lineno}, column {error.colno}"
    return str(error)


def read_csv(path: str | os.PathLike) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the number of the line, from 1, and the cells by column name of each row of a CSV file.

    The separator is a comma, a semicolon or a tab, whichever the first line has. Cells that are missing are empty.

    Raises:
      UserError: it cannot be read, or is not CSV.
    """
    text = read_text(path).removeprefix("#")
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    csv.field_size_limit(_MAX_CELL)  # polygons and run lengths are long
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for row in rows:
            yield rows.line_num, {str(key): cell for key, value in row.items() if isinstance(cell := value or "", str)}
    except csv.Error as error:
        raise UserError("wrong-format", f"is not CSV: {error}", "export it again", where=path) from None


def require(holder: Any, key: str, kind: type | tuple[type, ...], where: str, default: Any = _REQUIRED) -> Any:
    """Returns the value of a key, of the type that it must have.

    Args:
      holder: what should be an object with that key.
      key: its name.
      kind: type or types; `float` accepts whole numbers too, and only finite ones; `int` accepts 3.0 as 3.
      where: file, image and shape, for messages.
      default: for keys that may be missing or null.

    Raises:
      UserError: not an object, no such key, or a value of another type.
    """
    if not isinstance(holder, dict):
        rule = f"must be an object with '{key}', not {in_words(holder)}"
        raise UserError("wrong-type", rule, "export it again", where=where)
    value = holder.get(key)
    if value is None and default is not _REQUIRED:
        return default
    if key not in holder:
        raise UserError("missing-key", f"'{key}' is missing", "export it again, or add it by hand", where=where)
    return checked(value, kind, f"'{key}'", where)


def checked(value: Any, kind: type | tuple[type, ...], what: str, where: str) -> Any:
    """Returns the value if it has the type that it must have; `what` names it in messages. See `require`.

    Raises:
      UserError: it has another type.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if float in kinds or int in kinds:
            return _checked_number(value, float in kinds, what, where)
    elif isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)):
        return value
    wanted = " or ".join(_TYPE_WORDS.get(kind, kind.__name__) for kind in kinds)
    rule = f"{what} must be {wanted}, not {in_words(value)}"
    raise UserError("wrong-type", rule, "export it again, or correct it by hand", where=where)


def _checked_number(value: int | float, fractions: bool, what: str, where: str) -> int | float:
    if not abs(value) < _MAX_NUMBER:  # not `>=`: nan must not pass
        shown = f"{value:g}" if isinstance(value, float) else "one so large"
        rule = f"{what} must be a number of pixels or items, not {shown}"
        raise UserError("out-of-range", rule, "export it again", where=where)
    if not fractions and value != math.floor(value):
        raise UserError("wrong-type", f"{what} must be a whole number, not {value:g}", "export it again", where=where)
    return value if fractions else int(value)


def in_words(value: Any) -> str:
    """Describes a JSON value for a message, briefly whatever it is."""
    if isinstance(value, str):
        return f"the text {value[:40]!r}" + (" ..." if len(value) > 40 else "")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"the number {value:g}" if abs(value) < _MAX_NUMBER else "a number so large"
    return _TYPE_WORDS.get(type(value), type(value).__name__)


def yes_or_no(holder: Any, key: str, where: str, default: bool = False) -> bool:
    """Returns the value of a key that means true or false: a boolean, 0 or 1, or such a word as text.

    Raises:
      UserError: anything else.
    """
    value = require(holder, key, (bool, int, str), where, default)
    word = str(value).strip().lower()
    if word in ("true", "1", "yes"):
        return True
    if word in ("false", "0", "no", ""):
        return False
    rule = f"'{key}' must be true or false, not {in_words(value)}"
    raise UserError("wrong-type", rule, "export it again, or correct it by hand", where=where)


def class_name(holder: Any, key: str, where: str) -> str:
    """Returns the name of a class, without white space around it.

    Raises:
      UserError: missing, not text, empty, or with line breaks or other control characters.
    """
    name = str(require(holder, key, (str, int), where)).strip()
    if not name:
        raise UserError("empty-name", f"'{key}' is empty", "give the shape a class", where=where)
    require_plain(name, f"'{key}'", where)
    return name


def require_plain(name: str, what: str, where: str = "", field: str | None = None) -> None:
    """Raises a UserError at control characters, which neither a list of names nor a terminal can show."""
    if _CONTROL.search(name):
        rule = f"{what} contains control characters: {name[:40]!r}"
        raise UserError("control-characters", rule, "rename the class", where=where, field=field)


def image_size(holder: Any, height_key: str, width_key: str, where: str) -> tuple[int, int] | None:
    """Returns height and width that an annotation states; None if it states none.

    Raises:
      UserError: they are not whole numbers above 0.
    """
    size = tuple(require(holder, key, int, where, None) for key in (height_key, width_key))
    if None in size:
        return None
    if min(size) < 1:
        rule = f"'{height_key}' and '{width_key}' must be above 0, not {size[0]} and {size[1]}"
        raise UserError("out-of-range", rule, "export it again, or remove them", where=where, value=size)
    return size[0], size[1]


def read_color(value: Any) -> tuple[int, int, int] | None:
    """Reads a color, `#ff8000` or [255, 128, 0]; None for anything else, since colors are only decoration."""
    if isinstance(value, str) and (match := _HEX_COLOR.fullmatch(value.strip())):
        return int(match[1], 16), int(match[2], 16), int(match[3], 16)
    parts = value if isinstance(value, list) else []
    if len(parts) in (3, 4) and all(type(part) is int and 0 <= part <= 255 for part in parts):
        return parts[0], parts[1], parts[2]
    return None


# --- Which files ----------------------------------------------------------------------------------------------


def files_by_split(text: str, field: str, *extensions: str) -> list[tuple[str, str]]:
    """Returns split and path of each annotation file of a setting; the split is UNDIVIDED if nothing tells it.

    `train:FILE,val:FILE` names the splits. Otherwise the names of the files tell them, if all do
    (`instances_train2017.json`), or those of the folders in which they are (`train/via.json,val/via.json`).

    Args:
      text: the value of the setting: files or folders, with commas.
      field: its name, for messages.
      extensions: of the files that count in a folder and its subfolders, such as ".json".

    Raises:
      UserError: the value is empty, a folder contains no such file, or only some parts name a split.
    """
    found = [
        (split, file)
        for split, path in paths_by_split(text, field)
        for file in (_files_in(path, extensions) if os.path.isdir(path) else [path])
    ]
    if found[0][0]:
        return found
    paths = [path for _, path in found]
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    folders = [os.path.basename(os.path.dirname(os.path.abspath(path))) for path in paths]
    for names in (stems, folders):
        splits = [split_in(name) for name in names]
        # A single split must be the last word of every file's name: `test_export.json` is no test split.
        if all(splits) and (len(set(splits)) > 1 or (names is stems and all(map(_ends_with_split, names)))):
            return list(zip(splits, paths, strict=True))
    return found


def _ends_with_split(name: str) -> bool:
    return split_in(re.findall("[A-Za-z]+", name)[-1]) != ""


def _files_in(folder: str, extensions: tuple[str, ...]) -> list[str]:
    found = [os.path.join(folder, name) for name in list_files(folder) if name.lower().endswith(extensions)]
    if not found:
        rule = f"contains no {' or '.join(extensions)} file, nor does a subfolder"
        raise UserError("no-files", rule, "give the folder that contains the annotations", where=folder)
    return found


# --- Images -------------------------------------------------------------------------------------------------


class ImageFinder:
    """Image files of a folder and its subfolders, by the names that annotations give them.

    The folder is listed once. Stored names are only compared with that list, never opened, so that no annotation can
    point outside the folder. Names are compared in one Unicode form, and without regard to case where that is the only
    difference.
    """

    def __init__(self, folder: str | os.PathLike, field: str = "image_folder"):
        require_folder(folder, field)
        self.folder, self.field = str(folder), field
        self._listed: dict[str, str] | None = None  # the real path of each canonical one
        self._by_stem: dict[str, list[str]] = {}  # images by their path without extension
        self._by_base: dict[str, list[str]] = {}  # files by base name, and images by that without extension
        self._by_lower: dict[str, list[str]] = {}  # files by their path in lower case
        self._used: set[str] = set()

    def find(self, stored_name: str, where: str, beside: str = "") -> str:
        r"""Returns the path of an image.

        Tried in turn: the stored path itself and its ends (`b/c.jpg` and `c.jpg` of `C:\a\b\c.jpg`), the same with
        another extension, the base name in any subfolder; then all of that without regard to case.

        Args:
          stored_name: the name in the annotation: a path, a Windows path or an address.
          where: file and image, for messages.
          beside: subfolder in which to look first.

        Raises:
          UserError: there is no such image, or there are several.
        """
        found = self.look_up(stored_name, beside)
        if len(found) == 1:
            self._used.add(found[0])
            return os.path.join(self.folder, self._files()[found[0]])
        if found:
            rule = f"{stored_name!r} may be any of {shorten(found)} in {self.folder}"
            hint = "write the subfolder before the image's name, or remove the other images"
            raise UserError("ambiguous-name", rule, hint, where=where, value=stored_name)
        rule = f"its image {stored_name[:200]!r} is not in {self.folder}"
        hint = f"put it there, change `{self.field}`, or leave such images out with `on_missing=skip`"
        raise UserError("image-not-found", rule, hint, where=where, value=stored_name)

    def look_up(self, stored_name: str, beside: str = "") -> list[str]:
        """Returns the paths in the folder of the images that a stored name may mean: none, one or several.

        Of several those count that are below the folder `beside`, if there are any.
        """
        found = self._look_up(stored_name, beside)
        below = [path for path in found if beside and path.startswith(f"{canonical(beside)}/")]
        return below or found

    def _look_up(self, stored_name: str, beside: str) -> list[str]:
        files, parts = self._files(), safe_parts(canonical(stored_name))
        if not parts:
            return []
        ends = ["/".join(parts[start:]) for start in range(len(parts))]
        if beside:
            ends = [*(f"{canonical(beside)}/{end}" for end in ends), *ends]
        for end in ends:
            if end in files:
                return [end]
        for end in ends:
            found = self._by_stem.get(end) or self._by_stem.get(os.path.splitext(end)[0])
            if found:
                return found
        found = self._by_base.get(parts[-1]) or self._by_base.get(os.path.splitext(parts[-1])[0])
        return found or self._in_any_case(ends)

    def _in_any_case(self, ends: Sequence[str]) -> list[str]:
        if not self._by_lower:
            for path in self._files():
                lower = path.lower()
                keys = {lower, os.path.basename(lower)}
                if _is_image(path):
                    keys |= {os.path.splitext(key)[0] for key in keys}
                for key in keys:
                    self._by_lower.setdefault(key, []).append(path)
        for end in ends:
            found = self._by_lower.get(end.lower()) or self._by_lower.get(os.path.splitext(end)[0].lower())
            if found:
                return found
        return []

    def name(self, path: str) -> str:
        """Returns the name of an image's pair: the path in the folder without extension, `city/frame_01`."""
        return canonical(os.path.splitext(os.path.relpath(path, self.folder))[0].replace(os.sep, "/"))

    def beside(self, file: str) -> str:
        """Returns the folder of a file as a path in this folder; empty if it is this folder or not inside it."""
        inside = os.path.relpath(os.path.dirname(os.path.abspath(file)), os.path.abspath(self.folder))
        return "" if inside.startswith(os.curdir) else inside.replace(os.sep, "/")

    def unused(self) -> list[str]:
        """Returns the images that were never found by a name, as paths in the folder, sorted."""
        return sorted(path for path in self._files().keys() - self._used if _is_image(path))

    def _files(self) -> dict[str, str]:
        if self._listed is None:
            self._listed = {canonical(path): path for path in list_files(self.folder)}
            for path in sorted(self._listed):
                base = os.path.basename(path)
                self._by_base.setdefault(base, []).append(path)
                if _is_image(path):
                    self._by_stem.setdefault(os.path.splitext(path)[0], []).append(path)
                    self._by_base.setdefault(os.path.splitext(base)[0], []).append(path)
        return self._listed


def image_finders(text: str, files: Sequence[tuple[str, str]], field: str = "image_folder") -> list[ImageFinder]:
    """Returns, for each annotation file, the finder of its images.

    Args:
      text: the value of the setting: a folder; train:FOLDER,val:FOLDER; or nothing: the folder of each file.
      files: split and path of each annotation file.
      field: name of the setting, for messages.

    Raises:
      UserError: a folder does not exist, or the splits of the folders are not those of the files.
    """
    if not text:
        folders = {path: os.path.dirname(path) or os.curdir for _, path in files}
        finders = {folder: ImageFinder(folder, field) for folder in dict.fromkeys(folders.values()) if folder}
        return [finders[folders[path]] for _, path in files]
    folders_of = paths_by_split(text, field)
    if not folders_of[0][0]:
        if len(folders_of) > 1:
            hint = "name a split for each: train:FOLDER,val:FOLDER"
            raise UserError("missing-split", f"{text} are several folders", hint, field=field, value=text)
        return [ImageFinder(folders_of[0][1], field)] * len(files)
    by_split = {split: ImageFinder(folder, field) for split, folder in folders_of}
    if len(by_split) < len(folders_of):
        raise UserError("duplicate-split", "names a split twice", "put its images into one folder", field=field)
    for split, _ in files:
        if split not in by_split:
            rule = f"has no folder for split {split!r}" if split else "names splits, but `annotations` does not"
            hint = f"the splits it names are {', '.join(by_split)}"
            raise UserError("missing-split", rule, hint, field=field, value=split)
    return [by_split[split] for split, _ in files]


def safe_parts(stored_name: str) -> list[str]:
    """Returns the parts of a stored path or address that may be in a folder: those after the last `..`."""
    path = stored_name.replace("\\", "/")
    if "://" in path:
        path = path.split("://", 1)[1].split("?")[0].split("#")[0]
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    return parts


def find_named(images: ImageFinder, stored: str, path: str, inside: str, collector: Collector) -> str:
    """Returns the path of the image of an annotation file: as the file says, else with the file's own name.

    Args:
      images: finder of the images.
      stored: the name that the file gives; may be empty.
      path: of the annotation file.
      inside: its subfolder, in which is looked first.
      collector: counts images that were found by the name of their file.

    Raises:
      UserError: there is no such image, or there are several.
    """
    own = f"{os.path.splitext(os.path.basename(path))[0]}.jpg"  # every image extension will be tried
    if not images.look_up(stored, inside) and images.look_up(own, inside):
        if stored:
            collector.note("images found by the name of their annotation file, as the name in it is wrong", path)
        stored = own
    return images.find(stored or own, path, inside)


def _is_image(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in IMAGE_EXTENSIONS


def shown_size(path: str) -> tuple[int, int] | None:
    """Returns height and width of an image as viewers show it, from the head of its file; None if it is unreadable."""
    try:
        with Image.open(path) as image:
            size = (image.height, image.width)
            return size[::-1] if image.getexif().get(_ORIENTATION, 1) >= 5 else size
    except Exception:  # whatever Pillow raises on a damaged file, which building reports
        return None


def _scaled_later(shapes: Callable[[int, int], Sequence[Shape]], factor: float, height: int, width: int) -> list[Shape]:
    """Returns shapes that depend on the image's size, for an image that was resized by a factor since."""
    return [shape.scaled(factor, factor) for shape in shapes(round(height / factor), round(width / factor))]


# --- What is collected and reported -------------------------------------------------------------------------


class Collector:
    """Collects pairs as they are found, and what is odd about them: one warning per kind at the end.

    Args:
      config: the format's config.
    """

    def __init__(self, config: DrawnConfig):
        self.config = config
        self.splits: dict[str, list[Pair]] = {}
        self.used_names: set[str] = set()  # classes of shapes that are painted
        self._names: dict[tuple[str, str], tuple[str, str]] = {}  # image and annotation of a split and a name
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
            done = "left out" if self.config.skip_empty else "they are background (`skip_empty=true` leaves them out)"
            self.note(f"images without a shape: {done}", name)
            if self.config.skip_empty:
                return
        name = self._unused_name(split, name, image, where)
        mask = ShapesMask(where, shapes, size, self.config.overlap, scale)
        self.splits.setdefault(split, []).append(Pair(name, image, mask))

    def _unused_name(self, split: str, name: str, image: str, where: str) -> str:
        """Returns the name of a pair, with more of its path before it where another image of the split has that name.

        So several annotation files may each have a folder of their own, with a frame_000000.png in each.
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
        kind = _CONTROL.sub("?", kind[:40])
        self._kinds[kind] = self._kinds.get(kind, 0) + 1
        self.note(_NO_AREA, where)

    def left_out(self, images: Iterable[str], what: str) -> None:
        """Counts images that no annotation is about: `3 images without a .json file left out`."""
        for image in images:
            self.note(f"images {what} left out", image)

    def note(self, text: str, where: str) -> None:
        """Counts anything else; the warning is the number, the text, and where it was found first."""
        self._numbers[text] = self._numbers.get(text, 0) + 1
        named, where = self._first.setdefault(text, []), _CONTROL.sub("?", where)
        if len(named) <= _MAX_NAMED and where not in named:
            named.append(where if len(named) < _MAX_NAMED else "...")

    @contextlib.contextmanager
    def catching(self) -> Iterator[None]:
        """Keeps a UserError for the end, so that several errors are reported together; the tenth ends the reading."""
        try:
            yield
        except UserError as error:
            if error.code == "image-not-found" and self.config.on_missing == "skip":
                self.note("images that annotations name do not exist: left out", str(error.value)[:200])
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
            rule = f"{outside} of {self._painted} {_OUTSIDE}: {', '.join(self._first[_OUTSIDE])}"
            raise UserError("shapes-outside", rule, self._hint_on_outside(), where="annotations", value=outside)
        for text, number in self._numbers.items():
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._kinds.items()))
            detail = f" ({kinds})" if text == _NO_AREA else ""
            hint = f"; {self._hint_on_outside()}" if text == _OUTSIDE and self.config.on_outside == "fail" else ""
            console.warning(f"{number} {text}{detail}: {', '.join(self._first[text])}{hint}")
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


# --- Formats with one file per image ------------------------------------------------------------------------


@dataclass(frozen=True)
class AnnotationFile:
    """The annotation file of one image.

    Attributes:
      path: where it is.
      name: its path in the folder of the annotations.
      split: of its image; `UNDIVIDED` if that is not known.
      images: finds its image.
    """

    path: str
    name: str
    split: str
    images: ImageFinder

    @property
    def inside(self) -> str:
        """The subfolder that it is in, in which its image is looked for first."""
        return os.path.dirname(self.name)


def read_each(
    config: FilePerImageConfig,
    extension: str,
    read: Callable[[AnnotationFile, Collector], None],
    is_image: Callable[[str], bool] = lambda path: True,
) -> tuple[Collector, list[str]]:
    """Reads the annotation file of every image, and reports what is odd about them.

    Images without an annotation file are left out: they are not known to be empty.

    Args:
      config: where files and images are.
      extension: of the annotation files, such as ".json".
      read: reads one file into the collector.
      is_image: tells, by their paths, images from other image files in the folder.

    Returns:
      What was collected, and the folders of the annotations.

    Raises:
      UserError: no such folder or no such file in it; whatever `read` raises; no pair is left.
    """
    collector = Collector(config)
    files = _files_per_image(config.annotation_folder, extension)
    finders = {folder: ImageFinder(config.image_folder or folder) for _, folder, _ in files}
    for split, folder, name in console.progress(files, what="reading annotations", unit="file"):
        with collector.catching():
            read(AnnotationFile(os.path.join(folder, name), name, split, finders[folder]), collector)
    unused = {path for finder in finders.values() for path in finder.unused() if is_image(path)}
    collector.left_out(sorted(unused), f"without a {extension} file")
    collector.report()
    collector.require_pairs(config.annotation_folder, "`skip_empty=false` keeps images without a shape")
    return collector, list(finders)


def _files_per_image(text: str, extension: str) -> list[tuple[str, str, str]]:
    """Returns split, folder and path in the folder of each annotation file, of formats with one per image.

    `train:FOLDER,val:FOLDER` names the splits. Otherwise subfolders that are all named after splits are the splits.

    Raises:
      UserError: a folder does not exist, or contains no such file.
    """
    found: list[tuple[str, str, str]] = []
    for split, folder in paths_by_split(text, _FOLDER):
        require_folder(folder, _FOLDER)
        names = [name for name in list_files(folder) if name.lower().endswith(extension)]
        if not names:
            rule = f"contains no {extension} file, nor does a subfolder"
            raise UserError("no-files", rule, f"`{_FOLDER}` is the folder of the annotations", where=folder)
        inside = {name.partition("/")[0]: split_in(name.partition("/")[0]) for name in names if "/" in name}
        told = not split and all("/" in name for name in names) and all(inside.values()) and len(inside) > 1
        found += [(inside[name.partition("/")[0]] if told else split, folder, name) for name in names]
    return found
