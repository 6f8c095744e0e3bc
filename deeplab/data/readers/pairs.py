"""Which image belongs to which mask, by the names of files, and lists of names that make splits."""

from __future__ import annotations

import collections
import difflib
import itertools
import os
import pathlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deeplab.config.conversion_config import MAX_LEAK
from deeplab.data.class_names import CLASS_FILES, names_in, read_class_file
from deeplab.data.image_files import IMAGE_EXTENSIONS
from deeplab.data.readers.source import UNDIVIDED, Pair
from deeplab.data.split_names import is_training, must_not_share, split_in
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import files_of, read_text, require_folder, split_paths, walk
from deeplab.utils.text import counted, shorten

MASK_EXTENSIONS = (".png", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif", ".webp", ".npy", ".npz", ".mat", ".dcm")
_TEXT_NAME = re.compile(r"read[_ -]?me\b|licen[cs]e\b", re.IGNORECASE)  # of files that explain the others
_SPLIT_PREFIX = re.compile(r"([A-Za-z0-9][\w-]+):(?!//|\\)(.+)")  # one letter is a drive, `http:` an address
_MAX_LISTED = 10  # files that an error names
_TRIED = 12  # names of each kind from which a pattern is guessed
_TRIED_PATTERNS = 30  # the most frequent ones, which are tried on all names


def canonical(name: str) -> str:
    """Returns a name in the Unicode form in which names are compared: composed, as web tools write it."""
    return unicodedata.normalize("NFC", name)


# --- Paths with splits, and lists of names ----------------------------------------------------------------------


def paths_by_split(text: str, field: str) -> list[tuple[str, str]]:
    """Returns split and path of every part of `train:PATH,val:PATH`; the split is UNDIVIDED if no part names one.

    Raises:
      UserError: the value is empty, or only some parts name a split.
    """
    found = [_split_of(part) for part in split_paths(text, lambda part: os.path.exists(_split_of(part)[1]))]
    if not found:
        raise UserError("missing-setting", "is empty", f"`{field}=PATH`, or `{field}=train:PATH,val:PATH`", field=field)
    without = [path for split, path in found if not split]
    if 0 < len(without) < len(found):
        rule = f"names a split for some parts, but not for {without[0]}"
        raise UserError("missing-split", rule, f"write train:{without[0]}", field=field, value=without[0])
    return found


def _split_of(part: str) -> tuple[str, str]:
    match = None if os.path.exists(part) else _SPLIT_PREFIX.fullmatch(part)
    return (match[1], match[2]) if match else (UNDIVIDED, part)


def read_list(path: str | os.PathLike, is_known: Callable[[str], object] = lambda name: False) -> list[str]:
    """Reads the names in a list, one per line, without blank lines, comments (`# ...`) and white space around names.

    Args:
      path: the list.
      is_known: whether there is a file of a name; one that begins with `#` is no comment then.

    Raises:
      UserError: the file does not exist, is not UTF-8, or contains no name.
    """
    return [name for _, name in numbered_names(path, is_known)]


def numbered_names(
    path: str | os.PathLike, is_known: Callable[[str], object] = lambda name: False
) -> list[tuple[int, str]]:
    """Reads a list as `read_list`, with the number of each line, from 1."""
    lines = enumerate((canonical(line.strip()) for line in read_text(path).splitlines()), 1)
    found = [(number, line) for number, line in lines if line and (not line.startswith("#") or is_known(line))]
    names = [name for _, name in found]
    if not names:
        hint = "write the names of the split's images into it, one per line, or remove it"
        raise UserError("empty-list", "the list is empty", hint, where=path)
    repeated = [name for name, number in collections.Counter(names).items() if number > 1]
    if repeated:
        console.warning(f"{path}: these images are listed more than once, and count as often: {shorten(repeated)}")
    return found


def read_names(path: str | os.PathLike, is_known: Callable[[str], object]) -> list[str]:
    """Reads the image names in a list, also in one with an image and its mask per line, as DeepLab's train_aug.txt.

    Args:
      path: the list.
      is_known: whether there is an image of a name, with or without extension. Paths in the list may begin with folders
        of another place or machine, Windows paths too: the longest end that is known counts.

    Raises:
      UserError: as `read_list`, or images and masks have different names (`wrong-format`).
    """

    def known(name: str) -> bool:
        return bool(is_known(name) or is_known(os.path.splitext(name)[0]))

    lines = read_list(path, known)
    columns = [re.split(r"[\s,;]+", line) for line in lines]
    if not all(len(pair) == 2 and all(map(_has_image_extension, pair)) for pair in columns):
        return [line if known(line) else next(filter(known, path_ends(line)), line) for line in lines]
    names = []
    for image, mask in columns:
        stems = [os.path.splitext(name.replace("\\", "/"))[0].strip("/") for name in (image, mask)]
        if os.path.basename(stems[0]) != os.path.basename(stems[1]):
            rule = f"has an image and a mask of different names in a line: {image} and {mask}"
            hint = "format 'folder' with `pair_list` reads such lists"
            raise UserError("wrong-format", rule, hint, where=path, value=(image, mask))
        ends = path_ends(stems[0])
        names.append(next(filter(is_known, ends), ends[-1]))
    return names


def path_ends(path: str) -> list[str]:
    r"""Returns the ends of a path, the longest first: of `C:\a\b.jpg` that and `a/b.jpg` and `b.jpg`, with slashes."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _has_image_extension(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS


def find_lists(folder: str | os.PathLike, splits: Sequence[str] = ()) -> dict[str, pathlib.Path]:
    """Returns the lists in a folder by split name: `train.txt` is split "train".

    Args:
      folder: the folder of the *.txt files.
      splits: the wanted ones; none = all.

    Raises:
      UserError: no such folder, no list in it, or a wanted one is not among them.
    """
    folder = pathlib.Path(folder)
    require_folder(folder, "list_folder")
    lists = {path.stem: path for path in sorted(folder.glob("[!.]*.txt"))}
    for text in [path for stem, path in lists.items() if _TEXT_NAME.match(stem) and stem not in splits]:
        console.note(f"{text} is no list by its name, and is left out")
        del lists[text.stem]
    if not lists:
        hint = "write train.txt and val.txt there, one image name per line"
        raise UserError("no-files", "contains no list of a split", hint, where=folder)
    for split in splits:
        if split not in lists:
            rule, hint = f"{folder} has no list {split}.txt", f"its lists are {', '.join(lists)}"
            raise UserError("unknown-split", rule, hint, field="splits", value=split)
    return {split: lists[split] for split in (splits or lists)}


def is_other_text(path: str | os.PathLike, names: Sequence[str], images: Folder) -> bool:
    """Whether a text file beside lists is none, such as a README.txt.

    None of its lines names an image, some have several words, and it is not called like a split: a list whose images
    are all missing must not be taken for it.
    """
    if split_in(pathlib.Path(path).stem) or any(map(images.find, names)):
        return False
    return any(len(name.split()) > 1 for name in names)


def splits_in_folders(names: Sequence[str]) -> list[str]:
    """Returns the split of each name: its first folder if the first folders of all are named after splits."""
    first = [name.partition("/")[0] if "/" in name else "" for name in names]
    return first if all(map(split_in, first)) else [UNDIVIDED] * len(names)


def refuse_leaks(splits: Mapping[str, Sequence[Pair]], max_leak: int = MAX_LEAK) -> None:
    """Reports images that a training split shares with a validation or test split: a few in a warning.

    Args:
      splits: pairs of each split.
      max_leak: how many are a few.

    Raises:
      UserError: more than a few (`split-leak`).
    """
    for training in filter(is_training, splits):
        trained = {pair.image for pair in splits[training]}
        for other in (split for split in splits if not is_training(split) and must_not_share(training, split)):
            shared = sorted({pair.name for pair in splits[other] if pair.image in trained})
            if not shared:
                continue
            rule = f"{len(shared)} images are in split {training!r} and in {other!r} ({shorten(shared)})"
            if len(shared) > max_leak:
                hint = f"remove them from one of the two: figures on {other!r} would be much too good"
                hint = f"{hint} (`max_leak` allows more)"
                raise UserError("split-leak", rule, hint, where=f"split {other}", value=len(shared))
            console.warning(f"{rule}: figures on {other!r} will look better than they are")


# --- Folders ------------------------------------------------------------------------------------------------


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


def pair_by_names(
    names: Iterable[str], images: Folder, masks: Folder, mask_suffix: str, where: str, skip_missing: bool = False
) -> list[Pair]:
    """Pairs the images and masks of a list of names, in the list's order.

    Args:
      names: image names without extension; an extension is accepted if the file exists without it.
      images, masks: the folders.
      mask_suffix: what a mask has between its image's name and its extension: `_segmentation` in ISIC.
      where: the list, for messages.
      skip_missing: leave names out whose image or mask is missing or ambiguous, with a warning, unless all are.

    Raises:
      UserError: files are missing or ambiguous; the first ten are named, the others counted.
    """
    pairs, errors = [], []
    for name in names:
        stem = images.find(name) or os.path.splitext(name)[0]
        image, image_error = _only(images, stem, name)
        mask, mask_error = _only(masks, stem + mask_suffix, stem + mask_suffix)
        errors += [error for error in (image_error, mask_error) if error]
        if not (skip_missing and (image_error or mask_error)):
            pairs.append(Pair(canonical(stem), image, mask))
    if errors and skip_missing and pairs:
        console.warning(f"{where}: {len(errors)} files cannot be found, their names are left out: {shorten(errors, 3)}")
    elif errors:
        shown = errors[:_MAX_LISTED] + [f"and {len(errors) - _MAX_LISTED} more"] * (len(errors) > _MAX_LISTED)
        rule = f"{len(errors)} files cannot be found:\n    " + "\n    ".join(shown)
        raise UserError("files-missing", rule, where=where, value=len(errors))
    return pairs


def _only(folder: Folder, stem: str, name: str) -> tuple[str, str]:
    """Returns the only file of a stem and no error, or an empty path and what is wrong."""
    found = folder.candidates(stem)
    if len(found) == 1:
        return found[0], ""
    field = folder.format_field
    if found:
        kinds = ", ".join(os.path.splitext(path)[1] for path in found)
        choose = f"choose with `{field}`" if field else "remove all but one"
        return "", f"{folder.path / stem}: there are several ({kinds}); {choose}"
    wanted, others = " or ".join(folder.extensions), folder.others(stem)
    error = f"{folder.path / name}: no such file ({wanted})" + (f", but {', '.join(others)}" if others else "")
    if others and field and others[0].lower() in IMAGE_EXTENSIONS:
        error += f"; set `{field}={others[0].lower()[1:]}`"
    return "", error


# --- Two folders ----------------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class FolderMatch:
    """Images and masks of two folders, as far as they belong together.

    Attributes:
      pairs: sorted by name.
      images_without_mask, masks_without_image: their paths in their folders.
      ambiguous: paths of several images that have the same mask, or several masks of the same image.
    """

    pairs: tuple[Pair, ...]
    images_without_mask: tuple[str, ...]
    masks_without_image: tuple[str, ...]
    ambiguous: tuple[tuple[str, ...], ...]


def match_folders(images: Folder, masks: Folder, image_pattern: str = "", mask_pattern: str = "") -> FolderMatch:
    """Finds the pairs of two parallel folders, which may be the same.

    Args:
      images, masks: the folders.
      image_pattern, mask_pattern: see `NamePattern`; by default an image and its mask have the same name.

    Raises:
      UserError: a pattern is invalid, a folder contains no image, or no image has a mask.
    """
    together = images.path.resolve() == masks.path.resolve()
    of_masks = NamePattern(mask_pattern or "{name}", "mask_pattern")
    of_images = NamePattern(image_pattern or "{name}", "image_pattern")
    mask_files = _files_by_key(masks, of_masks, "" if together else images.path)
    image_files = _files_by_key(images, of_images, "" if together else masks.path)
    if together and mask_pattern and not image_pattern:  # what looks like a mask is none of the images
        image_files = {key: kept for key, files in image_files.items() if (kept := _not_like(of_masks, files))}
    _require_files(images, image_files, together, image_pattern)
    _require_files(masks, mask_files, together, mask_pattern)
    keys = _matching_keys(image_files, mask_files)
    if not keys:
        raise _nothing_matches(images, masks, image_files, mask_files)
    ambiguous = [files for pair in keys.items() for files in _several(image_files, mask_files, *pair)]
    pairs = [
        Pair(canonical(os.path.splitext(image)[0]), str(images.path / image), str(masks.path / mask))
        for key, other in keys.items()
        if len(image_files[key]) == len(mask_files[other]) == 1
        for image, mask in [(image_files[key][0], mask_files[other][0])]
    ]
    used = set(keys.values())
    masks_of_pairs = {mask for key in used for mask in mask_files[key]} if together else set()
    return FolderMatch(
        tuple(sorted(pairs, key=lambda pair: pair.name)),
        tuple(
            sorted({path for key, files in image_files.items() if key not in keys for path in files} - masks_of_pairs)
        ),
        tuple(sorted(path for key, files in mask_files.items() if key not in used for path in files)),
        tuple(ambiguous),
    )


_Key = tuple[str, ...]


def _files_by_key(folder: Folder, pattern: NamePattern, leave_out: str | os.PathLike) -> dict[_Key, list[str]]:
    """Returns the files, as paths in the folder, by what they share with their partners."""
    files: dict[_Key, list[str]] = {}
    for stem in folder.wanted_stems(leave_out):
        for path in folder.candidates(stem):
            inside = os.path.relpath(path, folder.path)
            key = pattern.key(inside)
            if key is not None:
                files.setdefault(key, []).append(inside)
    return files


def _not_like(pattern: NamePattern, files: Sequence[str]) -> list[str]:
    return [file for file in files if pattern.key(file) is None]


def _matching_keys(images: Mapping[_Key, Any], masks: Mapping[_Key, Any]) -> dict[_Key, _Key]:
    """Returns the masks' key for each key of images: the same, else the only one that differs in case."""
    found = {key: key for key in images if key in masks}
    alike: dict[tuple[str, ...], tuple[list[_Key], list[_Key]]] = {}
    for side, keys in enumerate((images, masks)):
        for key in keys:
            if key not in found:
                alike.setdefault(tuple(map(str.lower, key)), ([], []))[side].append(key)
    found.update((ours[0], theirs[0]) for ours, theirs in alike.values() if len(ours) == len(theirs) == 1)
    return found


def _several(
    images: Mapping[_Key, Sequence[str]], masks: Mapping[_Key, Sequence[str]], key: _Key, other: _Key
) -> list[tuple[str, ...]]:
    return [tuple(files) for files in (images[key], masks[other]) if len(files) > 1]


def pair_folders(images: Folder, masks: Folder, image_pattern: str = "", mask_pattern: str = "") -> list[Pair]:
    """Returns the pairs of two parallel folders, sorted by name; files without a partner are named in a warning.

    Raises:
      UserError: as `match_folders`, or a name has several files.
    """
    found = match_folders(images, masks, image_pattern, mask_pattern)
    if found.ambiguous:
        choose = f"choose with `{images.format_field}`" if images.format_field else "remove all but one"
        rule = f"there are several files of one name: {', '.join(found.ambiguous[0])}"
        raise UserError("ambiguous-name", rule, choose, where=images.path, value=found.ambiguous[0])
    for folder, paths, what in (
        (images, found.images_without_mask, ("image", "without a mask")),
        (masks, found.masks_without_image, ("mask", "without an image")),
    ):
        if paths:
            shown = shorten([os.path.splitext(path)[0] for path in paths], 10)
            console.warning(f"{folder.path}: {counted(len(paths), what[0])} {what[1]}, left out: {shown}")
    return list(found.pairs)


def _require_files(folder: Folder, files: Mapping[_Key, Any], together: bool, pattern: str) -> None:
    """Stops if a folder contains nothing that could be paired, and says what it contains."""
    if files:
        return
    fitting = f" whose name fits {pattern}" if pattern else ""
    rule = f"contains no file with {', '.join(folder.extensions)}{fitting}"
    if together and not pattern:
        hint = "images and masks are in the same folder: set `mask_suffix=_mask` if masks are called NAME_mask.png"
        raise UserError("no-files", rule, hint, where=folder.path)
    held = [name for _, names in walk(folder.path) for name in names]
    extensions = sorted({os.path.splitext(name)[1].lower() for name in held} - {""})
    hint = f"it contains {shorten(held, 3)}" if pattern else f"its files end in {shorten(extensions)}: convert them"
    if held and not extensions:
        hint = f"its files, such as {held[0]}, have no extension: add that of their format, e.g. .dcm for DICOM"
    raise UserError("no-files", rule, hint if held else "it contains no file at all", where=folder.path)


def _nothing_matches(
    images: Folder, masks: Folder, image_files: Mapping[_Key, Sequence[str]], mask_files: Mapping[_Key, Sequence[str]]
) -> UserError:
    names = [
        [os.path.splitext(path)[0] for files in held.values() for path in files] for held in (image_files, mask_files)
    ]
    rule = f"no mask has the name of an image: images are like {names[0][0]!r}, masks like {names[1][0]!r}"
    image_pattern, mask_pattern, number = guess_patterns(*names)
    hint = f"give the masks the names of their images in {images.path}"
    if number:
        hint = f"`image_pattern={image_pattern}` `mask_pattern={mask_pattern}`"
        if image_pattern == "{name}" and mask_pattern.startswith("{name}"):
            hint = f"`mask_suffix={mask_pattern.removeprefix('{name}')}`"
        hint += f" (pairs {number} of {len(names[0])} images)" if number < len(names[0]) else ""
    return UserError("no-matching-names", rule, hint, where=masks.path, value=(names[0][0], names[1][0]))


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


def class_file_beside(*folders: str | os.PathLike) -> str:
    """Returns the file that lists classes in one of the folders, as tools write it beside masks; empty if none does."""
    paths = [os.path.join(folder, name) for name in CLASS_FILES for folder in folders]
    found = next(filter(os.path.isfile, paths), "")
    if found:
        console.note(f"{found} lists the classes (`palette` and `class_names` come before it)")
    return found


def classes_beside(*folders: str | os.PathLike) -> dict[str, Any]:
    """Returns what `class_file_beside` says about the classes, as fields of a `Source`; nothing if it is damaged."""
    path = class_file_beside(*folders)
    if not path:
        return {}
    try:
        if all(entry.color for entry in read_class_file(path)):
            return {"palette": path}
        return {"class_names": names_in(path)}
    except UserError as error:  # which must not stop those who set `palette`
        console.warning(f"{path} is not used: {error.rule}; {error.hint}")
        return {}


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


def read_pair_list(path: str, image_folder: str, mask_folder: str, skip_missing: bool = False) -> list[Pair]:
    """Reads a list with an image and its mask per line, separated by a tab, a comma, a semicolon or white space.

    Args:
      path: the list.
      image_folder, mask_folder: the paths in the list are relative to these. Of paths that begin elsewhere, as on
        another machine, the longest end counts that exists there; Windows paths are read, too.
      skip_missing: leave lines out whose files do not exist, with a warning, unless all do not.

    Raises:
      UserError: the list cannot be read, a line has not two paths, files do not exist (the first ten are named), or two
        paths mean the same image (`ambiguous-name`).
    """
    pairs: list[Pair] = []
    missing: list[str] = []
    shortened: dict[str, str] = {}  # what the list calls an image that was found under the end of a path
    for place, (number, line) in enumerate(numbered_names(path, lambda line: "\t" in line)):
        where = f"{path}, line {number}"
        names = _two_paths(line, where)
        folders = zip((image_folder, mask_folder), names, strict=True)
        files, ends = zip(*(_listed_file(folder, name) for folder, name in folders), strict=True)
        if not place and not any(files) and not any(os.path.splitext(name)[1] for name in names):
            continue  # the names of the columns
        missing += [name for name, file in zip(names, files, strict=True) if not file]
        if all(files):
            listed = shortened.setdefault(files[0], names[0])
            if listed != names[0]:
                rule = f"{listed} and {names[0]} are both {files[0]}"
                hint = "give the folder in which the paths of the list begin"
                raise UserError("ambiguous-name", rule, hint, where=where, value=names[0])
            pairs.append(Pair(canonical(os.path.splitext(ends[0])[0]), files[0], files[1]))
    if missing and skip_missing and pairs:
        console.warning(f"{path}: {len(missing)} files do not exist, their lines are left out: {shorten(missing, 3)}")
    elif missing:
        rule = f"{len(missing)} files do not exist: {shorten(missing, _MAX_LISTED)}"
        hint = f"its paths are relative to {image_folder} and {mask_folder}"
        raise UserError("files-missing", rule, hint, where=path, value=len(missing))
    return pairs


def _listed_file(folder: str, name: str) -> tuple[str, str]:
    """Returns the path of a file that a list names, and the end of that name which is in the folder; else empty."""
    ends = [end for end in path_ends(name) if ".." not in end.split("/")]
    for end in (name.lstrip("/"), *ends):
        file = existing_file(os.path.join(folder, end))
        if file:
            return file, end
    return "", ""


def _unquoted(cell: str) -> str:
    return cell[1:-1] if len(cell) > 2 and cell[0] == cell[-1] == '"' else cell


def _two_paths(line: str, where: str) -> tuple[str, str]:
    for separator in ("\t", ";", ",", None):
        parts = [_unquoted(part.strip()) for part in line.split(separator)]
        if len(parts) == 2 and all(parts):
            return parts[0], parts[1]
    rule = f"must have an image and its mask, not {line[:80]!r}"
    raise UserError("wrong-format", rule, "separate the two paths by a tab", where=where, value=line)


def existing_file(path: str) -> str:
    """Returns the path of a file in the Unicode form that it has; empty if the file does not exist."""
    forms = (path, canonical(path), unicodedata.normalize("NFD", path))
    return next(filter(os.path.isfile, forms), "")
