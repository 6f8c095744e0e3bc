"""The conversion of pairs of files to shards and `dataset.yml`, on this machine.

Nothing is visible in the output folder until every pair is converted: shards are written under temporary names, and a
transaction gives all of them and `dataset.yml` their names together. A build that fails or is killed leaves the records
that were there before, or all of the new ones.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from deeplab.config.conversion_config import LabelConfig, RecordConfig
from deeplab.data import dataset as datasets
from deeplab.data import geotiff
from deeplab.data.bands import RGB, ImageBands, parse_bands, parse_scale
from deeplab.data.containers import expanded
from deeplab.data.conversion.beam import chunks, write_in_pipeline
from deeplab.data.conversion.encode import Converted, Recipe, convert_tiles, tiles_of
from deeplab.data.conversion.summary import BadPairs, Oddities, SplitCounts, describe, measured_bands, print_merged
from deeplab.data.dataset import Dataset
from deeplab.data.images import read_raster
from deeplab.data.labels import LabelSpec
from deeplab.data.readers.classes import classes_from, require_several_classes, settle
from deeplab.data.readers.pairs import refuse_leaks
from deeplab.data.readers.source import Pair, Source, Splits
from deeplab.data.records import ShardWriter, list_shards, shard_name, shards_by_split
from deeplab.data.split_names import is_training
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import (
    Transaction,
    made_folder,
    remove_partial,
    roll_back,
    sync,
    write_atomically,
    writing,
)
from deeplab.utils.locks import folder_lock
from deeplab.utils.parallel import WriteBehind, ordered_map
from deeplab.utils.text import counted

_EARLY_PAIRS = 64  # after which a warning points out suspicious labels


def build(source: Source, output_dir: str | os.PathLike, labels: LabelConfig, records: RecordConfig) -> Dataset:
    """Write the TFRecord shards of all splits, and the `dataset.yml` that describes them.

    Args:
      source: pairs by split, in the order in which they are to be stored, and the format's own classes.
      output_dir: folder of the shards; made when missing.
      labels: what mask values mean.
      records: shards, threads, overwriting.

    Returns:
      The descriptor of the splits that were written. Other splits in the folder are kept, and described in the file.

    Raises:
      UserError: a pair that cannot be used (up to ten are named), labels that make no sense, splits that exist already
        (`would-overwrite`), or another build in the same folder (`folder-in-use`). The folder is unchanged.
    """
    folder = pathlib.Path(output_dir)
    with made_folder(folder), folder_lock(folder, "building records", "give another `output_dir`"):
        left = roll_back(folder, locked=True)
        if left:
            console.note(f"{folder}: removed {counted(len(left), 'unfinished file')} of a build that was stopped")
        _refuse_overwriting(folder, list(source.splits), records.overwrite)
        try:
            return _build_locked(source, folder, labels, records)
        finally:
            remove_partial(folder, of_running=True)  # results of pipelines, shards of attempts that were repeated


def _build_locked(source: Source, folder: pathlib.Path, labels: LabelConfig, records: RecordConfig) -> Dataset:
    others = _other_splits(folder, list(source.splits))
    classes = classes_from(labels, source, others)
    recipe = Recipe(
        classes.painter,
        labels.exif,
        records.verify_images,
        records.tile_size,
        records.tile_overlap,
        _chosen_bands(source, records, labels.exif, others),
        records.empty_tile_fraction,
    )
    refuse_leaks(source.splits, records.max_leak)
    source = dataclasses.replace(source, splits={split: expanded(pairs) for split, pairs in source.splits.items()})
    splits = _in_tiles(source.splits, recipe) if recipe.bands and recipe.tile_size else source.splits
    with Transaction(folder) as transaction:
        write = write_in_pipeline if records.beam else write_shards
        counts = write(splits, transaction, recipe, records)
        _require_no_empty_split(counts, records)
        bands = _described_bands(recipe, counts, records, others)
        total = np.sum([found.counts for found in counts.values()], axis=0)
        classes = settle(classes, total)
        name = records.name or name_of(folder)
        dataset = describe(name, classes.names, classes.colors, classes.rule.ignore_label, counts, bands)
        if classes.drawn:
            dataset = dataclasses.replace(dataset, drawn=dict.fromkeys(dataset.splits, True))
        whole = dataset if others is None else datasets.replace_splits(dataset, others)
        write_atomically(transaction.temporary(datasets.FILE_NAME), datasets.as_text(whole))
        for name in _replaced(folder, list(source.splits), records.shards):
            transaction.discard(name)
        transaction.commit()
    if classes.merged:
        print_merged(classes.merged, dataset)
    console.note(f"wrote {counted(len(counts) * records.shards, 'shard')} and {folder / datasets.FILE_NAME}")
    return dataset


def _chosen_bands(source: Source, records: RecordConfig, exif: str, others: Dataset | None) -> ImageBands | None:
    """Channels and type of the images, from the first one, if they are stored with their bands.

    Raises:
      UserError: the first image cannot be read, `scale_from` does not fit it, or other splits in the folder are of
        another kind (`bands-differ`).
    """
    numbers = parse_bands(records.bands)
    held = others.image_bands if others else None
    if numbers is None:
        if held is not None and not held.is_rgb:
            raise _bands_differ(held, RGB)
        return None
    first = expanded([next(itertools.chain.from_iterable(source.splits.values()))])[0].image
    window = (0, 0, 1, 1) if geotiff.is_tiff(first) else None  # a TIFF may be large
    raster = read_raster(first, numbers, window, exif=exif)
    bands = ImageBands(raster.pixels.shape[2], str(raster.pixels.dtype), numbers)
    if records.scale_from:
        parse_scale(records.scale_from, bands.channels)
    if held is not None and (held.channels, held.dtype, held.bands) != (bands.channels, bands.dtype, bands.bands):
        raise _bands_differ(held, bands)
    return bands


def _bands_differ(held: ImageBands, new: ImageBands) -> UserError:
    texts = [f"{one.channels} channels of {one.dtype}" for one in (new, held)]
    rule = f"these images have {texts[0]}, the other splits in the folder {texts[1]}"
    hint = "build all splits with the same `bands`, or give another `output_dir`"
    return UserError("bands-differ", rule, hint, field="bands", value=new.bands)


def _in_tiles(splits: Splits, recipe: Recipe) -> Splits:
    """Pairs as pairs of tiles, all tiles of an image in its split; images that cannot be read stay, for the message."""
    pairs = [(split, pair) for split, pairs in splits.items() for pair in pairs]
    found: dict[str, list[Pair]] = {split: [] for split in splits}
    for split, pair in console.progress(pairs, what="looking at sizes", unit="image"):
        try:
            found[split] += tiles_of(pair, recipe)
        except UserError:
            found[split].append(pair)
    return found


def _require_no_empty_split(counts: Mapping[str, SplitCounts], records: RecordConfig) -> None:
    empty = [split for split, found in counts.items() if not found.images]
    if empty and records.empty_tile_fraction < 1:
        rule = f"leaves no tile in split {', '.join(empty)}"
        hint = "keep more of the empty tiles, e.g. `empty_tile_fraction=0.2`"
        raise UserError("empty-split", rule, hint, field="empty_tile_fraction", value=records.empty_tile_fraction)


def _described_bands(
    recipe: Recipe, counts: Mapping[str, SplitCounts], records: RecordConfig, others: Dataset | None
) -> ImageBands:
    if recipe.bands is None:
        return RGB
    kept = others.image_bands if others and any(map(is_training, others.splits)) else None
    if kept is not None and records.scale_from:
        console.note("`scale_from` is left out: the scaling of the training split in the folder holds for all splits")
    return measured_bands(recipe.bands, counts, records.scale_from, kept)


def _replaced(folder: pathlib.Path, splits: Sequence[str], shards: int) -> list[str]:
    """Names of the shards of these splits that no new shard replaces, since their number is another one."""
    new = {shard_name(split, index, shards) for split in splits for index in range(shards)}
    existing = shards_by_split(folder)
    return [name for split in splits for name in existing.get(split, []) if name not in new]


def is_built(source: Source, output_dir: str | os.PathLike, tiles: bool = False) -> bool:
    """Whether a folder holds complete records of all splits of a source, with as many images as the source has.

    With tiles the numbers of images are not compared.

    Raises:
      UserError: shards are missing (`incomplete-split`).
    """
    folder = pathlib.Path(output_dir)
    if not (folder / datasets.FILE_NAME).is_file():
        return False
    held, shards = datasets.load(folder / datasets.FILE_NAME).splits, shards_by_split(folder)
    counts = {split: held.get(split) if tiles else len(pairs) for split, pairs in source.splits.items()}
    if any(held.get(split) != number or split not in shards for split, number in counts.items()):
        return False
    return all(list_shards(folder, split) for split in source.splits)


# --- What the folder holds ----------------------------------------------------------------------------------


def _refuse_overwriting(folder: pathlib.Path, splits: Sequence[str], overwrite: bool) -> None:
    there = [split for split in splits if split in shards_by_split(folder)]
    if there and not overwrite:
        rule = f"{folder} already holds records of split {', '.join(there)}"
        hint = "`overwrite=true` replaces them, `resume=true` keeps what is complete; or give another folder"
        raise UserError("would-overwrite", rule, hint, field="output_dir", value=there)


def _other_splits(folder: pathlib.Path, splits: Sequence[str]) -> Dataset | None:
    """Descriptor of the splits that the folder keeps; None without any."""
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
        errors=only(held.errors),
        drawn=only(held.drawn),
    )


def name_of(folder: pathlib.Path) -> str:
    """Name for the dataset of a folder: the folder's own, or its parent's if the folder is called "tfrecord" or so."""
    folder = folder.resolve()
    return folder.parent.name if folder.name in ("tfrecord", "tfrecords", "records") else folder.name


# --- Conversion ---------------------------------------------------------------------------------------------


def write_shards(
    splits: Splits, transaction: Transaction, recipe: Recipe, records: RecordConfig
) -> dict[str, SplitCounts]:
    """Write all shards under the temporary names of a transaction.

    Args:
      splits: pairs by split.
      transaction: gives the shards their names later.
      recipe: how pairs are read.
      records: shards and threads.

    Returns:
      What was counted in each split.

    Raises:
      UserError: pairs that cannot be used.
    """
    total = sum(map(len, splits.values()))
    bad, oddities = BadPairs(total), Oddities()
    counts: dict[str, SplitCounts] = {}
    with console.progress(total=total, what="converting", unit="pair") as bar:
        drawn = any(not isinstance(pair.mask, str) for pairs in splits.values() for pair in pairs[:1])
        watch = _Watch(oddities, recipe.painter.rule, drawn)
        all_pairs = (pair for pairs in splits.values() for pair in pairs)
        # One stream over all shards and splits: no thread waits at the end of a shard.
        results = ordered_map(functools.partial(convert_or_error, recipe=recipe), all_pairs, records.num_workers)
        # Shards are written to the disk while the next ones are converted.
        with contextlib.closing(results), WriteBehind() as disk:
            for split, pairs in splits.items():
                counts[split] = SplitCounts()
                for index, chunk in enumerate(chunks(pairs, records.shards)):
                    name = shard_name(split, index, records.shards)
                    transaction.temporary(name)
                    with ShardWriter(transaction.folder, name) as writer:
                        for result in itertools.islice(results, len(chunk)):
                            if isinstance(result, UserError):
                                bad.add(result)
                                result = []
                            if result and "tensorflow" not in sys.modules:  # errors come before this costs seconds
                                console.import_tensorflow()
                            for converted in result:
                                writer.write(converted.example)
                                counts[split].add(converted)
                                watch.see(converted)
                            bar.update()
                        if not bad.errors:
                            disk.submit(_sync, writer.keep(synced=False), transaction.folder / name)
    bad.stop()
    oddities.report()
    return counts


def _sync(temporary: pathlib.Path, shard: pathlib.Path) -> None:
    with writing(shard):
        sync(temporary)


def convert_or_error(pair: Pair, recipe: Recipe) -> list[Converted] | UserError:
    """A converted pair, in one or several tiles, or why it cannot be converted."""
    try:
        return convert_tiles(pair, recipe)
    except UserError as error:
        return error


class _Watch:
    """Looks at pairs as they pass: oddities, and an early warning about labels that look wrong."""

    def __init__(self, oddities: Oddities, spec: LabelSpec, drawn: bool):
        self.oddities, self.spec, self.drawn = oddities, spec, drawn
        self.seen = SplitCounts()

    def see(self, converted: Converted) -> None:
        self.oddities.look(converted, self.spec.ignore_label)
        if self.seen.images < _EARLY_PAIRS:
            self.seen.add(converted)
            if self.seen.images == _EARLY_PAIRS:
                self._warn_early()

    def _warn_early(self) -> None:
        counts, ignore = self.seen.counts, self.spec.ignore_label
        try:
            require_several_classes(
                [v for v in counts.nonzero()[0].tolist() if v != ignore], counts, ignore, self.drawn
            )
        except UserError as error:
            what = "images" if self.drawn else "masks"
            console.warning(f"the first {_EARLY_PAIRS} {what}: {error.rule}; {error.hint}")
