"""The same conversion as an Apache Beam pipeline, for datasets that are too large for one machine (extra `beam`).

One shard is one task, so the shards are byte for byte those of a local build; `num_shards` limits how many workers can
be busy. Workers read the images and write the shards themselves: both must be on a file system that all workers mount
under the same path. Dataflow, Flink and Spark get their options through `beam_options`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.config.conversion_config import RecordConfig
from deeplab.data.bands import BandHistogram
from deeplab.data.conversion.encode import Recipe, convert_tiles
from deeplab.data.conversion.summary import BadPairs, Oddities, SplitCounts
from deeplab.data.dataset import SizeRange
from deeplab.data.readers.source import Pair, Splits
from deeplab.data.records import ShardWriter, shard_name
from deeplab.utils import console
from deeplab.utils.beam_pipelines import POLL_SECONDS, run_pipeline
from deeplab.utils.errors import MAX_ERRORS, UserError
from deeplab.utils.files import Transaction, write_atomically

_STOP_SECONDS = 1.5  # that workers have to notice that the command was stopped
_STOP_SECONDS_HERE = 10.0  # the same of those in this process, which would write again what is removed
_AT_WORK: set[int] = set()  # marks of the shards that this process is writing
_RESULT = ".result."  # part of the names of result files, between the shard and the attempt


@dataclass(frozen=True)
class ShardTask:
    """One shard to write: its name, and the pairs in it."""

    split: str
    name: str
    pairs: Sequence[Pair]


@dataclass
class ShardResult:
    """What a worker did: the shard's temporary name, what was counted on the way, and the errors of bad pairs."""

    temporary: str
    counts: SplitCounts
    oddities: Oddities
    errors: list[UserError]


def write_in_pipeline(
    splits: Splits, transaction: Transaction, recipe: Recipe, records: RecordConfig
) -> dict[str, SplitCounts]:
    """Write all shards in a pipeline; arguments and result as in `local.write_shards`.

    Raises:
      UserError: Beam is not installed (`missing-library`), the pipeline fails (`failed-pipeline`), or pairs cannot be
        used.
    """
    tasks, folder = list(shard_tasks(splits, records.shards)), transaction.folder
    with console.progress(total=len(tasks), what="converting", unit="shard") as bar:
        _run(tasks, folder, recipe, records.beam_options, bar)
    results = {task.name: _read_result(folder, task.name) for task in tasks}
    bad, oddities = BadPairs(sum(map(len, splits.values()))), Oddities()
    counts = {split: SplitCounts() for split in splits}
    for task in tasks:
        result = results[task.name]
        for error in result.errors:
            bad.add(error)
        counts[task.split].merge(result.counts)
        oddities.merge(result.oddities)
    bad.stop()
    oddities.report()
    for name, result in results.items():
        os.replace(folder / result.temporary, transaction.temporary(name))
    return counts


def shard_tasks(splits: Splits, number: int) -> Iterator[ShardTask]:
    """One task per shard, with the same pairs in the same order as a local build writes."""
    for split, pairs in splits.items():
        for index, chunk in enumerate(chunks(pairs, number)):
            yield ShardTask(split, shard_name(split, index, number), tuple(chunk))


