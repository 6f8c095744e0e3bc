"""The process itself: its standard streams, and how it ends on a signal."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO

STOPPED = 130  # exit code after Ctrl-C or SIGTERM


class _LenientStream:
    """A text stream whose reader may disappear and whose disk may fill: what cannot be written is lost.

    Attributes:
      strict: the stream itself, for a program's product, whose loss is an error.
    """

    def __init__(self, stream: TextIO, name: str):
        self.strict, self._name, self._lost = stream, name, False

    def write(self, text: str) -> int:
        if not self._lost:
            try:
                self.strict.write(text)
            except (OSError, ValueError) as problem:
                self._lose(problem)
        return len(text)

    def flush(self) -> None:
        if not self._lost:
            try:
                self.strict.flush()
            except (OSError, ValueError) as problem:
                self._lose(problem)

    def _lose(self, problem: Exception) -> None:
        self._lost = True
        with contextlib.suppress(OSError, ValueError):  # what is buffered goes nowhere, or Python complains at its end
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.strict.fileno())
            os.close(nowhere)
        if self._name == "standard output" and not isinstance(problem, BrokenPipeError):
            reason = getattr(problem, "strerror", None) or problem
            print(f"warning: {self._name} cannot be written ({reason}); the rest of it is lost", file=sys.stderr)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.strict, name)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Makes standard output and error usable: closed ones lead nowhere, full ones and broken pipes end no work."""
    for number in (0, 1, 2):  # a closed one would get the number of the next file that is opened, and spoil it
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    kept = sys.stdout, sys.stderr
    for name, title in (("stdout", "standard output"), ("stderr", "standard error")):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="replace")  # names that the terminal cannot show
        setattr(sys, name, _LenientStream(stream, title))
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = kept


@contextlib.contextmanager
def ending_on_signals(grace: float) -> Iterator[None]:
    """Turns SIGTERM into KeyboardInterrupt, as Ctrl-C does, and ends the process if that takes too long.

    A thread waits beside the work: native code that runs for long keeps Python's own handlers waiting.

    Args:
      grace: seconds until the process is ended; a second signal ends it at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waker, waiter = socket.socketpair()
    waker.setblocking(False)
    kept = signal.signal(signal.SIGTERM, _interrupt)
    kept_waker = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_after_signal, args=(waiter, grace), daemon=True).start()
    stopped = False
    try:
        yield
    except KeyboardInterrupt:
        stopped = True  # the thread goes on: what the interpreter does at its end counts as well
        raise
    finally:
        if not stopped:
            signal.set_wakeup_fd(kept_waker)
            signal.signal(signal.SIGTERM, kept)
            waker.close()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _end_after_signal(waiter: socket.socket, grace: float) -> None:
    while True:
        received = waiter.recv(1)
        if not received:  # the work is done
            waiter.close()
            return
        if received[0] in (signal.SIGINT, signal.SIGTERM):
            break
    waiter.settimeout(grace)
    with contextlib.suppress(TimeoutError):
        if not waiter.recv(1):
            return
    os._exit(STOPPED)
