"""From pairs of files to shards and `dataset.yml`: the part that all builders share.

Nothing is visible in the output folder until every pair is converted: shards are written under temporary names, and
renamed together at the end; `dataset.yml` comes last. A build that fails or is killed leaves the folder as it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Generator, Iterable, Mapping, Sequence

import numpy as np

from deeplab import console
from deeplab.data import dataset as datasets
from deeplab.data.build.classes import Classes, classes_from, require_several_classes, settle
from deeplab.data.build.convert import Converted, convert, ordered_map
from deeplab.data.build.output import made_folder
from deeplab.data.build.pairs import Pair, Splits, warn_of_leaks
from deeplab.data.build.settings import LabelConfig, RecordConfig
from deeplab.data.build.tally import Oddities, SplitTally, describe, share_table, warn_of_absent_classes
from deeplab.data.dataset import Dataset
from deeplab.data.masks import LabelRule
from deeplab.data.records import ShardWriter, remove_partial_files, shard_name, shards_by_split
from deeplab.errors import UserError
from deeplab.lock import folder_lock

_MOST_FAULTS = 10  # bad pairs named before a build gives up
_EARLY_LOOK = 64  # pairs after which suspicious labels are pointed out


def build(splits: Splits, output_dir: str | os.PathLike, labels: LabelConfig, records: RecordConfig) -> Dataset:
    """Writes TFRecord shards of all splits, and the `dataset.yml` that describes them.

    Args:
      splits: pairs by split, in the order in which they are to be stored.
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
    with made_folder(folder), folder_lock(folder, "building records", "give another --output_dir"):
        left = remove_partial_files(folder)
        if left:
            console.note(f"{folder}: removed {len(left)} unfinished files of a build that was stopped")
        _refuse_overwriting(folder, list(splits), records.overwrite)
        return _build_locked(splits, folder, labels, records)


def _build_locked(splits: Splits, folder: pathlib.Path, labels: LabelConfig, records: RecordConfig) -> Dataset:
    others = _other_splits(folder, list(splits))
    names = {split: [pair.name for pair in pairs] for split, pairs in splits.items()}
    classes = classes_from(labels, others, (name for members in names.values() for name in members))
    warn_of_leaks(names)
    with contextlib.ExitStack() as stack:  # removes every shard that is not published
        writers, tallies = _write_all(splits, folder, classes, records, stack)
        classes = settle(classes, np.sum([tally.counts for tally in tallies.values()], axis=0))
        name = records.name or _name_of(folder)
        dataset = describe(name, classes.names, classes.colours, classes.rule.ignore_label, tallies)
        _publish(folder, writers, dataset if others is None else datasets.replace_splits(dataset, others))
    warn_of_absent_classes(dataset)
    print(share_table(dataset))
    console.note(f"wrote {len(writers)} shards and {folder / datasets.FILE_NAME}")
    return dataset


# --- What the folder holds ----------------------------------------------------------------------------------


def _refuse_overwriting(folder: pathlib.Path, splits: Sequence[str], overwrite: bool) -> None:
    there = [split for split in splits if split in shards_by_split(folder)]
    if there and not overwrite:
        rule = f"{folder} already holds records of split {', '.join(there)}"
        raise UserError("--output_dir", rule, "--overwrite=true replaces them; or give another folder")


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


def _name_of(folder: pathlib.Path) -> str:
    """The folder's name, or its parent's where the folder only says that it holds records."""
    folder = folder.resolve()
    return folder.parent.name if folder.name in ("tfrecord", "tfrecords", "records") else folder.name


# --- Conversion ---------------------------------------------------------------------------------------------


def _write_all(
    splits: Splits, folder: pathlib.Path, classes: Classes, records: RecordConfig, stack: contextlib.ExitStack
) -> tuple[list[ShardWriter], dict[str, SplitTally]]:
    """All shards under temporary names, and what was counted on the way."""
    total = sum(map(len, splits.values()))
    faults = Faults(total)
    oddities = Oddities()
    writers: list[ShardWriter] = []
    tallies: dict[str, SplitTally] = {}
    with console.progress(total=total, what="converting", unit="pair") as bar:
        watch = _Watch(oddities, classes.rule)
        all_pairs = (pair for pairs in splits.values() for pair in pairs)
        # One stream over all shards and splits: no thread waits at the end of a shard.
        with contextlib.closing(_converted(all_pairs, classes.rule, records)) as results:
            for split, pairs in splits.items():
                tallies[split] = SplitTally()
                for index, chunk in enumerate(chunks(pairs, records.num_shards)):
                    writer = stack.enter_context(ShardWriter(folder, shard_name(split, index, records.num_shards)))
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


def chunks(pairs: Sequence[Pair], number: int) -> list[Sequence[Pair]]:
    """Contiguous chunks of ceil(n / number) pairs, as in the reference: the last ones may be short or empty."""
    size = -(-len(pairs) // number)
    return [pairs[index * size : (index + 1) * size] for index in range(number)]


def _converted(
    pairs: Iterable[Pair], rule: LabelRule, records: RecordConfig
) -> Generator[Converted | UserError, None, None]:
    work = functools.partial(_convert_or_fault, rule=rule, decode=records.verify_images)
    return ordered_map(work, pairs, records.workers)


def _convert_or_fault(pair: Pair, rule: LabelRule, decode: bool) -> Converted | UserError:
    try:
        return convert(pair, rule, decode)
    except UserError as fault:
        return fault


class Faults:
    """Bad pairs: each is named as it is met; after ten, or at the end, the build stops."""

    def __init__(self, total: int):
        self.total = total
        self.met: list[UserError] = []

    def add(self, fault: UserError) -> None:
        """Takes one more.

        Raises:
          UserError: these are too many.
        """
        self.met.append(fault)
        if len(self.met) == _MOST_FAULTS:
            self.stop()

    def stop(self) -> None:
        """Raises what was met, if anything was."""
        if len(self.met) == 1:
            raise self.met[0]
        if self.met:
            first, *rest = self.met
            others = "".join(f"\n    {fault.where}: {fault.rule}" for fault in rest)
            more = " (and perhaps more: the rest was not looked at)" if len(self.met) == _MOST_FAULTS else ""
            rule = f"{first.rule}\n  and {len(rest)} more pairs of {self.total} cannot be used{more}:{others}"
            raise UserError(first.where, rule, first.remedy)


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
            console.warning(f"the first {_EARLY_LOOK} masks: {fault.rule}; {fault.remedy}")


# --- Publishing ---------------------------------------------------------------------------------------------


def _publish(folder: pathlib.Path, writers: Sequence[ShardWriter], dataset: Dataset) -> None:
    """Renames all shards, removes those of an older build of the same splits, and writes the description last."""
    description = folder / datasets.FILE_NAME
    description.unlink(missing_ok=True)  # from here to the end the folder is no complete data set
    new = {writer.path.name for writer in writers}
    written = {name.rsplit("-", 3)[0] for name in new}
    for split, names in shards_by_split(folder).items():
        for name in names if split in written else ():
            if name not in new:
                (folder / name).unlink()
    for writer in writers:
        writer.publish()
    datasets.save(dataset, description)
