"""Tries a model file in a child process before this one loads it, so that a file that crashes native code is an error.

Called by `inference/load.py` for exported files. The child loads the file and predicts one small image; this process
then does the same, knowing that it survives. TensorFlow does not work in a process that was forked after its first
operation, so only processes that have not used it yet are protected: the commands are. The child is a fork, which costs
nothing; where it inherits a lock that a thread held, and does not go on, a new interpreter takes its place, which costs
an import of TensorFlow. It never judges what a file may do: see `graph_safety.py`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from deeplab.utils.errors import UserError
from deeplab.utils.resources import available_memory, visible_core_count

if TYPE_CHECKING:
    from deeplab.inference.predictor import Predictor

SECONDS_TO_LOAD = 60.0  # of processor time
SECONDS_TO_RUN = 10.0  # a large model may take longer, which is no fault
_SECONDS_TO_WAIT = 300.0  # on a machine that is busy with something else
_SECONDS_IDLE = 5.0  # without any use of the processor, in a fork
_SECONDS_IDLE_ALONE = 60.0  # the same in an interpreter of its own, which waits for no lock of this one
_SECONDS_TO_START = 60.0  # of processor time, for imports of that interpreter
_SENDER = 3  # the pipe's number in that interpreter
_PROGRAM = "import sys; sys.path[:] = sys.argv[3:]; from deeplab.inference.runtimes import probe; probe.main()"
_LOADED = b"L"
_SIDE = 33  # pixels
_STACKS_PER_CORE = 4 * 8 << 20  # bytes that the threads of native libraries reserve and hardly use


def require_survival(load: Callable[[], Predictor], where: str, runtime: str = "") -> None:
    """Load a model file and run it once in a child process, where that is possible.

    Args:
      load: makes the Predictor.
      where: the file, for messages.
      runtime: the name of its runtime, with which a new interpreter can load it.

    Raises:
      UserError: the child crashed (`crashing-model`), or did not finish loading (`time-limit`). Other errors are left
        to the load in this process.
    """
    if not can_fork():
        return

    def fork(sender: int) -> int:
        child = os.fork()
        if not child:
            _work(load, sender)
        return child

    def start(sender: int) -> int:
        nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
        words = [sys.executable, "-c", _PROGRAM, runtime, where, *sys.path]
        actions = [*nowhere, (os.POSIX_SPAWN_DUP2, sender, _SENDER)]
        return os.posix_spawn(sys.executable, words, os.environ, file_actions=actions)

    if _survives(fork, where, SECONDS_TO_LOAD, _SECONDS_IDLE) or not (runtime and sys.executable):
        return
    if not _survives(start, where, SECONDS_TO_LOAD + _SECONDS_TO_START, _SECONDS_IDLE_ALONE):
        rule = f"waited for {_SECONDS_IDLE_ALONE:.0f} seconds for something that did not come, while it was loaded"
        hint = "use another file; if you trust this one, `trust_model=true` sets no limit"
        raise UserError("time-limit", rule, hint, where=where, value=_SECONDS_IDLE_ALONE)


def _survives(start: Callable[[int], int], where: str, to_load: float, idle: float) -> bool:
    """Watch a child that loads and runs a file; False if it waits for something and says nothing about the file.

    Args:
      start: starts the child, given the end of a pipe for it, and returns its number.
      where: the file, for messages.
      to_load: seconds of processor time that it may use until the file is loaded.
      idle: seconds without any use of the processor after which it is given up.
    """
    receiver, sender = os.pipe()
    child = start(sender)
    os.close(sender)
    is_loaded, status, is_endless = False, None, False
    try:
        is_loaded, status = _wait(child, receiver, to_load, idle)
        is_endless = status is None and not is_loaded and _activity(child)[0] >= to_load
    finally:
        os.close(receiver)
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    if is_endless:
        rule = f"did not load within {SECONDS_TO_LOAD:.0f} seconds"
        hint = "use another file; if you trust this one, `trust_model=true` sets no limit"
        raise UserError("time-limit", rule, hint, where=where, value=SECONDS_TO_LOAD)
    if status is not None and os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        rule = f"crashes the library that runs it ({name}), {'when it runs' if is_loaded else 'when it is loaded'}"
        hint = "it is damaged, made to crash, or needs more memory than there is: export the model again"
        raise UserError("crashing-model", rule, hint, where=where, value=name)
    return is_loaded or status is not None


def main() -> NoReturn:
    """The program of the new interpreter: its words are the runtime's name and the file."""
    import tensorflow  # noqa: F401  # before memory is limited, as in a fork

    from deeplab.inference.runtimes import RUNTIMES, LoadOptions

    runtime, path = sys.argv[1:3]
    _work(lambda: RUNTIMES.get(runtime).load(path, LoadOptions()), _SENDER)


def can_fork() -> bool:
    """Whether a child process could use TensorFlow: on Linux, and before its first operation in this process."""
    from tensorflow.python.eager import context

    return sys.platform == "linux" and not context.context()._initialized


def _work(load: Callable[[], Predictor], sender: int) -> NoReturn:
    """The child: ends with exit code 0 unless it crashes."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        _limit_memory()
        import numpy as np
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")  # its driver does not survive a fork either
        predictor = load()
        os.write(sender, _LOADED)
        predictor.predict(
            np.zeros((_SIDE, _SIDE, predictor.bands.channels), predictor.bands.dtype), probabilities=False
        )
    finally:  # whatever it raises: the load in the parent process tells about it
        os._exit(0)


def _limit_memory() -> None:
    """Ends allocations beyond the free memory with an error, before the system ends other programs."""
    import resource  # not on Windows

    free = available_memory()
    if free is None:
        return
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open("/proc/self/statm", encoding="ascii") as file:
            taken = int(file.read().split()[5]) * resource.getpagesize()  # as the limit counts it, without reservations
        limit = taken + free + visible_core_count() * _STACKS_PER_CORE
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _wait(child: int, receiver: int, to_load: float, idle: float) -> tuple[bool, int | None]:
    """Whether the child has loaded the file, and how it ended; None = it still runs, or waits for nothing.

    A fork can inherit a lock that a thread of its parent held, and then waits for it without using the processor. That
    says nothing about the file.
    """
    is_loaded, end = False, time.monotonic() + _SECONDS_TO_WAIT
    used, moved = 0.0, time.monotonic()
    while (now := time.monotonic()) < min(end, moved + idle) and (is_loaded or used < to_load):
        if not select.select([receiver], [], [], 0.2)[0]:
            before, (used, sleeps) = used, _activity(child)
            moved = moved if sleeps and used == before else now  # one that waits for its turn does not sleep
            continue
        if os.read(receiver, 1) != _LOADED:  # the pipe is closed: the child has ended
            return is_loaded, os.waitpid(child, 0)[1]
        is_loaded, end = True, time.monotonic() + SECONDS_TO_RUN
    return is_loaded, None


def _activity(process: int) -> tuple[float, bool]:
    """Seconds of processor time that a child has used, and whether it sleeps."""
    with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), fields[0] == "S"
