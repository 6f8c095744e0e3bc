"""The process itself: its standard streams, and how it ends on a signal."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn, TextIO

from deeplab.utils.early_signals import STOPPED, end_silently

GRACE = 1.5  # seconds to end after a signal
_POLL = 0.1
_extended = 0.0  # seconds that the work in hand needs to save what it has done; see `extend_grace`
_least = 0.0  # seconds that the work has to reach its own end, where something is saved; see `require_grace`
_interrupted = False  # a signal was turned into KeyboardInterrupt


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

    A thread waits beside the work: native code that runs for long keeps Python's own handlers waiting. Child processes
    end with this one.

    Args:
      grace: seconds until the process is ended; a second signal ends it at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waker, waiter = socket.socketpair()
    waker.setblocking(False)
    global _interrupted
    _interrupted = False
    kept = {signal.SIGTERM: signal.signal(signal.SIGTERM, _interrupt)}
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, end_silently):  # not where it is ignored
        kept[signal.SIGINT] = signal.signal(signal.SIGINT, _interrupt)
    kept_waker = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_after_signal, args=(waiter, grace), daemon=True).start()
    kept_hooks = sys.unraisablehook, sys.excepthook
    sys.unraisablehook, sys.excepthook = _interrupt_again, _print_unless_interrupted
    stopped = False
    try:
        yield
    except KeyboardInterrupt:
        stopped = True  # the thread goes on: what the interpreter does at its end counts as well
        raise
    finally:
        if not stopped:
            sys.unraisablehook, sys.excepthook = kept_hooks
            signal.set_wakeup_fd(kept_waker)
            for number, handler in kept.items():
                signal.signal(number, handler)
            waker.close()


def interrupt() -> NoReturn:
    """Raises KeyboardInterrupt for a signal; whatever exception native code makes of it, the work counts as stopped."""
    global _interrupted
    _interrupted = True
    raise KeyboardInterrupt


def was_interrupted() -> bool:
    """Whether a signal has ended the work, whatever exception native code has made of it."""
    return _interrupted


def end_now(code: int) -> None:
    """Ends this process and its children without the clean-up of libraries, which may take seconds."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    for process in children():
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)
    os._exit(code)


def extend_grace(seconds: float) -> None:
    """Sets how long the work in hand may take to save what it has done when a signal comes; 0 = as by default."""
    global _extended
    _extended = seconds


def require_grace(seconds: float) -> None:
    """Sets how long the work may take after a signal in any case, so that its outer blocks can save; 0 = as usual."""
    global _least
    _least = seconds


def _interrupt(*_: object) -> None:
    interrupt()


def _interrupt_again(problem: Any) -> None:
    """Raises KeyboardInterrupt a moment later where it came within a destructor, in which Python drops exceptions."""
    if not (_interrupted and problem.exc_type is KeyboardInterrupt):
        sys.__unraisablehook__(problem)
        return
    thread = ctypes.c_ulong(threading.main_thread().ident or 0)
    words = (thread, ctypes.py_object(KeyboardInterrupt))
    again = threading.Timer(_POLL, ctypes.pythonapi.PyThreadState_SetAsyncExc, words)
    again.daemon = True
    again.start()


def _print_unless_interrupted(*problem: Any) -> None:
    """Prints an exception, as native code asks for, but not what it has made of KeyboardInterrupt."""
    if not _interrupted:
        sys.__excepthook__(*problem)


def _end_after_signal(waiter: socket.socket, grace: float) -> None:
    while True:
        received = waiter.recv(1)
        if not received:  # the work is done
            waiter.close()
            return
        if received[0] in (signal.SIGINT, signal.SIGTERM):
            break
    start = now = time.monotonic()
    end = start + grace
    waiter.settimeout(_POLL)
    while now < end:
        with contextlib.suppress(TimeoutError):
            if not waiter.recv(1):  # the work is done
                return
            break
        now = time.monotonic()
        if now < start + max(
            _extended, _least
        ):  # the work in hand still saves; after it there is half a second for the last words
            end = max(end, now + 0.5)
    end_now(STOPPED)


def children() -> list[int]:
    """Numbers of the running processes that this one has started, and of theirs; none where there is no `/proc`."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
            text = pathlib.Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace")
            parents[int(name)] = int(text.rpartition(")")[2].split()[1])
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        parent = waiting.pop()
        inner = [process for process, its_parent in parents.items() if its_parent == parent]
        found += inner
        waiting += inner
    return found
