"""Which mask belongs to which image: by equal names, by patterns of names, or by a list of pairs.

Readers of formats with mask files call this module. It compares names and opens no image.
"""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deeplab.config.conversion_config import MAX_LEAK
from deeplab.data.class_names import CLASS_FILES, names_in, read_class_file
from deeplab.data.image_files import IMAGE_EXTENSIONS
from deeplab.data.readers.folder_files import Folder
from deeplab.data.readers.name_lists import canonical, existing_file, numbered_names, path_ends
from deeplab.data.readers.name_patterns import NamePattern, guess_patterns
from deeplab.data.readers.packed_pairs import PackedPairs
from deeplab.data.readers.source import Pair
from deeplab.data.split_names import is_training, must_not_share
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import walk
from deeplab.utils.text import counted, shorten

MASK_EXTENSIONS = (".png", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif", ".webp", ".npy", ".npz", ".mat", ".dcm")
_MAX_LISTED = 10  # files that an error names


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
            rule = f"splits {training!r} and {other!r} share {counted(len(shared), 'image')} ({shorten(shared)})"
            if len(shared) > max_leak:
                hint = f"remove them from one of the two: figures on {other!r} would be much too good"
                hint = f"{hint} (`max_leak` allows more)"
                raise UserError("split-leak", rule, hint, where=f"split {other}", value=len(shared))
            console.warning(f"{rule}: figures on {other!r} will look better than they are")


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
        console.warning(f"{where}: {counted(len(errors), 'file')} cannot be found, left out: {shorten(errors, 3)}")
    elif errors:
        shown = errors[:_MAX_LISTED] + [f"and {len(errors) - _MAX_LISTED} more"] * (len(errors) > _MAX_LISTED)
        rule = f"{counted(len(errors), 'file')} cannot be found:\n    " + "\n    ".join(shown)
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


@dataclass(frozen=True)
class FolderMatch:
    """Images and masks of two folders, as far as they belong together.

    Attributes:
      pairs: sorted by name, in the compact form.
      images_without_mask, masks_without_image: their paths in their folders.
      ambiguous: paths of several images that have the same mask, or several masks of the same image.
    """

    pairs: PackedPairs
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
    if together or image_pattern or mask_pattern:
        mask_files = _files_by_key(masks, of_masks, "" if together else images.path)
        image_files = _files_by_key(images, of_images, "" if together else masks.path)
        equal = PackedPairs(())
    else:
        equal, image_files, mask_files = _equal_names(images, masks)
    if together and mask_pattern and not image_pattern:  # what looks like a mask is none of the images
        image_files = {key: kept for key, files in image_files.items() if (kept := _not_like(of_masks, files))}
    if not equal:
        _require_files(images, image_files, together, image_pattern)
        _require_files(masks, mask_files, together, mask_pattern)
    keys = _matching_keys(image_files, mask_files)
    if not keys and not equal:
        raise _nothing_matches(images, masks, image_files, mask_files)
    ambiguous = [files for pair in keys.items() for files in _several(image_files, mask_files, *pair)]
    others = (
        _pair_of(images, image_files[key][0], masks, mask_files[other][0])
        for key, other in keys.items()
        if len(image_files[key]) == len(mask_files[other]) == 1
    )
    pairs = PackedPairs(itertools.chain(equal, others)) if keys else equal
    names = [pair.name for pair in pairs]
    used = set(keys.values())
    masks_of_pairs = {mask for key in used for mask in mask_files[key]} if together else set()
    return FolderMatch(
        pairs.taken(sorted(range(len(names)), key=names.__getitem__)),
        tuple(
            sorted({path for key, files in image_files.items() if key not in keys for path in files} - masks_of_pairs)
        ),
        tuple(sorted(path for key, files in mask_files.items() if key not in used for path in files)),
        tuple(ambiguous),
    )


_Key = tuple[str, ...]
_Files = dict[_Key, list[str]]


def _equal_names(images: Folder, masks: Folder) -> tuple[PackedPairs, _Files, _Files]:
    """Returns the pairs of the names that have one file in either folder, and the files of the other names.

    Most datasets have no other names, so that a million files do not become a million entries of a dictionary.
    """
    rest: tuple[_Files, _Files] = {}, {}

    def pairs() -> Iterator[Pair]:
        files = heapq.merge(_entries(images, 0, masks.path), _entries(masks, 1, images.path))
        for key, found in itertools.groupby(files, key=lambda entry: entry[0]):
            sides = list(found)
            if [len(paths) for _, _, paths in sides] == [1, 1]:
                yield _pair_of(images, sides[0][2][0], masks, sides[1][2][0])
            else:
                for _, side, paths in sides:
                    rest[side][key] = paths

    equal = PackedPairs(pairs())
    of_images, of_masks = ({key: files[key] for key in sorted(files, key=lambda key: "/".join(key))} for files in rest)
    return equal, of_images, of_masks


def _entries(folder: Folder, side: int, leave_out: os.PathLike) -> Iterator[tuple[_Key, int, list[str]]]:
    """Yields what `NamePattern("{name}").key` says of each name, a number, and the name's files."""
    for inside, stem, files in folder.wanted(leave_out):
        if "\n" not in stem:
            yield (inside, stem), side, files


def _pair_of(images: Folder, image: str, masks: Folder, mask: str) -> Pair:
    """Returns the pair of two paths in their folders."""
    return Pair(canonical(os.path.splitext(image)[0]), _whole(images, image), _whole(masks, mask))


def _whole(folder: Folder, path: str) -> str:
    """Returns `folder.path / path` as text; pathlib would keep an entry of every name for good, 70 bytes a file."""
    start = str(folder.path)
    return path.replace("/", os.sep) if start == "." else os.path.join(start, path.replace("/", os.sep))


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


def pair_folders(images: Folder, masks: Folder, image_pattern: str = "", mask_pattern: str = "") -> PackedPairs:
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
    return found.pairs


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
        console.warning(
            f"{path}: {counted(len(missing), 'file')} cannot be found, lines left out: {shorten(missing, 3)}"
        )
    elif missing:
        rule = f"{counted(len(missing), 'file')} cannot be found: {shorten(missing, _MAX_LISTED)}"
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
