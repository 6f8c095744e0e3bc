"""Finds the image that an annotation names, in a folder that is listed once.

Readers of formats whose annotations name their images call this module. It never opens a name in an annotation as a
path: it only compares it with the names of the listed files, so that an annotation cannot point outside the folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from PIL import Image

from deeplab.data.image_files import IMAGE_EXTENSIONS
from deeplab.data.readers.name_lists import canonical, paths_by_split
from deeplab.utils.errors import UserError
from deeplab.utils.paths import list_files, require_folder
from deeplab.utils.text import shorten

_ORIENTATION = 274  # the EXIF tag


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
