"""What is installed: versions, extras, write access. Nothing is imported except the libraries that are asked about."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import tempfile
from collections.abc import Iterable

from deeplab.utils.extras import DISTRIBUTION

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_EXTRA = re.compile(r"extra *== *['\"]([\w-]+)['\"]")


def version(distribution: str) -> str:
    """Return the installed version of a distribution, such as `opencv-python-headless`; empty if there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def is_checkout() -> bool:
    """Return whether the package runs from its repository rather than from an installed wheel."""
    return (_ROOT / "setup.py").is_file() and (_ROOT / "requirements.txt").is_file()


def forget_missing_plot_backend() -> None:
    """Unset MPLBACKEND where it names a module that is not installed.

    A notebook hands its own down to the commands that it starts, which may be those of another environment. Importing
    Matplotlib, which Keras does, fails there.
    """
    prefix, name = "module://", os.environ.get("MPLBACKEND", "")
    package = name.removeprefix(prefix).partition(".")[0]
    if name.startswith(prefix) and not (package and importlib.util.find_spec(package)):
        del os.environ["MPLBACKEND"]


def extras() -> dict[str, list[str]]:
    """Return the requirements of each extra, `dev` excepted: those of setup.py in a checkout, else of the wheel."""
    if is_checkout():
        return _extras_of_setup((_ROOT / "setup.py").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for line in _wheel_requirements():
        extra = _EXTRA.search(line)
        if extra and extra[1] != "dev":
            found.setdefault(extra[1], []).append(line.partition(";")[0].strip())
    return found


def required() -> list[str]:
    """Return the requirements that every installation has."""
    if is_checkout():
        text = (_ROOT / "requirements.txt").read_text(encoding="utf-8")
        return [line for line in (line.partition("#")[0].strip() for line in text.splitlines()) if line]
    return [line.strip() for line in _wheel_requirements() if not _EXTRA.search(line)]


def missing(requirements: Iterable[str]) -> list[str]:
    """Return those requirements that are not installed, or too old."""
    return [line for line in requirements if not _is_met(line, upper_bounds=False)]


def untested(requirements: Iterable[str]) -> list[str]:
    """Return those requirements of which a version newer than they allow is installed."""
    requirements = list(requirements)
    too_old = missing(requirements)
    return [line for line in requirements if line not in too_old and not _is_met(line, upper_bounds=True)]


def pip_command(extra_names: Iterable[str] = ()) -> str:
    """Return the command line that installs the package with some extras."""
    names = ",".join(extra_names)
    chosen = f"[{names}]" if names else ""
    return f"pip install -e '{_ROOT}{chosen}'" if is_checkout() else f"pip install '{DISTRIBUTION}{chosen}'"


def import_error(module: str) -> str:
    """Return why a module cannot be imported, in one line; empty if it can."""
    try:
        importlib.import_module(module)
    except Exception as problem:  # a broken library raises whatever it likes
        return " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
    return ""


def write_error(folder: str | os.PathLike) -> str:
    """Return why no file can be written into a folder, or where it would be made; empty if one can."""
    path = pathlib.Path(folder).absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"deeplab")
    except OSError as problem:
        return f"{path}: {problem.strerror}"
    return ""


def _extras_of_setup(text: str) -> dict[str, list[str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword) and node.arg == "extras_require" and isinstance(node.value, ast.Dict):
            pairs = zip(node.value.keys, node.value.values, strict=True)
            lists = ((key, value) for key, value in pairs if isinstance(value, ast.List) and key is not None)
            return {ast.literal_eval(key): ast.literal_eval(value) for key, value in lists}
    return {}


def _wheel_requirements() -> list[str]:
    try:
        return importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _is_met(line: str, upper_bounds: bool) -> bool:
    line = line.partition(";")[0].strip()
    name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
    found = version(name)
    if not found:
        return False
    try:
        from packaging.requirements import Requirement
    except ImportError:  # it comes with Keras; without it the versions are not compared
        return True
    rules = Requirement(line).specifier
    return all(rule.contains(found, prereleases=True) for rule in rules if upper_bounds or rule.operator[0] != "<")
