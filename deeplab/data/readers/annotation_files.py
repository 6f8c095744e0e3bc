"""What all readers of annotation files share: guarded access to JSON, images by name, what is told at the end.

Annotation files come from many hands. Nothing in them is taken on trust: every value is asked for with the type that
it must have, and no name in them is ever opened as a path.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from deeplab.config.fields import setting
from deeplab.data.readers.pairs import IMAGE_EXTENSIONS
from deeplab.data.readers.source import UNDIVIDED, Pair
from deeplab.utils import console
from deeplab.utils.errors import MAX_ERRORS, UserError, joined
from deeplab.utils.paths import list_files, read_text, require_folder, shorten

_MISSING: Any = object()
_MOST_NAMED = 5  # files in a warning
_LARGEST = 1e15  # no count, size or coordinate is larger; above it, floats are no exact integers
_NO_AREA = "shapes without an area left out"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # half a character: JSON lets it pass, no terminal or file system does
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TYPE_WORDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "null",
}


@dataclass(frozen=True)
class DrawnConfig:
    """Settings of every format whose masks are drawn from shapes."""

    skip_empty: bool = setting(False, "Leave images without a shape out (off: they are background all over).")
    overlap: str = setting(
        "file",
        "Which shape covers which: later ones in the file (or layer) the earlier ones, or small ones the large ones.",
        choices=("file", "area"),
    )


# --- JSON ---------------------------------------------------------------------------------------------------


def read_json(path: str | os.PathLike) -> Any:
    """The content of a JSON file.

    Raises:
      UserError: it cannot be read, is not JSON, or holds NaN, Infinity, broken characters or endless nesting.
    """
    text = read_text(path)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError:
        raise UserError(
            "unclassified", "is nested too deep for an annotation file", "export it again", where=path
        ) from None
    except UnicodeEncodeError:
        raise UserError(
            "unclassified", r"holds half a character (\ud800 to \udfff)", "rename that class or file", where=path
        ) from None
    except ValueError as fault:
        raise UserError(
            "unclassified", f"is not JSON: {_json_fault(text, fault)}", "export it again, or copy it anew", where=path
        ) from None


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _json_fault(text: str, fault: ValueError) -> str:
    if not text.strip():
        return "it is empty"
    if text.lstrip().startswith("<"):
        return "it begins like XML or HTML"
    if isinstance(fault, json.JSONDecodeError):
        return f"{fault.msg[0].lower()}{fault.msg[1:]} in line {fault.lineno}, column {fault.colno}"
    return str(fault)


def require(holder: Any, key: str, kind: type | tuple[type, ...], where: str, default: Any = _MISSING) -> Any:
    """The value of a key, of the type that it must have.

    Args:
      holder: what should be an object with that key.
      key: its name.
      kind: type or types; `float` takes whole numbers as well, and only finite ones; `int` takes 3.0 as 3.
      where: file, image and shape, for messages.
      default: for keys that may be missing or null.

    Raises:
      UserError: no object, no such key, or a value of another type.
    """
    if not isinstance(holder, dict):
        raise UserError(
            "unclassified", f"must be an object with `{key}`, not {in_words(holder)}", "export it again", where=where
        )
    value = holder.get(key)
    if value is None and default is not _MISSING:
        return default
    if key not in holder:
        raise UserError("unclassified", f"`{key}` is missing", "export it again, or write it in by hand", where=where)
    return checked(value, kind, f"`{key}`", where)


def checked(value: Any, kind: type | tuple[type, ...], what: str, where: str) -> Any:
    """The value, if it is of the type that it must have; `what` names it in messages. See `require`.

    Raises:
      UserError: it is of another type.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if float in kinds or int in kinds:
            return _checked_number(value, float in kinds, what, where)
    elif isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)):
        return value
    wanted = " or ".join(_TYPE_WORDS.get(kind, kind.__name__) for kind in kinds)
    raise UserError(
        "unclassified",
        f"{what} must be {wanted}, not {in_words(value)}",
        "export it again, or mend it by hand",
        where=where,
    )


def _checked_number(value: int | float, fractions: bool, what: str, where: str) -> int | float:
    if not abs(value) < _LARGEST:  # not `>=`: nan must not pass
        shown = f"{value:g}" if isinstance(value, float) else "one so large"
        raise UserError(
            "unclassified", f"{what} must be a number of pixels or things, not {shown}", "export it again", where=where
        )
    if not fractions and value != math.floor(value):
        raise UserError("unclassified", f"{what} must be a whole number, not {value:g}", "export it again", where=where)
    return value if fractions else int(value)


