"""The files of a folder and its subfolders by their names without extension.

Readers that find an image or a mask by name call this module. It lists each folder once and opens no file.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Sequence

from deeplab.data.readers.name_lists import canonical
from deeplab.utils.paths import files_of, walk


class Folder:
    """Files of a folder by stem, with any of the wanted extensions, in upper or lower case.

    Names with a slash are looked up in subfolders. Each folder is listed once, when it is first needed; hidden files do
    not count. Names are compared in one Unicode form, and without regard to case where that is the only difference.
    """

    def __init__(self, folder: str | os.PathLike, extensions: Sequence[str], format_field: str = ""):
        self.path = pathlib.Path(folder)
        self.extensions = extensions
        self.format_field = format_field  # the setting that chooses among extensions, if the format has one
        self._listings: dict[str, _Listing] = {}

    def candidates(self, name: str) -> list[str]:
        """Returns the paths of the files of that stem with a wanted extension."""
        folder, files = self._files(name)
        return [os.path.join(folder, file) for file in files if self._wanted(file)]

    def find(self, name: str) -> str:
        """Returns the stem under which a listed name is found: the name itself or without extension; else empty."""
        return next((stem for stem in (name, os.path.splitext(name)[0]) if self.candidates(stem)), "")

    def others(self, name: str) -> list[str]:
        """Returns the extensions with which the stem exists, wanted or not."""
        return [os.path.splitext(file)[1] for file in self._files(name)[1]]

    def wanted_stems(self, leave_out: str | os.PathLike = "") -> list[str]:
        """Returns the stems that have a file with a wanted extension, sorted; in subfolders as `subfolder/stem`.

        Args:
          leave_out: a subfolder to skip: that of the masks if it is inside the folder of the images.
        """
        found: list[str] = []
        without = pathlib.Path(leave_out).resolve() if leave_out else None
        below = without is not None and without.is_relative_to(self.path.resolve())
        for inside, names in walk(self.path):
            if without is None or not (below and (self.path / inside).resolve().is_relative_to(without)):
                listing = self._listings[canonical(inside)] = _Listing(str(self.path / inside), names)
                stems = (stem for stem, files in listing.by_stem.items() if any(map(self._wanted, files)))
                found += (os.path.join(canonical(inside), stem) for stem in stems)
        return sorted(found)

    def _files(self, name: str) -> tuple[str, list[str]]:
        """Returns the folder and the files of a stem."""
        inside, stem = os.path.split(canonical(name))
        if inside not in self._listings:
            folder = self.path / os.path.dirname(name)
            self._listings[inside] = _Listing(str(folder), files_of(folder))
        return self._listings[inside].folder, self._listings[inside].files(stem)

    def _wanted(self, file: str) -> bool:
        return os.path.splitext(file)[1].lower() in self.extensions


class _Listing:
    """Files of one folder by stem."""

    def __init__(self, folder: str, names: Iterable[str]):
        self.folder = folder
        self.by_stem: dict[str, list[str]] = {}
        self._stems_by_lower: dict[str, list[str]] = {}
        for name in names:
            stem, extension = os.path.splitext(name)
            if extension:
                self.by_stem.setdefault(canonical(stem), []).append(name)

    def files(self, stem: str) -> list[str]:
        """Returns the files of a stem: of that very one, else of the only one that differs in case."""
        if stem in self.by_stem:
            return self.by_stem[stem]
        if not self._stems_by_lower:
            for other in self.by_stem:
                self._stems_by_lower.setdefault(other.lower(), []).append(other)
        alike = self._stems_by_lower.get(stem.lower(), [])
        return self.by_stem[alike[0]] if len(alike) == 1 else []
