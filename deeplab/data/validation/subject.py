"""What is to be checked: pairs in splits, and what is known of their classes before any is read."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from deeplab.data import dataset as datasets
from deeplab.data import records
from deeplab.data.dataset import Dataset
from deeplab.data.labels import LabelRule
from deeplab.data.readers.classes import Classes
from deeplab.data.readers.source import Source
from deeplab.data.split_names import in_order
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.items import FileItem, Item, records_of
from deeplab.data.validation.rules import finding
from deeplab.utils.errors import UserError


@dataclass(frozen=True)
class Subject:
    """A dataset to check.

    Attributes:
      checked: what it is, as the user called it.
      numbers: pairs of each split, in order.
      items: gives all pairs in that order, and findings in place of those that cannot be had.
      classes: what labels are to hold; without a number, the highest label decides.
      exif: what is done with photos that their EXIF data turn; see `LabelConfig.exif`.
      described: dataset.yml of records; None where there is none.
      findings: faults of the listing.
      stored: the pairs lie in records.
    """

    checked: str
    numbers: Mapping[str, int]
    items: Callable[[], Iterator[Item | Finding]]
    classes: Classes
    exif: str = "auto"
    described: Dataset | None = None
    findings: Sequence[Finding] = field(default_factory=tuple)
    stored: bool = False

    @property
    def total(self) -> int:
        """Number of pairs."""
        return sum(self.numbers.values())


# --- Files --------------------------------------------------------------------------------------------------


def of_source(
    source: Source,
    classes: Classes,
    checked: str,
    *,
    exif: str = "auto",
    splits: Sequence[str] = (),
    findings: Sequence[Finding] = (),
) -> Subject:
    """The pairs of a dataset before it becomes records.

    Args:
      source: the dataset, divided into splits.
      classes: as `classes_from` gives them.
      checked: what to call it.
      exif: as `exif`.
      splits: those to look at; none = all.
      findings: what was found while listing.

    Raises:
      UserError: a split is asked for that is not there.
    """
    wanted = _wanted(splits, list(source.splits), checked)
    met = [*findings, *_empty(wanted, {split: len(source.splits[split]) for split in wanted}, checked)]

    def items() -> Iterator[Item | Finding]:
        for split in wanted:
            for pair in source.splits[split]:
                yield FileItem(split, pair)

    numbers = {split: len(source.splits[split]) for split in wanted}
    return Subject(checked, numbers, items, classes, exif, None, met)


def of_nothing(checked: str, findings: Sequence[Finding]) -> Subject:
    """A dataset that could not be listed: nothing but findings."""
    return Subject(checked, {}, lambda: iter(()), Classes(None, (), (), LabelRule()), findings=findings)


def _wanted(asked: Sequence[str], there: Sequence[str], checked: str) -> list[str]:
    for split in asked:
        if split not in there:
            rule = f"{checked} has no split {split!r}"
            raise UserError("unclassified", rule, f"the splits there are {', '.join(there) or 'none'}", field="split")
    return [split for split in in_order(there) if not asked or split in asked]


def _empty(splits: Sequence[str], numbers: Mapping[str, int], checked: str) -> list[Finding]:
    empty = [split for split in splits if not numbers[split]]
    if len(empty) == len(splits):
        return [finding("nothing-to-check", checked, "holds no pair of image and label")]
    return [finding("split-empty", split, "holds no image", split=split) for split in empty]


# --- Records ------------------------------------------------------------------------------------------------


def of_records(
    folder: str | os.PathLike, *, dataset: str = "", num_classes: int | None = None, splits: Sequence[str] = ()
) -> Subject:
    """The records of a folder.

    Args:
      folder: of the shards.
      dataset: known name or dataset.yml that says what the classes are; empty: the dataset.yml in the folder.
      num_classes: number of classes to check for; None: as described.
      splits: those to look at; none = all.

    Raises:
      UserError: no such folder, or a split is asked for that is not there.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise UserError(
            "unclassified",
            "no such folder of records",
            "`dataset_dir` names the folder of the .tfrecord files",
            where=folder,
        )
    by_split = records.shards_by_split(folder)
    described, met = _described(folder, dataset)
    wanted = _wanted(splits, list(by_split), str(folder))
    shards = {split: [str(folder / name) for name in by_split[split]] for split in wanted}
    counts = {split: sum(map(_count, paths)) for split, paths in shards.items()}
    met += [fault for split in wanted for fault in _incomplete(folder, split)]
    met += _empty(wanted, counts, str(folder)) if by_split else [_no_records(folder)]

    def items() -> Iterator[Item | Finding]:
        for split, paths in shards.items():
            for path in paths:
                yield from records_of(path, split)

    classes = _classes(described, num_classes)
    return Subject(str(folder), counts, items, classes, "ignore", described, met, stored=True)


def _no_records(folder: pathlib.Path) -> Finding:
    try:
        records.list_shards(folder, "train")
    except UserError as fault:
        return finding("nothing-to-check", fault.where, fault.rule, hint=fault.hint)
    raise AssertionError("unreachable: the folder holds no shard")


def _incomplete(folder: pathlib.Path, split: str) -> list[Finding]:
    try:
        records.list_shards(folder, split)
        return []
    except UserError as fault:
        return [finding("shards-incomplete", fault.where, fault.rule, split=split, hint=fault.hint)]


def _count(path: str) -> int:
    """Records of a shard, for the progress bar; of a damaged one those are counted that are met."""
    try:
        return records.count_records(path)
    except (UserError, OSError):  # a folder, or a link that leads nowhere
        return 0


def _described(folder: pathlib.Path, dataset: str) -> tuple[Dataset | None, list[Finding]]:
    path = folder / datasets.FILE_NAME
    if dataset:
        return datasets.find(dataset, folder), []
    if not path.is_file():
        rule = f"there is no {datasets.FILE_NAME} in {folder}"
        return None, [finding("description-missing", path, rule)]
    try:
        return datasets.load(path), []
    except UserError as fault:
        return None, [finding("description-unusable", fault.where, fault.rule, hint=fault.hint)]


def _classes(described: Dataset | None, num_classes: int | None) -> Classes:
    ignore = described.ignore_label if described else 255
    if described and num_classes in (None, described.num_classes):
        rule = LabelRule(described.num_classes, ignore)
        return Classes(described.num_classes, described.class_names, described.colors, rule)
    return Classes(num_classes, (), (), LabelRule(num_classes, ignore))
