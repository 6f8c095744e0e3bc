"""Lists of image names, one name or pair of names per line, and settings that name a split before each path.

Readers of formats with such lists call this module, and so does the division into splits. It never opens an image.
"""

from __future__ import annotations

import collections
import os
import pathlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from deeplab.data.image_files import IMAGE_EXTENSIONS
from deeplab.data.readers.source import UNDIVIDED
from deeplab.data.split_names import split_in
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_text, require_folder, split_paths
from deeplab.utils.text import shorten

if TYPE_CHECKING:
    from deeplab.data.readers.folder_files import Folder

_TEXT_NAME = re.compile(r"read[_ -]?me\b|licen[cs]e\b", re.IGNORECASE)  # of files that explain the others
_SPLIT_PREFIX = re.compile(r"([A-Za-z0-9][\w-]+):(?!//|\\)(.+)")  # one letter is a drive, `http:` an address


def canonical(name: str) -> str:
    """Returns a name in the Unicode form in which names are compared: composed, as web tools write it."""
    return unicodedata.normalize("NFC", name)


def existing_file(path: str) -> str:
    """Returns the path of a file in the Unicode form that it has; empty if the file does not exist."""
    forms = (path, canonical(path), unicodedata.normalize("NFD", path))
    return next(filter(os.path.isfile, forms), "")


def paths_by_split(text: str, field: str) -> list[tuple[str, str]]:
    """Returns split and path of every part of `train:PATH,val:PATH`; the split is UNDIVIDED if no part names one.

    Raises:
      UserError: the value is empty, or only some parts name a split.
    """
    found = [_split_of(part) for part in split_paths(text, lambda part: os.path.exists(_split_of(part)[1]))]
    if not found:
        raise UserError("missing-setting", "is empty", f"`{field}=PATH`, or `{field}=train:PATH,val:PATH`", field=field)
    without = [path for split, path in found if not split]
    if 0 < len(without) < len(found):
        rule = f"names a split for some parts, but not for {without[0]}"
        raise UserError("missing-split", rule, f"write train:{without[0]}", field=field, value=without[0])
    return found


def _split_of(part: str) -> tuple[str, str]:
    match = None if os.path.exists(part) else _SPLIT_PREFIX.fullmatch(part)
    return (match[1], match[2]) if match else (UNDIVIDED, part)


def read_list(path: str | os.PathLike, is_known: Callable[[str], object] = lambda name: False) -> list[str]:
    """Reads the names in a list, one per line, without blank lines, comments (`# ...`) and white space around names.

    Args:
      path: the list.
      is_known: whether there is a file of a name; one that begins with `#` is no comment then.

    Raises:
      UserError: the file does not exist, is not UTF-8, or contains no name.
    """
    return [name for _, name in numbered_names(path, is_known)]


def numbered_names(
    path: str | os.PathLike, is_known: Callable[[str], object] = lambda name: False
) -> list[tuple[int, str]]:
    """Reads a list as `read_list`, with the number of each line, from 1."""
    lines = enumerate((canonical(line.strip()) for line in read_text(path).splitlines()), 1)
    found = [(number, line) for number, line in lines if line and (not line.startswith("#") or is_known(line))]
    names = [name for _, name in found]
    if not names:
        hint = "write the names of the split's images into it, one per line, or remove it"
        raise UserError("empty-list", "the list is empty", hint, where=path)
    repeated = [name for name, number in collections.Counter(names).items() if number > 1]
    if repeated:
        console.warning(f"{path}: these images are listed more than once, and count as often: {shorten(repeated)}")
    return found


def read_names(path: str | os.PathLike, is_known: Callable[[str], object]) -> list[str]:
    """Reads the image names in a list, also in one with an image and its mask per line, as DeepLab's train_aug.txt.

    Args:
      path: the list.
      is_known: whether there is an image of a name, with or without extension. Paths in the list may begin with folders
        of another place or machine, Windows paths too: the longest end that is known counts.

    Raises:
      UserError: as `read_list`, or images and masks have different names (`wrong-format`).
    """

    def known(name: str) -> bool:
        return bool(is_known(name) or is_known(os.path.splitext(name)[0]))

    lines = read_list(path, known)
    columns = [re.split(r"[\s,;]+", line) for line in lines]
    if not all(len(pair) == 2 and all(map(_has_image_extension, pair)) for pair in columns):
        return [line if known(line) else next(filter(known, path_ends(line)), line) for line in lines]
    names = []
    for image, mask in columns:
        stems = [os.path.splitext(name.replace("\\", "/"))[0].strip("/") for name in (image, mask)]
        if os.path.basename(stems[0]) != os.path.basename(stems[1]):
            rule = f"has an image and a mask of different names in a line: {image} and {mask}"
            hint = "format 'folder' with `pair_list` reads such lists"
            raise UserError("wrong-format", rule, hint, where=path, value=(image, mask))
        ends = path_ends(stems[0])
        names.append(next(filter(is_known, ends), ends[-1]))
    return names


def path_ends(path: str) -> list[str]:
    r"""Returns the ends of a path, the longest first: of `C:\a\b.jpg` that and `a/b.jpg` and `b.jpg`, with slashes."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _has_image_extension(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS


def find_lists(folder: str | os.PathLike, splits: Sequence[str] = ()) -> dict[str, pathlib.Path]:
    """Returns the lists in a folder by split name: `train.txt` is split "train".

    Args:
      folder: the folder of the *.txt files.
      splits: the wanted ones; none = all.

    Raises:
      UserError: no such folder, no list in it, or a wanted one is not among them.
    """
    folder = pathlib.Path(folder)
    require_folder(folder, "list_folder")
    lists = {path.stem: path for path in sorted(folder.glob("[!.]*.txt"))}
    for text in [path for stem, path in lists.items() if _TEXT_NAME.match(stem) and stem not in splits]:
        console.note(f"{text} is no list by its name, and is left out")
        del lists[text.stem]
    if not lists:
        hint = "write train.txt and val.txt there, one image name per line"
        raise UserError("no-files", "contains no list of a split", hint, where=folder)
    for split in splits:
        if split not in lists:
            rule, hint = f"{folder} has no list {split}.txt", f"its lists are {', '.join(lists)}"
            raise UserError("unknown-split", rule, hint, field="splits", value=split)
    return {split: lists[split] for split in (splits or lists)}


def is_other_text(path: str | os.PathLike, names: Sequence[str], images: Folder) -> bool:
    """Whether a text file beside lists is none, such as a README.txt.

    None of its lines names an image, some have several words, and it is not called like a split: a list whose images
    are all missing must not be taken for it.
    """
    if split_in(pathlib.Path(path).stem) or any(map(images.find, names)):
        return False
    return any(len(name.split()) > 1 for name in names)


def splits_in_folders(names: Sequence[str]) -> list[str]:
    """Returns the split of each name: its first folder if the first folders of all are named after splits."""
    first = [name.partition("/")[0] if "/" in name else "" for name in names]
    return first if all(map(split_in, first)) else [UNDIVIDED] * len(names)
