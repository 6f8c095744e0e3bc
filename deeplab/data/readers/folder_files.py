"""The files of a folder and its subfolders by their names without extension.

Readers that find an image or a mask by name call this module. It lists each folder once and opens no file.
"""

from __future__ import annotations

import functools
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

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
        return sorted(os.path.join(inside, stem) for inside, stem, _ in self.wanted(leave_out))

    def wanted(self, leave_out: str | os.PathLike = "") -> Iterator[tuple[str, str, list[str]]]:
        """Yields every stem that has a file with a wanted extension, sorted by subfolder and stem.

        Args:
          leave_out: as of `wanted_stems`.

        Yields:
          The subfolder, the stem, and the paths of its files in the folder.
        """
        places: dict[str, str] = {}  # what the system calls each subfolder
        without = pathlib.Path(leave_out).resolve() if leave_out else None
        below = without is not None and without.is_relative_to(self.path.resolve())
        for inside, names in walk(self.path):
            if without is None or not (below and (self.path / inside).resolve().is_relative_to(without)):
                self._listings[canonical(inside)] = _Listing(str(self.path / inside), names)
                places[canonical(inside)] = inside
        for name, inside in sorted(places.items()):
            for stem, files in self._listings[name].stems():
                wanted = [os.path.join(inside, file) for file in files if self._wanted(file)]
                if wanted:
                    yield name, stem, wanted

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
        self._names = [name for name in names if os.path.splitext(name)[1]]

    def stems(self) -> Iterator[tuple[str, list[str]]]:
        """Yields each stem with its files, sorted, in a third of the memory that looking them up takes."""
        for stem, files in itertools.groupby(sorted(self._names, key=_stem_of), key=_stem_of):
            yield stem, list(files)

    @functools.cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return dict(self.stems())

    @functools.cached_property
    def _stems_by_lower(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for stem in self._by_stem:
            found.setdefault(stem.lower(), []).append(stem)
        return found

    def files(self, stem: str) -> list[str]:
        """Returns the files of a stem: of that very one, else of the only one that differs in case."""
        if stem in self._by_stem:
            return self._by_stem[stem]
        alike = self._stems_by_lower.get(stem.lower(), [])
        return self._by_stem[alike[0]] if len(alike) == 1 else []


def _stem_of(file: str) -> str:
    return canonical(os.path.splitext(file)[0])
