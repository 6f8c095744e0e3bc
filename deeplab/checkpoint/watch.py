"""Which checkpoints to look at, and when: the one that is there, or each new one as a training writes it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from deeplab.checkpoint import files, zoo
from deeplab.checkpoint.manager import step_in_name
from deeplab.config import run_file
from deeplab.utils import console
from deeplab.utils.errors import UserError

POLL_SECONDS = 2.0
REMARK_SECONDS = 60.0


def checkpoints(
    source: str,
    most: int = 1,
    interval_secs: float = 300.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """Prefixes of the checkpoints to look at; none comes twice, and only the newest of several that came meanwhile.

    Args:
      source: training folder, or one checkpoint's prefix or file.
      most: end after so many checkpoints; 1 takes what is there and never waits; 0 = go on for ever, that is until
        the training has written its last step (as its `config.yml` has it) or someone interrupts.
      interval_secs: least time between the starts of two rounds.
      clock, sleep: seconds, and how to let them pass.

    Raises:
      UserError: there is no checkpoint and none is waited for, or one is damaged.
    """
    if most == 1 or not _is_folder_to_be(source):
        if most != 1:
            console.note(f"{source} is one checkpoint, not a training folder: it is taken once")
        yield files.find(source)
        return
    seen: tuple[str, int] | None = None
    done, next_start = 0, clock()
    while not most or done < most:
        seen = _wait_for_another(source, seen, next_start, clock, sleep)
        if seen is None:
            return
        next_start = clock() + interval_secs
        yield seen[0]
        done += 1


def _is_folder_to_be(source: str) -> bool:
    """A folder, or nothing yet: a training that is about to start makes it."""
    if zoo.is_name(source):
        return False
    return os.path.isdir(source) or (not os.path.exists(source) and not os.path.exists(f"{source}.index"))


def _wait_for_another(
    folder: str, seen: tuple[str, int] | None, not_before: float, clock: Callable, sleep: Callable
) -> tuple[str, int] | None:
    """The newest checkpoint (prefix, time of writing) once it is another than `seen`; None when none can come."""
    last_remark = clock()
    while True:
        found = _newest(folder)
        if found and found != seen and clock() >= not_before:
            return found
        if found and found == seen and _was_the_last(folder, found[0]):
            console.note(f"the training in {folder} has written its last checkpoint; nothing more to wait for")
            return None
        if clock() - last_remark >= REMARK_SECONDS:
            last_remark = clock()
            console.note(_remark(folder, found, seen, not_before - clock()))
        sleep(POLL_SECONDS)


def _newest(folder: str) -> tuple[str, int] | None:
    if not os.path.isdir(folder):
        return None
    try:
        prefix = files.latest(folder)
        return (prefix, os.stat(f"{prefix}.index").st_mtime_ns) if prefix else None
    except FileNotFoundError:  # removed just now, to make room for a newer one
        return None


def _was_the_last(folder: str, prefix: str) -> bool:
    try:
        steps = run_file.load(folder).get("training_number_of_steps")
    except UserError:  # being written
        return False
    step = step_in_name(prefix)
    return steps is not None and step is not None and step >= steps


def _remark(folder: str, found: tuple[str, int] | None, seen: tuple[str, int] | None, pause: float) -> str:
    """What is waited for, in words, with what is there instead."""
    if found and found != seen:
        left = console.duration(pause)
        return f"{os.path.basename(found[0])} is there; its turn comes in {left} (`eval_interval_secs`)"
    if seen:
        return f"waiting for a checkpoint after {os.path.basename(seen[0])} in {folder} (Ctrl-C ends this)"
    if not os.path.isdir(folder):
        return f"waiting for a checkpoint: the folder {folder} does not exist yet (Ctrl-C ends this)"
    names = sorted(os.listdir(folder))
    there = f"it holds {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}" if names else "it is empty"
    return f"waiting for a first checkpoint in {folder}: {there} (Ctrl-C ends this)"
