"""Runs commands together on several hosts: starts and watches them, prefixes their output, and ends them together.

Each command runs under a small shell script, here or behind ssh, which ends the command when its standard input says so
or ends. So a command never outlives the program that started it, on whatever host. Used by `deeplab launch`. It never
decides about restarts.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import signal
import subprocess  # nosec B404 - the user's own commands
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deeplab.utils import console
from deeplab.utils.errors import LOST, UserError
from deeplab.utils.processes import extend_grace

SECONDS_TO_END = 120.0  # for the workers' last step and its checkpoint, after a signal
_SECONDS_TO_NOTICE = 60.0  # for a worker's end, by the others
_SECONDS_TO_REACH = 60.0  # for a host to answer
_SECONDS_BETWEEN_NOTES = 10.0  # while workers end
_HINT = "ssh must reach each host without a password, and folder and Python must be there: `directory`, `python`, `ssh`"
_STARTED = "the worker starts"  # line of the script, not shown
# Ends the command at the first line of its input, kills it at the second. Where the input ends instead, its launcher
# is gone: the command may still save a checkpoint.
_SCRIPT = """exec 3<&0
cd {folder} || exit 1
command -v {program} >/dev/null || {{ echo {program}: no such program >&2; exit 127; }}
echo {started}
{environment} {command} </dev/null 3<&- & child=$!
( left=150; if read -r word <&3; then left=10; fi
kill -TERM $child
if [ $left = 150 ] || ! read -r word <&3; then
  while [ $left -gt 0 ] && kill -0 $child; do sleep 1; left=$((left - 1)); done
fi
kill -KILL $child ) >/dev/null 2>&1 & watch=$!
wait $child; code=$?
kill $watch 2>/dev/null
exit $code
"""


@dataclass(frozen=True)
class Worker:
    """A command on a host.

    Attributes:
      name: before each of its lines.
      command: its words.
      folder: in which it runs.
      task: value of `TF_CONFIG`.
      ssh: words that reach the host; none = it runs here.
    """

    name: str
    command: Sequence[str]
    folder: str
    task: Mapping[str, Any]
    ssh: Sequence[str] = ()

    def words(self) -> list[str]:
        """The words that start it."""
        environment = f"TF_CONFIG={shlex.quote(json.dumps(self.task))}"
        script = _SCRIPT.format(
            folder=shlex.quote(self.folder),
            program=shlex.quote(self.command[0]),
            started=shlex.quote(_STARTED),
            environment=environment,
            command=shlex.join(self.command),
        )
        return [*self.ssh, f"exec sh -c {shlex.quote(script)}"] if self.ssh else ["sh", "-c", script]


class _Running:
    """A worker that has been started.

    Attributes:
      worker: what runs.
      process: the script on this machine, or what reaches the other.
      has_started: its host has been reached, and the command starts.
      was_told: it was asked to end after another one had failed.
    """

    def __init__(self, worker: Worker):
        self.worker, self.has_started, self.was_told = worker, False, False
        self._begin = time.monotonic()
        words = worker.words()
        try:
            self.process = subprocess.Popen(  # nosec B603 - the user's own commands
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C comes here alone, and is passed on once
                env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},  # without a terminal, ssh would open a window
            )
        except OSError as problem:
            rule = f"{words[0]} cannot be started: {problem.strerror or problem}"
            raise UserError("worker-not-started", rule, _HINT, where=worker.name, value=words[0]) from None
        self._reader = threading.Thread(target=self._show, daemon=True)
        self._reader.start()

    def code(self) -> int | None:
        """The exit code, 128 + N after signal N; None while it runs."""
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code

    def require_started(self) -> None:
        """Refuses a host that was not reached, or on which the command could not start (`worker-not-started`)."""
        if self.has_started:
            return
        code, waited = self.code(), time.monotonic() - self._begin
        if code is not None:
            self._reader.join(1)  # its last lines may still be on their way
        if self.has_started or (code is None and waited < _SECONDS_TO_REACH):
            return
        why = f"ended with code {code}" if code is not None else f"did not answer within {waited:.0f} seconds"
        rule = f"{self.worker.ssh[0] if self.worker.ssh else 'the shell'} {why} before the worker started"
        raise UserError("worker-not-started", rule, _HINT, where=self.worker.name, value=code)

    def tell(self, twice: bool = False) -> None:
        """Asks it to end, or with `twice` kills it."""
        with contextlib.suppress(OSError, ValueError):
            if self.process.poll() is None and self.process.stdin:
                self.process.stdin.write(b"end\nend\n" if twice else b"end\n")
                self.process.stdin.flush()

    def end(self, end: float) -> int:
        """Its exit code, after it has been killed; what is left at the time `end` is killed here."""
        try:
            self.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join(1)
        code = self.code()
        assert code is not None
        return LOST if self.was_told and code else code

    def _show(self) -> None:
        """Prints its lines with its name before each."""
        for line in self.process.stdout or ():
            text = line.decode("utf-8", "replace").rstrip("\r\n").rpartition("\r")[2]
            if text == _STARTED and not self.has_started:
                self.has_started = True
                continue
            with contextlib.suppress(OSError, ValueError):
                print(f"{self.worker.name}| {text}", file=sys.stderr, flush=True)


def run_together(workers: Sequence[Worker]) -> list[int]:
    """Runs workers until all have ended, and returns their exit codes, 128 + N after signal N.

    When one fails, the others get time to notice it by themselves, and are then told to end; their code is `LOST`.
    KeyboardInterrupt is passed on, once all have ended; a second one kills them.

    Raises:
      UserError: a host cannot be reached, or the command cannot be started on it (`worker-not-started`); no worker
        runs any more.
    """
    running: list[_Running] = []
    extend_grace(SECONDS_TO_END)
    try:
        try:
            for worker in workers:
                running.append(_Running(worker))
            _wait(running)
        except KeyboardInterrupt:
            console.note("stopping: waiting for the step in hand and its checkpoint (again: at once, without)")
            for each in running:
                each.tell()
            _wait_for_end(running, SECONDS_TO_END)
            raise
    finally:
        for each in running:
            each.tell(twice=True)
        end = time.monotonic() + 2
        codes = [each.end(end) for each in running]
        extend_grace(0)
    for worker, code in zip(workers, codes, strict=True):
        if code > 128:
            console.warning(f"{worker.name} was ended by signal {code - 128}")
    return codes


def _wait(running: Sequence[_Running]) -> None:
    """Waits until all have ended; tells the others to end some time after one has failed."""
    end = math.inf
    while any(each.code() is None for each in running):
        for each in running:
            each.require_started()
        if any(each.code() for each in running):
            end = min(end, time.monotonic() + _SECONDS_TO_NOTICE)
        if time.monotonic() > end:
            for each in running:
                each.was_told = each.code() is None
                each.tell()
            _wait_for_end(running, _SECONDS_TO_NOTICE / 2)
            return
        time.sleep(0.05)
    for each in running:
        each.require_started()


def _wait_for_end(running: Sequence[_Running], seconds: float) -> None:
    """Waits for workers that have been told to end, and says now and then for which."""
    now = time.monotonic()
    end, note = now + seconds, now + _SECONDS_BETWEEN_NOTES
    while now < end and (names := [each.worker.name for each in running if each.code() is None]):
        if now > note:
            console.note(f"still waiting for {', '.join(names)}, {end - now:.0f} seconds at most")
            note = now + _SECONDS_BETWEEN_NOTES
        time.sleep(0.05)
        now = time.monotonic()
