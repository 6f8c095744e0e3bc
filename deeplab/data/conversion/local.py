"""From pairs of files to shards and `dataset.yml`: the part that all builders share.

Nothing is visible in the output folder until every pair is converted: shards are written under temporary names, which
`publish.py` changes together at the end. A build that fails or is killed leaves the folder as it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

import numpy as np

from deeplab.config.conversion_config import LabelConfig, RecordConfig
from deeplab.data import dataset as datasets
from deeplab.data.conversion.bad_pairs import Faults
from deeplab.data.conversion.beam import chunks, write_in_pipeline
from deeplab.data.conversion.encode import Converted, Recipe, convert
from deeplab.data.conversion.publish import Unpublished, clear_unfinished, publish
from deeplab.data.conversion.summary import Oddities, SplitTally, describe
from deeplab.data.dataset import Dataset
from deeplab.data.labels import LabelRule
from deeplab.data.readers.classes import classes_from, require_several_classes, settle
from deeplab.data.readers.pairs import warn_of_leaks
from deeplab.data.readers.source import Pair, Source, Splits
from deeplab.data.records import ShardWriter, list_shards, shard_name, shards_by_split
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import made_folder
from deeplab.utils.locks import folder_lock
from deeplab.utils.parallel import ordered_map

_Write = Callable[..., tuple[Sequence[Unpublished], dict[str, SplitTally]]]
_EARLY_LOOK = 64  # pairs after which suspicious labels are pointed out


def build(source: Source, output_dir: str | os.PathLike, labels: LabelConfig, records: RecordConfig) -> Dataset:
    """Writes TFRecord shards of all splits, and the `dataset.yml` that describes them.

    Args:
      source: pairs by split, in the order in which they are to be stored, and the layout's own classes.
      output_dir: folder of the shards; made where it is not there.
      labels: what mask values mean.
      records: shards, threads, overwriting.

    Returns:
      The description that was written. Splits that the folder held before and that are not built now stay there.

    Raises:
      UserError: a pair that cannot be used (up to ten are named), labels that make no sense, splits that are there
        already, or another build in the same folder. The folder is then as it was before.
    """
    folder = pathlib.Path(output_dir)
    with made_folder(folder), folder_lock(folder, "building records", "give another `output_dir`"):
        left = clear_unfinished(folder)
        if left:
            console.note(f"{folder}: removed {left} unfinished files of a build that was stopped")
        _refuse_overwriting(folder, list(source.splits), records.overwrite)
        return _build_locked(source, folder, labels, records)


def _build_locked(source: Source, folder: pathlib.Path, labels: LabelConfig, records: RecordConfig) -> Dataset:
    others = _other_splits(folder, list(source.splits))
    classes = classes_from(labels, source, others)
    recipe = Recipe(classes.painter, labels.exif, records.verify_images)
    warn_of_leaks(source.splits)
    write: _Write = write_in_pipeline if records.beam else write_shards
    with contextlib.ExitStack() as stack:  # removes every shard that is not published
        writers, tallies = write(source.splits, folder, recipe, records, stack)
        classes = settle(classes, np.sum([tally.counts for tally in tallies.values()], axis=0))
        name = records.name or name_of(folder)
        dataset = describe(name, classes.names, classes.colors, classes.rule.ignore_label, tallies)
        publish(folder, writers, dataset if others is None else datasets.replace_splits(dataset, others), others)
    console.note(f"wrote {len(writers)} shards and {folder / datasets.FILE_NAME}")
    return dataset


def is_built(source: Source, output_dir: str | os.PathLike) -> bool:
    """Whether a folder holds complete records of a source's splits already, as many images of each as it has.

    Raises:
      UserError: shards of them are missing.
    """
    folder = pathlib.Path(output_dir)
    if not (folder / datasets.FILE_NAME).is_file():
        return False
    held, shards = datasets.load(folder / datasets.FILE_NAME).splits, shards_by_split(folder)
    if any(held.get(split) != len(pairs) or split not in shards for split, pairs in source.splits.items()):
        return False
    return all(list_shards(folder, split) for split in source.splits)


# --- What the folder holds ----------------------------------------------------------------------------------


def _refuse_overwriting(folder: pathlib.Path, splits: Sequence[str], overwrite: bool) -> None:
    there = [split for split in splits if split in shards_by_split(folder)]
    if there and not overwrite:
        rule = f"{folder} already holds records of split {', '.join(there)}"
        hint = "`overwrite=true` replaces them, `resume=true` keeps what is complete; or give another folder"
        raise UserError("unclassified", rule, hint, field="output_dir")


def _other_splits(folder: pathlib.Path, splits: Sequence[str]) -> Dataset | None:
    """Description of the splits that are there and stay; None where there are none."""
    path = folder / datasets.FILE_NAME
    if not path.is_file():
        return None
    held = datasets.load(path)
    kept = [split for split in held.splits if split not in splits and split in shards_by_split(folder)]
    if not kept:
        return None

    def only(facts: Mapping) -> dict:
        return {split: facts[split] for split in kept if split in facts}

    return dataclasses.replace(
        held,
        splits=only(held.splits),
        pixels=only(held.pixels),
        ignored_pixels=only(held.ignored_pixels),
        size_range=only(held.size_range),
    )


def name_of(folder: pathlib.Path) -> str:
    """The folder's name, or its parent's where the folder only says that it holds records."""
    folder = folder.resolve()
    return folder.parent.name if folder.name in ("tfrecord", "tfrecords", "records") else folder.name


# --- Conversion ---------------------------------------------------------------------------------------------


def write_shards(
    splits: Splits, folder: pathlib.Path, recipe: Recipe, records: RecordConfig, stack: contextlib.ExitStack
) -> tuple[Sequence[Unpublished], dict[str, SplitTally]]:
    """All shards under temporary names, and what was counted on the way."""
    total = sum(map(len, splits.values()))
    faults = Faults(total)
    oddities = Oddities()
    writers: list[ShardWriter] = []
    tallies: dict[str, SplitTally] = {}
    with console.progress(total=total, what="converting", unit="pair") as bar:
        watch = _Watch(oddities, recipe.painter.rule)
        all_pairs = (pair for pairs in splits.values() for pair in pairs)
        # One stream over all shards and splits: no thread waits at the end of a shard.
        with contextlib.closing(_converted(all_pairs, recipe, records)) as results:
            for split, pairs in splits.items():
                tallies[split] = SplitTally()
                for index, chunk in enumerate(chunks(pairs, records.shards)):
                    writer = stack.enter_context(ShardWriter(folder, shard_name(split, index, records.shards)))
                    writers.append(writer)
                    for result in itertools.islice(results, len(chunk)):
                        if isinstance(result, UserError):
                            faults.add(result)
                        else:
                            writer.write(result.example)
                            tallies[split].add(result)
                            watch.see(result)
                        bar.update()
                    writer.close()
    faults.stop()
    oddities.report()
    return writers, tallies


def _converted(
    pairs: Iterable[Pair], recipe: Recipe, records: RecordConfig
) -> Generator[Converted | UserError, None, None]:
    work = functools.partial(convert_or_fault, recipe=recipe)
    return ordered_map(work, pairs, records.workers)


def convert_or_fault(pair: Pair, recipe: Recipe) -> Converted | UserError:
    """A converted pair, or why it cannot be."""
    try:
        return convert(pair, recipe)
    except UserError as fault:
        return fault


class _Watch:
    """Looks at pairs as they pass: oddities, and an early word on labels that look wrong."""

    def __init__(self, oddities: Oddities, rule: LabelRule):
        self.oddities, self.rule = oddities, rule
        self.seen = SplitTally()

    def see(self, converted: Converted) -> None:
        self.oddities.look(converted, self.rule.ignore_label)
        if self.seen.images < _EARLY_LOOK:
            self.seen.add(converted)
            if self.seen.images == _EARLY_LOOK:
                self._early_word()

    def _early_word(self) -> None:
        counts, ignore = self.seen.counts, self.rule.ignore_label
        try:
            require_several_classes([v for v in counts.nonzero()[0].tolist() if v != ignore], counts, ignore)
        except UserError as fault:
            console.warning(f"the first {_EARLY_LOOK} masks: {fault.rule}; {fault.hint}")
