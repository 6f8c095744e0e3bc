"""Evaluation in several processes: each predicts every n-th image, and what they measured is put together.

Counts add up, and images are sorted by their place in the split, so that the report is the one of a single process, but
for its time. `eval` uses it for `eval_processes`; the workers of a training send each other their parts `packed`.
"""

from __future__ import annotations

import dataclasses
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import pickle  # nosec B403  # from this process to those that it starts
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab.utils import console
from deeplab.utils.errors import UserError

if TYPE_CHECKING:  # a process imports TensorFlow quietly, by `_work`, and not already to find that function
    from deeplab.evaluation.evaluator import Evaluator, MeasuredPart
    from deeplab.evaluation.report import Report
    from deeplab.evaluation.split_images import SplitImages

_GPUS = "CUDA_VISIBLE_DEVICES"


def evaluate_in_processes(
    evaluator: Evaluator,
    given: Mapping[str, Any],
    groups: Sequence[type],
    number: int,
    settings: Mapping[str, Any] | None = None,
) -> Report:
    """Evaluate as `evaluator.evaluate`, in several processes, which load its model again.

    Args:
      evaluator: of a checkpoint or exported file.
      given: settings by name from a command line, as for `each_model`.
      groups: the command's settings groups.
      number: of processes; GPUs are dealt out among them.
      settings: settings by name, for the report.

    Raises:
      UserError: what a process raised; one that was killed (`worker-stopped`).
    """
    import tensorflow as tf

    started = time.monotonic()
    context = multiprocessing.get_context("spawn")  # TensorFlow's threads do not survive a fork
    number = max(1, min(number, len(evaluator.images)))
    devices = [str(index) for index in range(len(tf.config.list_physical_devices("GPU")))]
    before = os.environ.get(_GPUS)
    workers, ends = [], []
    try:
        for index in range(number):
            if len(devices) > 1:
                os.environ[_GPUS] = devices[index % len(devices)]
            mine, theirs = context.Pipe(duplex=False)
            images = dataclasses.replace(evaluator.images, part=(index, number))
            job = pickle.dumps((evaluator.predictor.source, dict(given), tuple(groups), images, evaluator.measures))
            workers.append(context.Process(target=_work, args=(theirs, job), daemon=True))
            workers[-1].start()
            theirs.close()
            ends.append(mine)
        parts = _collect(ends, evaluator.images)
    finally:
        if len(devices) > 1:
            os.environ.pop(_GPUS) if before is None else os.environ.__setitem__(_GPUS, before)
        for worker in workers:
            worker.terminate()
            worker.join()
    return evaluator.report(parts, settings, started)


def _collect(ends: Sequence[multiprocessing.connection.Connection], images: SplitImages) -> list[MeasuredPart]:
    """Wait for all processes, and show how many are done."""
    parts: list[MeasuredPart] = []
    waiting = list(ends)
    with console.progress(total=len(ends), what=f"evaluating {images.name} in processes", unit="part") as bar:
        while waiting:
            for end in multiprocessing.connection.wait(waiting):
                assert isinstance(end, multiprocessing.connection.Connection)
                try:
                    found = end.recv()
                except EOFError:
                    rule = "one of the processes ended before its images were evaluated: perhaps memory ran out"
                    hint = "lower `eval_processes`"
                    raise UserError("worker-stopped", rule, hint, field="eval_processes") from None
                if isinstance(found, UserError):
                    raise found
                parts.append(found)
                waiting.remove(end)
                bar.update()
    return parts


def _work(end: multiprocessing.connection.Connection, job: bytes) -> None:
    """Evaluate a part of the images in this process, and send what was measured, or the error.

    Args:
      end: where it is sent.
      job: pickled: the model's source, settings by name, the command's settings groups, the images, the measures.
    """
    console.import_tensorflow()
    from deeplab.evaluation.evaluator import Evaluator
    from deeplab.inference.load import each_model

    source, given, groups, images, measures = pickle.loads(job)  # nosec B301  # made by the process that started this
    try:
        predictor, _ = next(each_model(source, given, groups, "eval_crop_size"))
        end.send(Evaluator(predictor, images, measures).measure(quiet=True))
    except UserError as error:
        end.send(error)


# ---- between machines ------------------------------------------------------------------------------------


def packed(part: MeasuredPart) -> bytes:
    """A part as bytes: numbers only, so that reading them runs no code.

    Args:
      part: without statistics of accumulators.
    """
    assert not part.statistics, "accumulators' statistics are not sent"
    images = part.images
    cells = [cell for cell, _ in images.cells]
    numbers = [number for _, number in images.cells]
    content = io.BytesIO()
    np.savez(
        content,
        names=np.frombuffer(json.dumps(images.names).encode(), np.uint8),
        positions=np.array(part.positions, np.int64),
        num_classes=np.array(images.num_classes, np.int64),
        used=np.array(list(map(len, cells)), np.int64),
        cells=np.concatenate([np.zeros(0, np.int64), *cells]),
        numbers=np.concatenate([np.zeros(0, np.int64), *numbers]),
        uncertainties=np.array(images.uncertainties, np.float64),
    )
    return content.getvalue()


def unpacked(content: bytes) -> MeasuredPart:
    """The part of which these are the bytes."""
    from deeplab.evaluation.evaluator import MeasuredPart
    from deeplab.evaluation.image_counts import ImageCounts

    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        ends = np.cumsum(found["used"], dtype=np.int64)[:-1]
        cells = list(zip(np.split(found["cells"], ends), np.split(found["numbers"], ends), strict=True))
        names, number = json.loads(found["names"].tobytes()), len(found["positions"])
        images = ImageCounts(names, cells[:number], found["uncertainties"].tolist(), int(found["num_classes"]))
        return MeasuredPart(found["positions"].tolist(), images, {})
