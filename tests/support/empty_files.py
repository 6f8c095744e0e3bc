"""Empty files, for tests of what is found by name."""

import os
import pathlib


def touch(folder: str | os.PathLike, *names: str) -> None:
    """Creates empty files, by their paths in a folder, with the subfolders that they need."""
    for name in names:
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
