"""Patterns of file names, such as `{name}_mask.png`, and the guess of patterns that pair images with masks.

Used by `pairs` to match files whose names differ, and to propose patterns in its errors. It works on names alone.
"""

from __future__ import annotations

import collections
import difflib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from deeplab.data.image_files import IMAGE_EXTENSIONS
from deeplab.data.readers.name_lists import canonical
from deeplab.utils.errors import UserError

_TRIED = 12  # names of each kind from which a pattern is guessed
_TRIED_PATTERNS = 30  # the most frequent ones, which are tried on all names


class NamePattern:
    """What the names of images and masks have in common: `{name}_sat.jpg` and `{name}_mask.png`.

    Each `{word}` stands for some text that an image shares with its mask, `*` for any text. A pattern without a slash
    is about the file's name, in a subfolder that both have; one with slashes is about the whole path in the folder. The
    extension may be left out.

    Args:
      pattern: the pattern.
      field: the setting that it comes from, for messages.

    Raises:
      UserError: no `{word}` in it, or one word twice.
    """

    def __init__(self, pattern: str, field: str = ""):
        parts = re.split(r"\{([A-Za-z]\w*)\}", pattern)
        words = parts[1::2]
        if not words or len(set(words)) < len(words):
            rule = f"{pattern!r} must contain {{name}}" if not words else f"{pattern!r} contains a word twice"
            raise UserError("invalid-pattern", rule, "write it like {name}_sat.jpg", field=field, value=pattern)
        texts = [re.escape(part).replace(r"\*", "[^/]*") for part in parts[::2]]
        groups = [f"(?P<{word}>.+?)" for word in words]
        self._regex = re.compile("".join(part for pair in zip(texts, [*groups, ""], strict=True) for part in pair))
        self._is_path = "/" in pattern
        self._has_extension = os.path.splitext(pattern)[1].lower() in IMAGE_EXTENSIONS

    def key(self, path: str) -> tuple[str, ...] | None:
        """Returns what a path, with extension, shares with its partner; None if the pattern does not fit."""
        stem, extension = os.path.splitext(canonical(path))
        text = stem + extension if self._has_extension else stem
        folder, name = ("", text) if self._is_path else os.path.split(text)
        match = self._regex.fullmatch(name)
        return (folder, *(text for _, text in sorted(match.groupdict().items()))) if match else None

    def name(self, path: str) -> str | None:
        """Returns the folder and `{name}` of a path as one path; None if the pattern does not fit."""
        key = self.key(path)
        return os.path.join(*key) if key is not None else None


def guess_patterns(images: Sequence[str], masks: Sequence[str]) -> tuple[str, str, int]:
    """Returns the patterns that pair the most images with masks, and how many they pair.

    Args:
      images, masks: names without extension.
    """
    by_digits: dict[str, list[str]] = {}
    for mask in masks:
        by_digits.setdefault(_last_digits(mask), []).append(mask)
    met: collections.Counter[tuple[str, str]] = collections.Counter()
    for image in _spread(images):
        for mask in _spread(by_digits.get(_last_digits(image), masks)):
            met.update(set(_patterns_of(image, mask)))
    frequent = sorted(
        (patterns for patterns, _ in met.most_common(_TRIED_PATTERNS)), key=lambda each: each[0].count("{")
    )
    best = ("", "", 0)
    for patterns in [_frames(images, masks), *frequent]:
        of_image, of_mask = (NamePattern(pattern) for pattern in patterns)
        keys = ({side.key(f"{name}.png") for name in names} for side, names in ((of_image, images), (of_mask, masks)))
        number = len(set.intersection(*keys) - {None})
        best = max(best, (*patterns, number), key=lambda guess: guess[2])
    return best


def _frames(images: Sequence[str], masks: Sequence[str]) -> tuple[str, str]:
    """Returns patterns of what all images and all masks begin and end with, as far as the two differ.

    Digits belong to the name. Where all files have the same name, their folders tell them apart: `{name}/rgb`.
    """
    sides = [[os.path.basename(name) for name in names] for names in (images, masks)]
    if all(len(set(bases)) == 1 for bases in sides):
        return f"{{name}}/{sides[0][0]}", f"{{name}}/{sides[1][0]}"
    starts = [_common_start(bases).rstrip("0123456789") for bases in sides]
    starts = ["", ""] if starts[0] == starts[1] else starts
    rest = [[base[len(start) :][::-1] for base in bases] for start, bases in zip(starts, sides, strict=True)]
    ends = [_common_start(bases)[::-1].lstrip("0123456789") for bases in rest]
    ends = ["", ""] if ends[0] == ends[1] else ends
    of_images, of_masks = (f"{start}{{name}}{end}" for start, end in zip(starts, ends, strict=True))
    return of_images, of_masks


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    length = next(
        (place for place, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first)
    )
    return first[:length]


def _last_digits(name: str) -> str:
    return next(reversed(re.findall(r"\d+", os.path.basename(name))), "")


def _spread(names: Sequence[str]) -> Sequence[str]:
    """Returns a few of the names: the first of some equal parts of the sequence."""
    return names[:: -(-len(names) // _TRIED)]


def _patterns_of(image: str, mask: str) -> Iterator[tuple[str, str]]:
    """Yields the patterns of two names for each part that they have in common, without separators around it.

    For two parts in a row it yields patterns with two words, too: `{kind}_{name}` and `{kind}_road_{name}` of KITTI.
    """
    image, mask = os.path.basename(image), os.path.basename(mask)
    common = []
    for block in difflib.SequenceMatcher(None, image, mask, autojunk=False).get_matching_blocks():
        own = image[block.a : block.a + block.size].strip("_-. ")
        if own:
            common.append((own, image.index(own, block.a), mask.index(own, block.b)))
    for parts in [*((part,) for part in common), *itertools.pairwise(common)]:
        yield _pattern(image, parts, 1), _pattern(mask, parts, 2)


def _pattern(name: str, parts: Sequence[tuple[Any, ...]], side: int) -> str:
    """Returns a name with the common parts replaced by words; `side` is the index of a part's place in this name."""
    for part, word in zip(parts[::-1], ("{name}", "{kind}"), strict=False):
        name = f"{name[: part[side]]}{word}{name[part[side] + len(part[0]) :]}"
    return name
