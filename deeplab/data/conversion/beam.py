"""The same conversion as an Apache Beam pipeline, for sets that outgrow one machine (extra `beam`).

One shard is one piece of work, so the shards are byte for byte those of a local build; `num_shards` bounds how many
workers can be busy. Workers read the pictures and write the shards themselves: both must lie on a file system that all
of them mount under the same path. Dataflow, Flink and Spark get their options through `beam_options`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import random
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.config.conversion_config import RecordConfig
from deeplab.data.conversion.bad_pairs import MOST_FAULTS, Faults
from deeplab.data.conversion.encode import Recipe, convert
from deeplab.data.conversion.summary import Oddities, SplitTally
from deeplab.data.dataset import SizeRange
from deeplab.data.readers.source import Pair, Splits
from deeplab.data.records import ShardWriter, remove_partial_files, shard_name
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.extras import require
from deeplab.utils.files import write_atomically

_POLL_SECONDS = 0.2
_STOP_SECONDS = 10.0  # for workers in this process to notice that the command was stopped
_STOPPED: set[int] = set()  # numbers of the runs in this process that are to end
_AT_WORK: set[int] = set()  # marks of the shards that this process is writing
_THREAD = "pipeline"
_RESULT = ".result."  # stands in the names of results, between the shard and the attempt


@dataclass(frozen=True)
class ShardTask:
    """One shard to write: its name, and the pairs that stand in it."""

    split: str
    name: str
    pairs: Sequence[Pair]


@dataclass
class ShardResult:
    """What came of a shard: the file under its temporary name, and what was counted on the way."""

    temporary: str
    tally: SplitTally
    oddities: Oddities
    faults: list[UserError]


@dataclass(frozen=True)
class WrittenShard:
    """A shard that a worker has completed under a temporary name."""

    path: pathlib.Path
    temporary: pathlib.Path

    def publish(self) -> None:
        """Gives it its own name, in one step."""
        os.replace(self.temporary, self.path)


def write_in_pipeline(
    splits: Splits, folder: pathlib.Path, recipe: Recipe, records: RecordConfig, stack: contextlib.ExitStack
) -> tuple[list[WrittenShard], dict[str, SplitTally]]:
    """All shards under temporary names, and what was counted; as `engine.write_shards`, in a pipeline.

    Raises:
      UserError: Beam is not installed, it refuses the options, the pipeline breaks, or pairs cannot be used.
    """
    stack.callback(remove_partial_files, folder)  # results, shards of attempts that were repeated
    tasks = list(shard_tasks(splits, records.shards))
    with console.progress(total=len(tasks), what="converting", unit="shard") as bar:
        _run(tasks, folder, recipe, records.beam_options, bar)
    results = {task.name: _read_result(folder, task.name) for task in tasks}
    faults, oddities = Faults(sum(map(len, splits.values()))), Oddities()
    tallies = {split: SplitTally() for split in splits}
    for task in tasks:
        result = results[task.name]
        for fault in result.faults:
            faults.add(fault)
        tallies[task.split].merge(result.tally)
        oddities.merge(result.oddities)
    faults.stop()
    oddities.report()
    return [WrittenShard(folder / name, folder / result.temporary) for name, result in results.items()], tallies


def shard_tasks(splits: Splits, number: int) -> Iterator[ShardTask]:
    """One task a shard, with the same pairs in the same order as a local build writes."""
    for split, pairs in splits.items():
        for index, chunk in enumerate(chunks(pairs, number)):
            yield ShardTask(split, shard_name(split, index, number), tuple(chunk))


def chunks(pairs: Sequence[Pair], number: int) -> list[Sequence[Pair]]:
    """Contiguous chunks of ceil(n / number) pairs, as in the reference: the last ones may be short or empty."""
    size = -(-len(pairs) // number)
    return [pairs[index * size : (index + 1) * size] for index in range(number)]


# --- The pipeline -------------------------------------------------------------------------------------------


def _run(tasks: Sequence[ShardTask], folder: pathlib.Path, recipe: Recipe, options: str, bar: Any) -> None:
    """Runs the pipeline in a thread of its own, and shows meanwhile how many shards there are."""
    with _only_errors():  # of parts of Beam that nobody here uses
        beam = require("apache_beam", "beam")
        from apache_beam.options.pipeline_options import PipelineOptions
    try:
        words = shlex.split(options)
    except ValueError as fault:
        rule = f"cannot be taken apart: {str(fault).lower()}"
        raise UserError(
            "unclassified", rule, "write them as on a command line, quotes in pairs", field="beam_options"
        ) from None
    met: list[BaseException] = []
    run = _random_mark()

    def work() -> None:
        try:
            with beam.Pipeline(options=PipelineOptions(words)) as pipeline:
                shards = pipeline | "shards" >> beam.Create(list(tasks)) | beam.Reshuffle()
                shards | "convert" >> beam.Map(write_shard, str(folder), recipe, os.getcwd(), run)
        except (Exception, SystemExit) as fault:  # absl-like parsers leave by SystemExit
            met.append(fault)

    thread = threading.Thread(target=work, name=_THREAD, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
            bar.update(len(set(map(_shard_of, _result_files(folder)))) - bar.n)
    except BaseException:  # Ctrl-C: what is cleared away now must not be written again, nor Python end meanwhile
        _stop(run, thread)
        raise
    if met:
        _stop(run, thread)
        reason = " ".join(str(met[0]).split())[-500:]
        raise UserError(
            "unclassified",
            f"the pipeline broke: {type(met[0]).__name__}: {reason}",
            "check `beam_options`",
            field="beam",
        )


def _stop(run: int, thread: threading.Thread) -> None:
    """Ends the work of a pipeline, as far as it is done in this process."""
    _STOPPED.add(run)
    end = time.monotonic() + _STOP_SECONDS
    thread.join(_STOP_SECONDS)
    while _AT_WORK and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _only_errors() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _random_mark() -> int:
    return random.SystemRandom().randrange(1, 10**12)


def write_shard(task: ShardTask, folder: str, recipe: Recipe, current: str = "", run: int = 0) -> str:
    """Converts one shard's pairs and writes them under a temporary name, then the result beside them.

    Runs in Beam's workers, perhaps more than once: each attempt has files of its own.

    Args:
      task: the shard.
      folder: where it goes.
      recipe: how pairs are read.
      current: the folder that paths count from, which workers may not have been started in.
      run: number of the pipeline.

    Returns:
      The shard's name.
    """
    if current and os.getcwd() != current:
        os.chdir(current)
    mark = _random_mark()
    _AT_WORK.add(mark)
    try:
        result = _written(task, folder, recipe, mark, run)
    finally:
        _AT_WORK.discard(mark)
    write_atomically(pathlib.Path(folder) / f".{task.name}{_RESULT}{mark}.partial", _as_json(result))
    return task.name


def _written(task: ShardTask, folder: str, recipe: Recipe, mark: int, run: int) -> ShardResult:
    result = ShardResult("", SplitTally(), Oddities(), [])
    with ShardWriter(folder, task.name, mark) as writer:
        for pair in task.pairs:
            if run in _STOPPED:
                raise InterruptedError("the command was stopped")
            try:
                converted = convert(pair, recipe)
            except UserError as fault:
                result.faults.append(fault)
                if len(result.faults) == MOST_FAULTS:
                    break
                continue
            writer.write(converted.example)
            result.tally.add(converted)
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
    raise UserError("unclassified", rule, "all workers must mount this folder under the same path", field="output_dir")


def _as_json(result: ShardResult) -> bytes:
    tally = result.tally
    content = {
        "temporary": result.temporary,
        "images": tally.images,
        "counts": tally.counts.tolist(),
        "size": dataclasses.astuple(tally.size) if tally.size else None,
        "formats": sorted(tally.formats),
        "oddities": dataclasses.asdict(result.oddities),
        "faults": [(fault.code, fault.rule, fault.hint, fault.field, fault.where) for fault in result.faults],
    }
    return json.dumps(content).encode()


def _from_json(data: bytes) -> ShardResult:
    content = json.loads(data)
    size = SizeRange(*content["size"]) if content["size"] else None
    tally = SplitTally(content["images"], np.array(content["counts"], np.int64), size, set(content["formats"]))
    faults = [UserError(*fault[:3], field=fault[3], where=fault[4]) for fault in content["faults"]]
    return ShardResult(content["temporary"], tally, Oddities(**content["oddities"]), faults)
