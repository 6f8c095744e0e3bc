"""The catalog of public datasets: what each consists of, where its archives are published, what they must contain.

Owns `catalog.yml` and its reading, including a user's own file of addresses, checksums and counts for mirrors. Called
by `catalog_download.py`. It touches no network and no archive.
"""

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
_FORM = "{NAME: {archives: {FILE: {...}}}}"


@dataclass(frozen=True)
class PublishedArchive:
    """One file of a published dataset; the head of `catalog.yml` explains the fields.

    Attributes:
      file: its name.
      address: URL; empty where users must request the file from its owners.
      checksum: `ALGORITHM:HEX`, or empty.
      bytes: its size, or None.
      unpacked_bytes: size of its contents where it is known to differ, or None.
      folder: folder of its contents, below the output folder.
      flatten: drop the folders inside the archive.
      only: pattern for the names of the wanted files, in lower case; empty: all are wanted.
      only_with: folder whose file names decide which files are wanted.
      unpack: False: the file is put into `folder` as it is.
      nested: it may contain archives.
      optional: not requested when it is missing.
      expected: number of files that match each pattern, below the output folder.
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
class PublishedDataset:
    """A dataset of the catalog.

    Attributes:
      name: its name on the command line.
      title: one line that describes it.
      terms: terms of use.
      page: web page with these terms.
      archives: in the order of unpacking.
      by_hand: how to get the archives that have no address.
      encrypted: how to get the password of encrypted archives; empty where there are none.
    """

    name: str
    title: str
    terms: str
    page: str
    archives: tuple[PublishedArchive, ...]
    by_hand: str = ""
    encrypted: str = ""


def names() -> list[str]:
    """Names of all datasets in the catalog."""
    return list(_published())


def find(name: str, addresses: str | os.PathLike = "") -> PublishedDataset:
    """Return a dataset of the catalog.

    Args:
      name: its name.
      addresses: YAML file `{NAME: {archives: {FILE: {field: value}}}}` whose values replace the published ones.

    Raises:
      UserError: no such dataset, or a file of another form.
    """
    if name not in _published():
        rule = f"there is no dataset {name!r} in the catalog"
        raise UserError("unknown-name", rule, nearest(name, names()), field="name", value=name)
    facts = _published()[name]
    if addresses:
        facts = _replaced(facts, _read_addresses(addresses).get(name, {}), str(addresses), name)
    archives = tuple(_archive(file, entry, addresses or DATA) for file, entry in facts["archives"].items())
    return PublishedDataset(**{**facts, "name": name, "archives": archives})


@functools.cache
def _published() -> Mapping[str, Any]:
    content: dict[str, Any] = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    return content


def _read_addresses(path: str | os.PathLike) -> dict[str, Any]:
    try:
        content = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        rule = f"cannot be read as YAML: {' '.join(str(problem).split())}"
        raise UserError("unreadable-yaml", rule, where=path) from None
    content = _mapping(content or {}, path, "the file")
    for name in content:
        if name not in _published():
            rule = f"there is no dataset {name!r} in the catalog"
            raise UserError("unknown-name", rule, nearest(str(name), names()), where=path, value=name)
    return content


def _replaced(facts: Mapping[str, Any], own: Any, path: str, name: str) -> dict[str, Any]:
    """The published facts, with the fields of archives that `own` gives in their place."""
    own = _mapping(own, path, name)
    if others := sorted(set(own) - {"archives"}):
        raise UserError("unknown-key", f"{name} has {others}", f"give archives only: {_FORM}", where=path)
    archives = dict(facts["archives"])
    for file, entry in _mapping(own.get("archives") or {}, path, f"{name}: archives").items():
        if file not in archives:
            rule = f"{name} has no archive {file!r}"
            raise UserError("unknown-name", rule, nearest(str(file), archives), where=path, value=file)
        archives[file] = {**(archives[file] or {}), **_mapping(entry or {}, path, f"{name}: {file}")}
    return {**facts, "archives": archives}


def _archive(file: str, entry: Any, path: str | os.PathLike) -> PublishedArchive:
    """An archive from its entry; null stands for the default of a field."""
    facts = {key: value for key, value in _mapping(entry or {}, path, file).items() if value is not None}
    fields = {each.name: str(each.type) for each in dataclasses.fields(PublishedArchive) if each.name != "file"}
    for key, value in facts.items():
        if key not in fields:
            rule = f"{file} has an unknown key {key!r}"
            raise UserError("unknown-key", rule, nearest(str(key), fields), where=path)
        if not _is_of_type(fields[key], value):
            rule = f"{file}: {key} must be of type {fields[key]}, not {value!r}"
            raise UserError("wrong-type", rule, where=path, value=value)
    if facts.get("checksum") and not _CHECKSUM.fullmatch(facts["checksum"]):
        rule = f"{file}: the checksum {facts['checksum']!r} must be sha256:, sha1: or md5: and hexadecimal digits"
        raise UserError("bad-checksum", rule, where=path)
    return PublishedArchive(file, **facts)


def _is_of_type(kind: str, value: Any) -> bool:
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "str":
        return isinstance(value, str)
    if kind.startswith("int"):
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(value, dict) and all(
        isinstance(pattern, str) and isinstance(count, int) and not pattern.startswith("/") and ".." not in pattern
        for pattern, count in value.items()
    )


def _mapping(value: Any, path: str | os.PathLike, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        rule = f"{what} must hold `key: value` lines, not {value!r}"
        raise UserError("wrong-type", rule, f"the form is {_FORM}", where=path, value=value)
    return value
