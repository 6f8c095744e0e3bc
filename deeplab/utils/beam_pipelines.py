"""Runs a function on many tasks in an Apache Beam pipeline (extra `beam`), with progress and a clean stop.

Called by the conversion to records and by prediction. It does not know what the tasks are.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from deeplab.utils.errors import UserError
from deeplab.utils.extras import require

POLL_SECONDS = 0.2
THREAD = "pipeline"


def run_pipeline(
    tasks: Sequence[Any],
    work: Callable[..., Any],
    arguments: Sequence[Any],
    options: str,
    watch: Callable[[], None],
    stop: Callable[[threading.Thread], None],
    seconds: float = POLL_SECONDS,
) -> None:
    """Call `work(task, *arguments)` for every task, in workers that Beam starts.

    Args:
      tasks: what can be pickled.
      work: a function of a module; Beam may call it more than once for a task.
      arguments: further arguments, the same for all tasks.
      options: of the pipeline, as words of a command line.
      watch: called every few moments; shows how far the work is.
      stop: ends the work after Ctrl-C or a failure; takes the thread in which the pipeline runs.
      seconds: time between two calls of `watch`.

    Raises:
      UserError: Beam is not installed (`missing-library`), options cannot be split (`invalid-options`), or the pipeline
        fails (`failed-pipeline`).
    """
    with _only_errors():  # Beam warns about parts of it that are not used here
        beam = require("apache_beam", "beam")
        from apache_beam.options.pipeline_options import PipelineOptions
    try:
        words = shlex.split(options)
    except ValueError as error:
        rule = f"cannot be split into words: {str(error).lower()}"
        hint = "write them as on a command line, with quotes in pairs"
        raise UserError("invalid-options", rule, hint, field="beam_options", value=options) from None
    met: list[BaseException] = []

    def run() -> None:
        try:
            with beam.Pipeline(options=PipelineOptions(words)) as pipeline:
                made = pipeline | "tasks" >> beam.Create(list(tasks)) | beam.Reshuffle()
                made | "work" >> beam.Map(work, *arguments)
        except (Exception, SystemExit) as error:  # option parsers end with SystemExit
            met.append(error)

    thread = threading.Thread(target=run, name=THREAD, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(seconds)
            watch()
    except BaseException:  # Ctrl-C
        stop(thread)
        raise
    if met:
        stop(thread)
        reason = " ".join(str(met[0]).split())[-500:]
        rule = f"the pipeline failed: {type(met[0]).__name__}: {reason}"
        raise UserError("failed-pipeline", rule, "check `beam_options`", field="beam")


@contextlib.contextmanager
def _only_errors() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
