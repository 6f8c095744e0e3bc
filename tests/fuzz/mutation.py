"""Mutations of valid inputs: bytes, texts, and nested values as JSON and YAML hold them. All seeded."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

_INTERESTING_BYTES = [b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff" * 4, b"\x00" * 4, b"\xff\xff\xff\x7f"]
_INTERESTING_TEXTS = [
    "", " ", "\0", "\n", "{", "}", "[", "]", ":", "-", "&a", "*a", "!!python/object:os.system", "NaN", "1e999", "-1",
    "99999999999999999999", "\u202e", "\ud83d\ude00", "../../etc/passwd", "/dev/zero",
]  # fmt: skip
_INTERESTING_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 1.5, -0.0, float("inf"), float("-inf"), float("nan"),
    "", "x", "0", "-1", "1e5", "\0", "\u202ename", "a" * 5000, "../up", "/abs", [], [[]], {}, {"": None}, [None],
]  # fmt: skip


def mutate_bytes(data: bytes, chance: random.Random) -> bytes:
    """Return the bytes after one to four random changes: flips, cuts, insertions, repeats, overwrites."""
    content = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if not content:
            content += bytes([chance.randrange(256)])
        at = chance.randrange(len(content))
        length = min(len(content) - at, chance.choice([1, 1, 2, 4, 8, 64, 512]))
        kind = chance.randrange(7)
        if kind == 0:
            content[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            content[at] = chance.randrange(256)
        elif kind == 2:
            del content[at : at + length]
        elif kind == 3:
            content[at:at] = chance.randbytes(length)
        elif kind == 4:
            content[at:at] = content[at : at + length]
        elif kind == 5:
            piece = chance.choice(_INTERESTING_BYTES)
            content[at : at + len(piece)] = piece
        else:
            del content[at:]
    return bytes(content)


def mutate_text(text: str, chance: random.Random) -> bytes:
    """Return a text, encoded, after changes of lines and words that keep most of its structure, rarely of bytes."""
    if chance.random() < 0.3:
        return mutate_bytes(text.encode(), chance)
    lines = text.split("\n")
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(lines)) if lines else 0
        kind = chance.randrange(6)
        if not lines or kind == 0:
            lines.insert(at, chance.choice(_INTERESTING_TEXTS))
        elif kind == 1:
            del lines[at]
        elif kind == 2:
            lines.insert(chance.randrange(len(lines) + 1), lines[at])
        elif kind == 3:
            words = lines[at].split(" ")
            words[chance.randrange(len(words))] = chance.choice(_INTERESTING_TEXTS)
            lines[at] = " ".join(words)
        elif kind == 4:
            lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
        else:
            where = chance.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:where] + chance.choice(_INTERESTING_TEXTS) + lines[at][where:]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def mutate_value(value: Any, chance: random.Random) -> Any:
    """Return a copy of nested lists and dicts after one to three changes: types, numbers, depth, missing keys."""
    root = [copy.deepcopy(value)]
    for _ in range(chance.randint(1, 3)):
        holder, key = _somewhere(root, chance)
        kind = chance.randrange(8)
        if kind <= 2:
            holder[key] = copy.deepcopy(chance.choice(_INTERESTING_VALUES))
        elif kind == 3 and holder is not root:
            del holder[key]
        elif kind == 4:
            holder[key] = [holder[key]]
        elif kind == 5:
            holder[key] = {"x": holder[key]}
        elif kind == 6 and isinstance(holder[key], list) and holder[key]:
            holder[key] = holder[key] + [chance.choice(holder[key])] * chance.choice([1, 3, 50])
        elif isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
            holder[key] = chance.choice([holder[key] * 10**6, -holder[key], str(holder[key]), holder[key] + 0.5])
        else:
            deep: Any = holder[key]
            for _ in range(chance.choice([2, 30, 300])):
                deep = [deep]
            holder[key] = deep
    return root[0]


def _somewhere(root: list, chance: random.Random) -> tuple[Any, Any]:
    """A random place in a nested value: its container and its key."""
    holder: Any = root
    key: Any = 0
    while True:
        inner = holder[key]
        if not isinstance(inner, (list, dict)) or not inner or chance.random() < 0.2:
            return holder, key
        holder = inner
        key = chance.choice(list(inner)) if isinstance(inner, dict) else chance.randrange(len(inner))


def pick(seeds: list, mutate: Callable[[Any, random.Random], Any], chance: random.Random) -> Any:
    """A mutation of one of several valid inputs; rarely the input itself, which must keep working."""
    seed = chance.choice(seeds)
    if chance.random() < 0.01:
        return seed.encode() if isinstance(seed, str) else seed
    return mutate(seed, chance)