def chunks(pairs: Sequence[Pair], number: int) -> list[Sequence[Pair]]:
    """Contiguous chunks of ceil(n / number) pairs, as in the reference: the last ones may be short or empty."""
    size = -(-len(pairs) // number)
    return [pairs[index * size : (index + 1) * size] for index in range(number)]


# --- The pipeline -------------------------------------------------------------------------------------------


def _run(tasks: Sequence[ShardTask], folder: pathlib.Path, recipe: Recipe, options: str, bar: Any) -> None:
    """Runs the pipeline; meanwhile the progress bar counts the finished shards."""
    run = _random_mark()
    run_pipeline(
        tasks,
        write_shard,
        (str(folder), recipe, os.getcwd(), run),
        options,
        watch=lambda: bar.update(len(set(map(_shard_of, _result_files(folder)))) - bar.n),
        stop=lambda thread: _stop(folder, run, thread),  # workers must not write again what is removed now
    )


def _stop(folder: pathlib.Path, run: int, thread: threading.Thread) -> None:
    """Ends the work of a pipeline; workers, which may be other processes, see the file that says so."""
    mark = _stop_mark(folder, run)
    end = time.monotonic() + _STOP_SECONDS_HERE
    try:
        with contextlib.suppress(OSError):  # a full disk: then workers end with this process
            mark.touch()
        thread.join(_STOP_SECONDS)
        while _AT_WORK and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
    finally:
        mark.unlink(missing_ok=True)


def _stop_mark(folder: str | os.PathLike, run: int) -> pathlib.Path:
    return pathlib.Path(folder, f".stop.{run}.partial")


def _random_mark() -> int:
    return random.SystemRandom().randrange(1, 10**12)


def write_shard(task: ShardTask, folder: str, recipe: Recipe, current: str = "", run: int = 0) -> str:
    """Convert the pairs of one shard and write them under a temporary name, then the result beside them.

    Beam's workers run this, perhaps more than once: each attempt has files of its own.

    Args:
      task: the shard.
      folder: folder for the shard.
      recipe: how pairs are read.
      current: the folder that relative paths start from; workers may be started in another one.
      run: number of the pipeline.

    Returns:
      The shard's name. A pipeline that was stopped leaves no shard.
    """
    if current and os.getcwd() != current:
        os.chdir(current)
    mark = _random_mark()
    _AT_WORK.add(mark)
    try:
        result = _written(task, folder, recipe, mark, run)
    finally:
        _AT_WORK.discard(mark)
    if result:
        _publish(result, pathlib.Path(folder), f".{task.name}{_RESULT}{mark}.partial")
    return task.name


def _written(task: ShardTask, folder: str, recipe: Recipe, mark: int, run: int) -> ShardResult | None:
    """Write one shard; None if the pipeline was stopped, which is no error that a worker should report."""
    with ShardWriter(folder, task.name, mark) as writer:
        try:
            return _fill(writer, task, recipe, _stop_mark(folder, run))
        except UserError:
            if writer.was_removed:  # by the command, which was stopped and did not wait for this shard
                return None
            raise


def _publish(result: ShardResult, folder: pathlib.Path, name: str) -> None:
    """Write a result beside its shard; neither stays where the command was stopped and has removed the shard."""
    shard = folder / result.temporary
    try:
        write_atomically(folder / name, _as_json(result))
    except UserError:
        if shard.exists():
            raise
    if not shard.exists():
        (folder / name).unlink(missing_ok=True)


def _fill(writer: ShardWriter, task: ShardTask, recipe: Recipe, stop: pathlib.Path) -> ShardResult | None:
    """Write the pairs of a shard until `stop` exists; the result names the temporary file."""
    result = ShardResult("", SplitCounts(), Oddities(), [])
    for pair in task.pairs:
        if stop.exists():
            return None
        try:
            tiles = convert_tiles(pair, recipe)
        except UserError as error:
            result.errors.append(error)
            if len(result.errors) == MAX_ERRORS:
                break
            continue
        for converted in tiles:
            writer.write(converted.example)
            result.counts.add(converted)
            result.oddities.look(converted, recipe.painter.ignore_label)
    result.temporary = writer.keep().name
    return result


# --- Results on disk ----------------------------------------------------------------------------------------


def _result_files(folder: pathlib.Path, name: str = "") -> list[str]:
    """Names of the results of one shard, or of all."""
    return sorted(file for file in os.listdir(folder) if file.startswith(f".{name}") and _RESULT in file)


def _shard_of(file: str) -> str:
    return file[1:].split(_RESULT)[0]


def _read_result(folder: pathlib.Path, name: str) -> ShardResult:
    """The result of a shard's first complete attempt; all attempts write the same bytes."""
    for file in _result_files(folder, name + _RESULT):
        result = _from_json((folder / file).read_bytes())
        if (folder / result.temporary).is_file():
            return result
    rule = f"the pipeline ended without shard {name}"
    hint = "all workers must mount this folder under the same path"
    raise UserError("failed-pipeline", rule, hint, field="output_dir")


def _as_json(result: ShardResult) -> bytes:
    counts = result.counts
    content = {
        "temporary": result.temporary,
        "images": counts.images,
        "counts": counts.counts.tolist(),
        "size": dataclasses.astuple(counts.size) if counts.size else None,
        "formats": sorted(counts.formats),
        "values": _values_as_json(counts.values),
        "oddities": dataclasses.asdict(result.oddities),
        "errors": [(error.code, error.rule, error.hint, error.field, error.where) for error in result.errors],
    }
    return json.dumps(content).encode()


def _values_as_json(values: BandHistogram | None) -> tuple[int, str, str] | None:
    return (values.channels, values.dtype, values.to_text()) if values else None


def _from_json(data: bytes) -> ShardResult:
    content = json.loads(data)
    size = SizeRange(*content["size"]) if content["size"] else None
    counts = SplitCounts(content["images"], np.array(content["counts"], np.int64), size, set(content["formats"]))
    if content["values"]:
        counts.values = BandHistogram.from_text(*content["values"])
    errors = [
        UserError(code, rule, hint, field=field, where=where) for code, rule, hint, field, where in content["errors"]
    ]
    return ShardResult(content["temporary"], counts, Oddities(**content["oddities"]), errors)
