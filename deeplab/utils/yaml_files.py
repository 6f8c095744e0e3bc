"""YAML files written by people: read within limits, so that no file can hang a command."""

from __future__ import annotations

import collections
import os
import re
from collections.abc import Hashable
from typing import Any

import yaml

from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_text

_MAX_BYTES = 1 << 20
_MAX_DEPTH = 20
_MAX_VALUES = 200_000  # counted where they are used: an alias counts as often as it stands for something

_NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _Loader(yaml.SafeLoader):  # not the C one, which crashes on deep nesting
    """As YAML's safe loader; a name that occurs twice in one mapping is an error.

    Numbers are decimal: `12:30` and `030` stay text, which YAML 1.1 reads to the base of 60 and 8.
    """

    def __init__(self, text: str):
        super().__init__(text)
        self.merged: list[yaml.Node] = []  # what `<<` takes over

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                self.merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
        super().flatten_mapping(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if len(set(names)) < len(names):
            twice = min(name for name, number in collections.Counter(names).items() if number > 1)
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag not in _NUMBER_TAGS]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_INT = r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"
_FLOAT = r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
for _tag, _pattern in zip(_NUMBER_TAGS, (_INT, _FLOAT), strict=True):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list("-+.0123456789"))


def load_mapping(path: str | os.PathLike, templates: bool = True) -> dict[str, Any]:
    """Return the content of a YAML file, which must be a mapping.

    Args:
      path: the file.
      templates: whether mappings that others take over (`<<: *name`) are part of the content themselves.

    Raises:
      UserError: it cannot be read, or as `parse_mapping`.
    """
    return parse_mapping(read_text(path), path, templates)


def parse_mapping(text: str, where: object, templates: bool = True) -> dict[str, Any]:
    """Return the content of a YAML text, which must be a mapping; `where` names it in messages.

    Raises:
      UserError: it is not YAML, no mapping, or too large (`unreadable-yaml`).
    """
    if len(text) > _MAX_BYTES:
        raise UserError(
            "unreadable-yaml", f"has {len(text):,} characters; at most {_MAX_BYTES:,} are read", where=where
        )
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        content = None if root is None else loader.construct_document(root)
        if not templates and isinstance(content, dict) and isinstance(root, yaml.MappingNode):
            for key in [key.value for key, value in root.value if any(value is one for one in loader.merged)]:
                content.pop(key, None)
        _count(content, 0, 0)
    except (yaml.YAMLError, ValueError) as problem:  # ValueError: a date that does not exist
        raise UserError("unreadable-yaml", f"cannot be read as YAML: {_problem(problem)}", where=where) from None
    except RecursionError:
        raise UserError("unreadable-yaml", f"is nested deeper than {_MAX_DEPTH} levels", where=where) from None
    if content is None:
        raise UserError("unreadable-yaml", "is empty: it must consist of 'name: value' lines", where=where)
    if not isinstance(content, dict):
        raise UserError("unreadable-yaml", "must consist of 'name: value' lines", where=where)
    return content


def _problem(error: Exception) -> str:
    """Return what YAML says, on one line, with the place."""
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + str(getattr(error, "problem", error))


def _count(value: Any, depth: int, seen: int) -> int:
    """Return how many values a YAML document has, aliases included.

    Raises:
      RecursionError: it is nested too deep.
      ValueError: it has too many values.
    """
    if depth > _MAX_DEPTH:
        raise RecursionError
    if seen > _MAX_VALUES:
        raise ValueError(f"it has more than {_MAX_VALUES:,} values (aliases count where they are used)")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        seen = _count(each, depth + 1, seen + 1)
    return seen