def in_words(value: Any) -> str:
    """A JSON value for a message, short whatever it is."""
    if isinstance(value, str):
        return f"the text {value[:40]!r}" + (" ..." if len(value) > 40 else "")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"the number {value:g}" if abs(value) < _LARGEST else "a number so large"
    return _TYPE_WORDS.get(type(value), type(value).__name__)


def class_name(holder: Any, key: str, where: str) -> str:
    """The name of a class, without white space around it.

    Raises:
      UserError: missing, no text, empty, or with line breaks or other control characters in it.
    """
    name = str(require(holder, key, (str, int), where)).strip()
    if not name:
        raise UserError("unclassified", f"`{key}` is empty", "give the shape a class", where=where)
    require_plain(name, f"`{key}`", where)
    return name


def require_plain(name: str, what: str, where: str) -> None:
    """Raises a UserError at control characters, which neither a list of names nor a terminal can take."""
    if _CONTROL.search(name):
        raise UserError(
            "unclassified", f"{what} holds control characters: {name[:40]!r}", "rename the class", where=where
        )


def image_size(holder: Any, height_key: str, width_key: str, where: str) -> tuple[int, int] | None:
    """Height and width that an annotation states; None where it states none.

    Raises:
      UserError: they are no whole numbers above 0.
    """
    size = tuple(require(holder, key, int, where, None) for key in (height_key, width_key))
    if None in size:
        return None
    if min(size) < 1:
        rule = f"`{height_key}` and `{width_key}` must be above 0, not {size[0]} and {size[1]}"
        raise UserError("unclassified", rule, "export it again, or take them out", where=where)
    return size[0], size[1]


# --- Images -------------------------------------------------------------------------------------------------


class ImageFinder:
    """Image files of a folder and its subfolders, by the names that annotations call them.

    The folder is listed once. Stored names are only ever compared with that list, never opened, so that no annotation
    can point outside the folder.
    """

    def __init__(self, folder: str | os.PathLike, flag: str = "`image_folder`"):
        require_folder(folder, flag)
        self.folder, self.flag = str(folder), flag
        self._listed: set[str] | None = None
        self._by_stem: dict[str, list[str]] = {}  # images by their path without extension
        self._by_base: dict[str, list[str]] = {}  # files by base name, and images by that without extension
        self._used: set[str] = set()

    def find(self, stored_name: str, where: str, beside: str = "") -> str:
        r"""Path of an image.

        Tried in turn: the stored path itself and its ends (`b/c.jpg` and `c.jpg` of `C:\a\b\c.jpg`), the same with
        another extension, the base name in any subfolder.

        Args:
          stored_name: what the annotation calls it: a path, a Windows path or an address.
          where: file and image, for messages.
          beside: subfolder in which it is looked for first.

        Raises:
          UserError: no such image, or several.
        """
        found = self.look_up(stored_name, beside)
        if len(found) == 1:
            self._used.add(found[0])
            return os.path.join(self.folder, found[0])
        if found:
            rule = f"{stored_name!r} may be any of {shorten(found)} in {self.folder}"
            raise UserError(
                "unclassified", rule, "write the subfolder before the image's name, or remove the others", where=where
            )
        rule = f"its image {stored_name[:200]!r} is not in {self.folder}"
        raise UserError(
            "unclassified", rule, f"put it there, give another {self.flag}, or take the annotation out", where=where
        )

    def look_up(self, stored_name: str, beside: str = "") -> list[str]:
        """Paths within the folder of the images that a stored name may mean; none, one or several. See `find`."""
        files, parts = self._files(), safe_parts(stored_name)
        if not parts:
            return []
        ends = ["/".join(parts[start:]) for start in range(len(parts))]
        if beside:
            ends = [*(f"{beside}/{end}" for end in ends), *ends]
        for end in ends:
            if end in files:
                return [end]
        for end in ends:
            found = self._by_stem.get(end) or self._by_stem.get(os.path.splitext(end)[0])
            if found:
                return found
        return self._by_base.get(parts[-1]) or self._by_base.get(os.path.splitext(parts[-1])[0]) or []

    def name(self, path: str) -> str:
        """What a pair is called: the path in the folder without extension, `city/frame_01`."""
        return os.path.splitext(os.path.relpath(path, self.folder))[0].replace(os.sep, "/")

    def unused(self) -> list[str]:
        """Images that were never found by a name, as paths in the folder, sorted."""
        return sorted(path for path in self._files() - self._used if _is_image(path))

    def _files(self) -> set[str]:
        if self._listed is None:
            self._listed = set(list_files(self.folder))
            for path in sorted(self._listed):
                base = os.path.basename(path)
                self._by_base.setdefault(base, []).append(path)
                if _is_image(path):
                    self._by_stem.setdefault(os.path.splitext(path)[0], []).append(path)
                    self._by_base.setdefault(os.path.splitext(base)[0], []).append(path)
        return self._listed


