"""Datasets listed without stopping at the first missing file: what is wrong becomes findings, the rest is checked."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from deeplab.config.conversion_config import LabelConfig, SplitConfig
from deeplab.data.conversion.splits import pooled, read_sources
from deeplab.data.readers import FORMATS
from deeplab.data.readers.folder import BuildFolderConfig
from deeplab.data.readers.pairs import IMAGE_EXTENSIONS, MASK_EXTENSIONS, Folder, find_lists, pair_by_names, read_list
from deeplab.data.readers.source import Pair, Source
from deeplab.data.readers.voc import BuildVocConfig
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.rules import finding, from_error
from deeplab.utils.errors import UserError
from deeplab.utils.paths import require_folder, split_paths

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

    splits, met = _pairs_of_lists(_paths_of(list_files), pair_of)
    return dataclasses.replace(source, splits=splits), met


def _lists_of_folder(config: BuildFolderConfig, list_files: str) -> Listed:
    images, masks, _ = _folders(config)
    splits, met = _pairs_of_lists(
        _paths_of(list_files), lambda name, path: _pair(name, images, masks, config.mask_suffix, str(path))
    )
    return Source(splits), met


def _pairs_of_lists(
    lists: Mapping[str, pathlib.Path], pair_of: Callable[[str, pathlib.Path], Pair]
) -> tuple[dict[str, list[Pair]], list[Finding]]:
    splits: dict[str, list[Pair]] = {}
    met: list[Finding] = []
    for split, path in lists.items():
        try:
            names = read_list(path)
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
    wanted = [split.strip() for split in config.splits.split(",") if split.strip()]
    images = Folder(config.image_folder, (f".{config.image_format}",) if config.image_format else IMAGE_EXTENSIONS)
    masks = Folder(config.semantic_segmentation_folder, (f".{config.label_format}",))
    lists = find_lists(config.list_folder, wanted)
    pairs, met = _pairs_of_lists(lists, lambda name, path: _pair(name, images, masks, "", str(path)))
    return Source(pairs), met


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


def _folders(config: BuildFolderConfig) -> tuple[Folder, Folder, bool]:
    """Images, masks, and whether they are in one folder."""
    require_folder(config.image_folder, "image_folder")
    require_folder(config.mask_folder, "mask_folder")
    same = pathlib.Path(config.image_folder).resolve() == pathlib.Path(config.mask_folder).resolve()
    extensions = (".jpg", ".jpeg") if same and not config.mask_suffix else IMAGE_EXTENSIONS
    return Folder(config.image_folder, extensions), Folder(config.mask_folder, MASK_EXTENSIONS), same


def _stems(config: BuildFolderConfig) -> tuple[dict[str, str], dict[str, str]]:
    """Of the images and of the masks: the name that a mask must have for the two to be a pair -> the file."""
    images, masks, same = _folders(config)
    suffix = config.mask_suffix
    image_stems = images.wanted_stems("" if same else masks.path)
    mask_stems = masks.wanted_stems("" if same else images.path)
    if same and suffix:
        image_stems = [stem for stem in image_stems if not stem.endswith(suffix)]
        mask_stems = [stem for stem in mask_stems if stem.endswith(suffix)]
    return (
        {stem + suffix: images.candidates(stem)[0] for stem in image_stems},
        {stem: masks.candidates(stem)[0] for stem in mask_stems},
    )


def _unmatched(config: BuildFolderConfig) -> Iterator[Finding]:
    """Images without a mask and masks without an image; nothing where no name matches at all."""
    images, masks = _stems(config)
    if not images.keys() & masks.keys():
        return
    for name, path in images.items():
        if name not in masks:
            yield finding("image-without-mask", path, f"there is no mask {name} in {config.mask_folder}")
    for name, path in masks.items():
        if name not in images and name + config.mask_suffix not in images:
            yield finding("mask-without-image", path, f"there is no image for it in {config.image_folder}")


def _folder(config: BuildFolderConfig) -> Listed:
    """The pairs that have one image and one mask, undivided."""
    images, masks, _ = _folders(config)
    of_images, of_masks = _stems(config)
    pairs: list[Pair] = []
    met: list[Finding] = []
    for name, path in of_images.items():
        if name in of_masks:
            stem = name.removesuffix(config.mask_suffix)
            try:
                pairs.append(_pair(stem, images, masks, config.mask_suffix, config.image_folder))
            except UserError as error:
                met.append(finding("name-ambiguous", path, error.rule.rpartition("; ")[0] or error.rule))
    return (Source({NO_SPLITS: pairs}) if pairs else None), met
