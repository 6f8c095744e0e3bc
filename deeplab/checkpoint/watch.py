"""Yields the checkpoints to process: the existing one, or each new one as a training writes it.

Used by the commands that evaluate, draw or export while a training runs. It writes nothing and removes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from deeplab.checkpoint import foreign, zoo
from deeplab.checkpoint import open as open_checkpoint
from deeplab.checkpoint.bundle import Checkpoint, index_file, step_in_name
from deeplab.checkpoint.manager import latest
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.remote_files import refresh

POLL_SECONDS = 2.0
REMARK_SECONDS = 60.0


def checkpoints(
    source: str,
    max_number: int = 1,
    interval_secs: float = 300.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Checkpoint]:
    """Yield the checkpoints to process, opened: each of them once, and only the newest of those written meanwhile.

    Args:
      source: training folder, or one checkpoint's prefix or file.
      max_number: end after this many checkpoints; 1 takes the existing one and never waits; 0 = continue until the
        training has written its last step (as its `config.yml` says) or the user interrupts.
      interval_secs: minimum time between the starts of two rounds.
      clock, sleep: return the time in seconds, and wait.

    Raises:
      UserError: there is no checkpoint and none is waited for, or one is damaged.
    """
    if max_number == 1 or not _is_folder_to_be(source):
        if max_number != 1:
            console.note(f"{source} is one checkpoint, not a training folder: it is taken once")
        yield open_checkpoint(source)
        return
    seen: _Written | None = None
    done, next_start = 0, clock()
    while not max_number or done < max_number:
        seen = _wait_for_another(source, seen, next_start, clock, sleep)
        if seen is None:
            return
        next_start = clock() + interval_secs
        yield seen.checkpoint
        done += 1


class _Written(NamedTuple):
    """A checkpoint and the time at which it was written."""

    checkpoint: Checkpoint
    time: int

    def is_same(self, other: _Written | None) -> bool:
        return other is not None and (self.checkpoint.prefix, self.time) == (other.checkpoint.prefix, other.time)


def _is_folder_to_be(source: str) -> bool:
    """Whether this is a folder, or does not exist yet: a training that is about to start creates it."""
    if zoo.is_name(source) or (os.path.isdir(source) and foreign.in_folder(source) and not latest(source)):
        return False  # published weights: nothing more comes
    return os.path.isdir(source) or (not os.path.exists(source) and not os.path.exists(f"{source}.index"))


def _wait_for_another(
    folder: str, seen: _Written | None, not_before: float, clock: Callable, sleep: Callable
) -> _Written | None:
    """Wait for another checkpoint than `seen`; None if none can come."""
    last_remark = clock()
    while True:
        found = _newest(folder)
        is_new = found is not None and not found.is_same(seen)
        if found and is_new and clock() >= not_before:
            return found
        if found and not is_new and _was_the_last(found.checkpoint):
            console.note(f"the training in {folder} has written its last checkpoint; nothing more to wait for")
            return None
        if clock() - last_remark >= REMARK_SECONDS:
            last_remark = clock()
            console.note(_remark(folder, found if is_new else None, seen, not_before - clock()))
        sleep(POLL_SECONDS)


def _newest(folder: str) -> _Written | None:
    refresh(folder)
    if not os.path.isdir(folder):
        return None
    try:
        found = latest(folder)
        return None if found is None else _Written(found, os.stat(index_file(found.prefix)).st_mtime_ns)
    except FileNotFoundError:  # removed just now to make room for a newer one
        return None


def _was_the_last(checkpoint: Checkpoint) -> bool:
    try:
        steps = checkpoint.config.get("training_number_of_steps")
    except UserError:  # being written
        return False
    step = step_in_name(checkpoint.prefix)
    return steps is not None and step is not None and step >= steps


def _remark(folder: str, new: _Written | None, seen: _Written | None, pause: float) -> str:
    """What is waited for, and what is there instead."""
    if new:
        left = console.duration(pause)
        return f"{os.path.basename(new.checkpoint.prefix)} is there; its turn comes in {left} (`eval_interval_secs`)"
    if seen:
        return f"waiting for a checkpoint after {os.path.basename(seen.checkpoint.prefix)} in {folder} (Ctrl-C stops)"
    if not os.path.isdir(folder):
        return f"waiting for a checkpoint: the folder {folder} does not exist yet (Ctrl-C stops)"
    names = sorted(os.listdir(folder))
    content = f"it holds {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}" if names else "it is empty"
    return f"waiting for a first checkpoint in {folder}: {content} (Ctrl-C stops)"