def safe_parts(stored_name: str) -> list[str]:
    """The parts of a stored path, address or Windows path that may lie in a folder: what stands after the last `..`."""
    path = stored_name.replace("\\", "/")
    if "://" in path:
        path = path.split("://", 1)[1].split("?")[0].split("#")[0]
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    return parts


def _is_image(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in IMAGE_EXTENSIONS


# --- What is gathered and told ------------------------------------------------------------------------------


class Tally:
    """Pairs as they are found, and what is odd about them: told in one warning a kind at the end.

    Args:
      skip_empty: leave images without a shape out.
    """

    def __init__(self, skip_empty: bool = False):
        self.skip_empty = skip_empty
        self.splits: dict[str, list[Pair]] = {}
        self._names: dict[str, str] = {}
        self._kinds: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._first: dict[str, list[str]] = {}
        self._faults: list[UserError] = []

    def add(self, pair: Pair, where: str, split: str = UNDIVIDED, empty: bool = False) -> None:
        """Takes a pair; one without a shape, `empty`, is counted, and left out where that is wanted.

        Raises:
          UserError: there is one of that name in the split.
        """
        if empty:
            self.empty(pair.name)
            if self.skip_empty:
                return
        key = f"{split}\n{pair.name}"
        if key in self._names:
            rule = f"image {pair.name!r} was there before, in {self._names[key]}"
            raise UserError(
                "unclassified",
                rule,
                "each image must stand once: bring its shapes together, or rename one of them",
                where=where,
            )
        self._names[key] = where
        self.splits.setdefault(split, []).append(pair)

    def skipped(self, kind: str, where: str) -> None:
        """Counts a shape that has no area."""
        kind = _CONTROL.sub("?", kind[:40])
        self._kinds[kind] = self._kinds.get(kind, 0) + 1
        self.noted(_NO_AREA, where)

    def empty(self, name: str) -> None:
        """Counts an image without a shape."""
        what = "left out" if self.skip_empty else "background all over (`skip_empty=true` leaves them out)"
        self.noted(f"images without a shape: {what}", name)

    def left_out(self, images: Iterable[str], what: str) -> None:
        """Counts images that nothing was said of: `3 images without a JSON file left out`."""
        for image in images:
            self.noted(f"images {what} left out", image)

    def noted(self, text: str, where: str) -> None:
        """Counts anything else; the warning is the number, the text, and where it was met first."""
        self._numbers[text] = self._numbers.get(text, 0) + 1
        named, where = self._first.setdefault(text, []), _CONTROL.sub("?", where)
        if len(named) <= _MOST_NAMED and where not in named:
            named.append(where if len(named) < _MOST_NAMED else "...")

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Keeps a UserError for the end, so that people hear of several faults at once; the tenth ends the reading."""
        try:
            yield
        except UserError as fault:
            self._faults.append(fault)
            if len(self._faults) == MAX_ERRORS:
                self._stop()

    def report(self) -> None:
        """One warning a kind; none where faults were collected, of which the warnings would be a consequence.

        Raises:
          UserError: faults were collected; up to ten are named.
        """
        if self._faults:
            self._stop()
        for text, number in self._numbers.items():
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._kinds.items()))
            detail = f" ({kinds})" if text == _NO_AREA else ""
            console.warning(f"{number} {text}{detail}: {', '.join(self._first[text])}")
        self._numbers.clear()

    def _stop(self) -> NoReturn:
        raise joined(self._faults, "more faults")


def require_pairs(tally: Tally, where: str, hint: str = "") -> None:
    """Stops where nothing was found at all.

    Raises:
      UserError: no pair.
    """
    if not any(tally.splits.values()):
        raise UserError("unclassified", "there is no image with annotations", hint, where=where)
