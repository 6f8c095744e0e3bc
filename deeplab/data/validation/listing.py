"""Lists datasets without stopping at the first missing file: errors become findings, and the rest is checked."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from deeplab.config.conversion_config import LabelConfig, SplitConfig
from deeplab.config.fields import split_words
from deeplab.data.conversion.splits import pooled, read_sources
from deeplab.data.image_files import IMAGE_EXTENSIONS
from deeplab.data.readers import FORMATS
from deeplab.data.readers.folder import BuildFolderConfig, match_config
from deeplab.data.readers.folder_files import Folder
from deeplab.data.readers.name_lists import find_lists, is_other_text, read_names
from deeplab.data.readers.pairs import MASK_EXTENSIONS, pair_by_names
from deeplab.data.readers.source import Pair, Source
from deeplab.data.readers.voc import BuildVocConfig
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.rules import finding, from_error
from deeplab.utils.errors import UserError
from deeplab.utils.paths import split_paths

NO_SPLITS = "all"  # the split of pairs that could not be divided
_EXTENSIONS = re.compile(r" \(\.\w+( or \.\w+)*\)")
_MAX_QUOTED = 60  # characters of a line that is quoted
Listed = tuple[Source | None, list[Finding]]


def listed(format_name: str, config: Any, labels: LabelConfig, splits: SplitConfig) -> Listed:
    """What a dataset holds, and what is wrong with its list of files.

    Args:
      format_name: a name in FORMATS.
      config: an instance of the config class of that format.
      labels, splits: as for building records. Of several folds the first is used: each holds all pairs. Where a bad
        mask prevents stratifying, the pairs are divided without it; too few pairs to be divided stay together, unless
        `train_pct` asks for the division.

    Returns:
      The pairs that there are, None where they cannot be listed; and findings.

    Raises:
      UserError: a setting cannot be followed, such as one that names a folder that does not exist.
    """
    # Where lists say what belongs to the dataset, further files in its folders are no problem.
    met = list(_unmatched(config)) if isinstance(config, BuildFolderConfig) and not splits.list_files else []
    try:
        return next(iter(read_sources(format_name, config, labels, splits).values())), met
    except UserError as error:
        again = _with_less(error, splits)
        if again:
            return listed(format_name, config, labels, again)
        if error.field is not None:
            raise
        source, more = _leniently(format_name, config, splits, error)
        return source, [*met, *more]


def _with_less(error: UserError, splits: SplitConfig) -> SplitConfig | None:
    """A division that asks for less, with which listing may succeed; None where that would contradict the user."""
    if error.field == "train_pct" and splits.train_pct is None:
        return dataclasses.replace(splits, train_pct=1.0, test_pct=0.0)
    if splits.stratify and error.field is None:  # stratifying reads masks, and a bad one stops it
        return dataclasses.replace(splits, stratify=False)
    return None


def _leniently(format_name: str, config: Any, splits: SplitConfig, error: UserError) -> Listed:
    """A second try that leaves out what is missing; what stopped the first is a finding unless that has found it."""
    again: Callable[[], Listed] | None = None
    if splits.list_files and isinstance(config, BuildFolderConfig):
        again = functools.partial(_lists_of_folder, config, splits.list_files)
    elif splits.list_files:
        again = functools.partial(_of_lists, format_name, config, splits.list_files)
    elif isinstance(config, BuildVocConfig):
        again = functools.partial(_voc, config)
    elif isinstance(config, BuildFolderConfig):
        again = functools.partial(_folder, config)
    source: Source | None = None
    met: list[Finding] = []
    if again:
        with contextlib.suppress(UserError):
            source, met = again()
    return source, met or [from_error("listing-unusable", error)]


# --- Lists --------------------------------------------------------------------------------------------------


def _paths_of(list_files: str) -> dict[str, pathlib.Path]:
    paths = [pathlib.Path(path) for path in split_paths(list_files)]
    return {path.stem: path for path in paths}


def _of_lists(format_name: str, config: Any, list_files: str) -> Listed:
    source = FORMATS.get(format_name).read(config)
    by_name = {pair.name: pair for pair in pooled(source)}

    def pair_of(name: str, path: pathlib.Path) -> Pair:
        found = by_name.get(name) or by_name.get(name.rpartition(".")[0])
        if found is None:
            raise UserError("file-not-found", f"{name}: there is no such pair of image and label", where=path)
        return found

    splits, met = _pairs_of_lists(_paths_of(list_files), pair_of, by_name.get)
    return dataclasses.replace(source, splits=splits), met


def _lists_of_folder(config: BuildFolderConfig, list_files: str) -> Listed:
    images, masks = Folder(config.image_folder, IMAGE_EXTENSIONS), Folder(config.mask_folder, MASK_EXTENSIONS)
    by_name = {pair.name: pair for pair in match_config(config).pairs}

    def pair_of(name: str, path: pathlib.Path) -> Pair:
        found = by_name.get(name) or by_name.get(name.rpartition(".")[0])
        return found or _pair(name, images, masks, config.mask_suffix, str(path))

    splits, met = _pairs_of_lists(_paths_of(list_files), pair_of, by_name.get)
    return Source(splits), met


def _pairs_of_lists(
    lists: Mapping[str, pathlib.Path], pair_of: Callable[[str, pathlib.Path], Pair], is_known: Callable[[str], object]
) -> tuple[dict[str, list[Pair]], list[Finding]]:
    splits: dict[str, list[Pair]] = {}
    met: list[Finding] = []
    for split, path in lists.items():
        try:
            names = read_names(path, is_known)
        except UserError as error:
            met.append(finding("listing-unusable", path, error.rule, split=split, hint=error.hint))
            continue
        found, missing = _found(names, path, split, pair_of)
        if found:
            splits[split] = found
            met += missing
        else:
            met.append(_no_list(path, names[0], split))
    return splits, met


def _found(
    names: Sequence[str], path: pathlib.Path, split: str, pair_of: Callable[[str, pathlib.Path], Pair]
) -> tuple[list[Pair], list[Finding]]:
    pairs: list[Pair] = []
    missing: list[Finding] = []
    for name in names:
        try:
            pairs.append(pair_of(name, path))
        except UserError as error:
            missing.append(finding("listed-name-missing", path, error.rule, split=split))
    return pairs, missing


def _no_list(path: pathlib.Path, name: str, split: str) -> Finding:
    first = name if len(name) <= _MAX_QUOTED else f"{name[:_MAX_QUOTED]} ..."
    text = f"none of its lines names an image of this dataset; the first is {first!r}"
    hint = "write one image name per line; if it is not the list of a split, leave it out (`splits`, `list_files`)"
    return finding("listing-unusable", path, text, split=split, hint=hint)


# --- PASCAL VOC ---------------------------------------------------------------------------------------------


def _voc(config: BuildVocConfig) -> Listed:
    wanted = split_words(config.splits)
    images = Folder(config.image_folder, (f".{config.image_format}",) if config.image_format else IMAGE_EXTENSIONS)
    masks = Folder(config.semantic_segmentation_folder, (f".{config.label_format}",))
    lists = find_lists(config.list_folder, wanted)
    if not wanted:
        lists = {split: path for split, path in lists.items() if not _is_other_text(path, images)}
    pairs, met = _pairs_of_lists(lists, lambda name, path: _pair(name, images, masks, "", str(path)), images.find)
    return Source(pairs), met


def _is_other_text(path: pathlib.Path, images: Folder) -> bool:
    with contextlib.suppress(UserError):  # which is a finding later
        return is_other_text(path, read_names(path, images.find), images)
    return False


def _pair(name: str, images: Folder, masks: Folder, mask_suffix: str, where: str) -> Pair:
    """The pair of one name.

    Raises:
      UserError: a file is missing or ambiguous, in one line.
    """
    try:
        return pair_by_names([name], images, masks, mask_suffix, where)[0]
    except UserError as error:
        lines = [_EXTENSIONS.sub("", line.strip()) for line in error.rule.splitlines()[1:]]
        raise UserError(error.code, "; ".join(lines) or error.rule, where=where) from None


# --- Two folders --------------------------------------------------------------------------------------------


def _unmatched(config: BuildFolderConfig) -> Iterator[Finding]:
    """Images without a mask and masks without an image; nothing where no name matches at all."""
    with contextlib.suppress(UserError):
        found = match_config(config)
        for path in found.images_without_mask:
            text = f"there is no mask for it in {config.mask_folder}"
            yield finding("image-without-mask", pathlib.Path(config.image_folder, path), text)
        for path in found.masks_without_image:
            text = f"there is no image for it in {config.image_folder}"
            yield finding("mask-without-image", pathlib.Path(config.mask_folder, path), text)


def _folder(config: BuildFolderConfig) -> Listed:
    """The pairs that have one image and one mask, undivided."""
    found = match_config(config)
    met = []
    for files in found.ambiguous:
        kinds = ", ".join(pathlib.Path(file).suffix for file in files)
        path = pathlib.Path(config.image_folder, files[0])
        met.append(finding("name-ambiguous", path, f"there are several ({kinds}): {', '.join(files)}"))
    return (Source({NO_SPLITS: found.pairs}) if found.pairs else None), met
