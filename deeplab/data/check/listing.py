"""Layouts listed without stopping at the first missing file: what is wrong becomes findings, the rest is checked."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deeplab.data.build import FORMATS
from deeplab.data.build.divide import SplitConfig
from deeplab.data.build.folder import BuildFolderConfig
from deeplab.data.build.pairs import (
    IMAGE_EXTENSIONS,
    MASK_EXTENSIONS,
    Folder,
    find_lists,
    pair_by_names,
    read_list,
    require_folder,
)
from deeplab.data.build.settings import LabelConfig
from deeplab.data.build.source import Pair, Source
from deeplab.data.build.sources import read_sources
from deeplab.data.build.voc import BuildVocConfig
from deeplab.data.check.report import Finding
from deeplab.data.check.rules import finding
from deeplab.errors import UserError

NO_SPLITS = "all"  # what pairs are called that could not be divided
Listed = tuple[Source | None, list[Finding]]


def listed(format_name: str, config: Any, labels: LabelConfig, splits: SplitConfig) -> Listed:
    """What a data set holds, and what is wrong with its list of files.

    Args:
      format_name: a name in FORMATS.
      config: an instance of that format's settings group.
      labels, splits: as for building records. Of several folds the first is taken: each holds all pairs. Where a
        faulty mask prevents that classes are shared evenly, the pairs are divided without that.

    Returns:
      The pairs that there are, None where they cannot be listed; and findings.

    Raises:
      UserError: a flag cannot be followed, such as one that names a folder that is not there.
    """
    met = list(_unmatched(config)) if isinstance(config, BuildFolderConfig) else []
    try:
        return next(iter(read_sources(format_name, config, labels, splits).values())), met
    except UserError as fault:
        if fault.where.startswith(("--", "command line")):
            raise
        if splits.stratify:  # for which masks are read, and a faulty one stops
            return listed(format_name, config, labels, dataclasses.replace(splits, stratify=False))
        lenient = _lenient(format_name, config, splits)
        if lenient is None:
            return None, [*met, finding("listing-unusable", fault.where, fault.rule, remedy=fault.remedy)]
        source, more = lenient()
        return source, [*met, *more]


def _lenient(format_name: str, config: Any, splits: SplitConfig) -> Callable[[], Listed] | None:
    """A second try that leaves out what is missing; None where there is none."""
    if splits.list_files:
        return lambda: _of_lists(FORMATS[format_name].read(config), splits.list_files)
    if isinstance(config, BuildVocConfig):
        return lambda: _voc(config)
    if isinstance(config, BuildFolderConfig):
        return lambda: _folder(config)
    return None


# --- Lists of one's own -------------------------------------------------------------------------------------


def _of_lists(source: Source, list_files: str) -> Listed:
    by_name = {pair.name: pair for pair in source.pairs()}

    def pair_of(name: str, path: pathlib.Path) -> Pair:
        found = by_name.get(name) or by_name.get(name.rpartition(".")[0])
        if found is None:
            raise UserError(path, f"{name}: there is no such pair of image and label")
        return found

    paths = [pathlib.Path(part.strip()) for part in list_files.split(",") if part.strip()]
    pairs, met = _pairs_of_lists({path.stem: path for path in paths}, pair_of)
    return Source(pairs, source.class_names, source.colours, source.ignore_label, source.label_map, source.drawn), met


def _pairs_of_lists(
    lists: Mapping[str, pathlib.Path], pair_of: Callable[[str, pathlib.Path], Pair]
) -> tuple[dict[str, list[Pair]], list[Finding]]:
    splits: dict[str, list[Pair]] = {}
    met: list[Finding] = []
    for split, path in lists.items():
        try:
            names = read_list(path)
        except UserError as fault:
            met.append(finding("listing-unusable", path, fault.rule, split=split, remedy=fault.remedy))
            continue
        splits[split], missing = [], []
        for name in names:
            try:
                splits[split].append(pair_of(name, path))
            except UserError as fault:
                missing.append(finding("listed-name-missing", path, fault.rule, split=split))
        met += missing if splits[split] else [_no_list(path, names[0], split)]
    return splits, met


def _no_list(path: pathlib.Path, name: str, split: str) -> Finding:
    text = f"none of its lines names an image of this data set; the first is {name!r}"
    return finding("listing-unusable", path, text, split=split, remedy="remove the file if it is no list of a split")


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
    except UserError as fault:
        lines = [line.strip() for line in fault.rule.splitlines()[1:]]
        raise UserError(where, "; ".join(lines) or fault.rule) from None


# --- Two folders --------------------------------------------------------------------------------------------


def _folders(config: BuildFolderConfig) -> tuple[Folder, Folder, bool]:
    """Images, masks, and whether they lie in one folder."""
    require_folder(config.image_folder, "--image_folder")
    require_folder(config.mask_folder, "--mask_folder")
    same = pathlib.Path(config.image_folder).resolve() == pathlib.Path(config.mask_folder).resolve()
    extensions = (".jpg", ".jpeg") if same and not config.mask_suffix else IMAGE_EXTENSIONS
    return Folder(config.image_folder, extensions), Folder(config.mask_folder, MASK_EXTENSIONS), same


def _stems(config: BuildFolderConfig) -> tuple[list[str], list[str]]:
    images, masks, same = _folders(config)
    image_stems = images.wanted_stems("" if same else masks.path)
    return image_stems, masks.wanted_stems("" if same else images.path)


def _unmatched(config: BuildFolderConfig) -> Iterator[Finding]:
    """Images without a mask and masks without an image; nothing where no name matches at all."""
    image_stems, mask_stems = _stems(config)
    wanted, there = {stem + config.mask_suffix for stem in image_stems}, set(mask_stems)
    if not wanted & there:
        return
    for stem in image_stems:
        if stem + config.mask_suffix not in there:
            text = f"there is no mask {stem}{config.mask_suffix} in {config.mask_folder}"
            yield finding("image-without-mask", pathlib.Path(config.image_folder) / stem, text)
    images = wanted if not config.mask_suffix else {*wanted, *image_stems}
    for stem in mask_stems:
        if stem not in images:
            text = f"there is no image for it in {config.image_folder}"
            yield finding("mask-without-image", pathlib.Path(config.mask_folder) / stem, text)


def _folder(config: BuildFolderConfig) -> Listed:
    """The pairs that have one image and one mask, undivided."""
    images, masks, _ = _folders(config)
    image_stems, mask_stems = _stems(config)
    there = set(mask_stems)
    pairs: list[Pair] = []
    met: list[Finding] = []
    for stem in image_stems:
        if stem + config.mask_suffix in there:
            try:
                pairs.append(_pair(stem, images, masks, config.mask_suffix, config.image_folder))
            except UserError as fault:
                met.append(finding("name-ambiguous", pathlib.Path(config.image_folder) / stem, fault.rule))
    return (Source({NO_SPLITS: pairs}), met) if met else (None, [_nothing(config)])


def _nothing(config: BuildFolderConfig) -> Finding:
    try:
        FORMATS["folder"].read(config)
    except UserError as fault:
        return finding("listing-unusable", fault.where, fault.rule, remedy=fault.remedy)
    return finding("nothing-to-check", config.image_folder, "holds no pair of image and mask")
