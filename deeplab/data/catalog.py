"""The table of downloads: `catalog.yml`, and a user's own addresses and counts in place of its."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from deeplab.utils.errors import UserError, nearest

DATA = pathlib.Path(__file__).with_name("catalog.yml")
_CHECKSUM = re.compile(r"(md5|sha1|sha256):([0-9a-f]{32,64})")


@dataclass(frozen=True)
class Archive:
    """One file that a dataset is published in; see the head of `catalog.yml`.

    Attributes:
      file: its name.
      address: empty where it must come from the user.
      checksum: `ALGORITHM:HEX`, or empty.
      bytes: its size, or None.
      unpacked_bytes: that of its contents where it is known to differ, or None.
      folder: folder of its contents, below the output folder.
      flatten: leave its own folders out.
      only: pattern that the names of its wanted files fit, in lower case; empty: all are wanted.
      only_with: folder whose file names decide which of its files are wanted.
      unpack: False: it goes into `folder` as it is.
      nested: it may hold archives.
      optional: not asked for when it is not there.
      expected: number of files that fit each pattern, below the output folder.
    """

    file: str
    address: str = ""
    checksum: str = ""
    bytes: int | None = None
    unpacked_bytes: int | None = None
    folder: str = ""
    flatten: bool = False
    only: str = ""
    only_with: str = ""
    unpack: bool = True
    nested: bool = False
    optional: bool = False
    expected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """What a known dataset consists of.

    Attributes:
      name: what the command calls it.
      title: what it is, in one line.
      terms: on what terms it may be used.
      page: where these are to be read.
      archives: in the order of unpacking.
      by_hand: how archives without an address are had.
      password: who gives the password of encrypted archives; empty where none are.
    """

    name: str
    title: str
    terms: str
    page: str
    archives: tuple[Archive, ...]
    by_hand: str = ""
    password: str = ""


def names() -> list[str]:
    """The known datasets."""
    return list(_published())


def find(name: str, addresses: str | os.PathLike = "") -> Known:
    """One dataset, with what a file of the user's says of it instead.

    Raises:
      UserError: no such dataset, or a file with something else in it than `{NAME: {archives: {FILE: {...}}}}`.
    """
    if name not in _published():
        raise UserError("unclassified", "is no dataset that can be fetched", nearest(name, names()), where=name)
    facts = _published()[name]
    if addresses:
        facts = _changed(facts, _own(addresses).get(name, {}), str(addresses), name)
    archives = tuple(_archive(file, given, addresses or DATA) for file, given in facts["archives"].items())
    return Known(**{**facts, "name": name, "archives": archives})


@functools.cache
def _published() -> Mapping[str, Any]:
    content: dict[str, Any] = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    return content


def _own(path: str | os.PathLike) -> dict[str, Any]:
    try:
        content = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise UserError("unclassified", f"cannot be read as YAML: {' '.join(str(fault).split())}", where=path) from None
    content = _mapping(content or {}, path, "it")
    for name in content:
        if name not in _published():
            raise UserError(
                "unclassified", f"{name!r} is no dataset that can be fetched", nearest(str(name), names()), where=path
            )
    return content


def _changed(facts: Mapping[str, Any], own: Any, path: str, name: str) -> dict[str, Any]:
    """The published facts with the archives' fields that `own` gives in their place."""
    own = _mapping(own, path, name)
    if set(own) - {"archives"}:
        raise UserError(
            "unclassified",
            f"{name} has {sorted(set(own) - {'archives'})}",
            "only `archives:` can be given there",
            where=path,
        )
    archives = dict(facts["archives"])
    for file, given in _mapping(own.get("archives") or {}, path, f"{name}: archives").items():
        if file not in archives:
            raise UserError(
                "unclassified", f"{name} has no archive {file!r}", nearest(str(file), list(archives)), where=path
            )
        archives[file] = {**(archives[file] or {}), **_mapping(given or {}, path, f"{name}: {file}")}
    return {**facts, "archives": archives}


def _archive(file: str, given: Any, path: str | os.PathLike) -> Archive:
    """An archive from its entry in a table; null stands for what an archive has when nothing is said."""
    facts = {key: value for key, value in _mapping(given or {}, path, file).items() if value is not None}
    fields = {each.name: each for each in dataclasses.fields(Archive) if each.name != "file"}
    for key, value in facts.items():
        if key not in fields:
            raise UserError(
                "unclassified", f"{file} has an unknown field {key!r}", nearest(str(key), list(fields)), where=path
            )
        if not _fits(str(fields[key].type), value):
            raise UserError(
                "unclassified", f"{file}: {key} cannot be {value!r}", f"its kind is {fields[key].type}", where=path
            )
    if facts.get("checksum") and not _CHECKSUM.fullmatch(facts["checksum"]):
        raise UserError(
            "unclassified",
            f"{file}: checksum {facts['checksum']!r} is none",
            "write sha256:, sha1: or md5:, then it",
            where=path,
        )
    return Archive(file, **facts)


def _fits(kind: str, value: Any) -> bool:
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "str":
        return isinstance(value, str)
    if kind.startswith("int"):
        return number
    return isinstance(value, dict) and all(
        isinstance(pattern, str) and isinstance(count, int) and not pattern.startswith("/") and ".." not in pattern
        for pattern, count in value.items()
    )


def _mapping(value: Any, path: str | os.PathLike, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise UserError(
            "unclassified",
            f"{what} must hold `name: value` lines, not {value!r}",
            "{NAME: {archives: {FILE: {...}}}}",
            where=path,
        )
    return value
