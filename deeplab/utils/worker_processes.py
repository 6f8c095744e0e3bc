"""Runs commands together on several hosts: starts and watches them, prefixes their output, and ends them together.

Each command runs under a small shell script, here or behind ssh, which ends the command when its standard input says so
or ends. So a command never outlives the program that started it, on whatever host. Used by `deeplab launch`. It never
decides about restarts.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess  # nosec B404 - the user's own commands
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from deeplab.utils import console
from deeplab.utils.processes import extend_grace

SECONDS_TO_END = 120.0  # for the workers' last step and its checkpoint, after a signal or another worker's end
_SCRIPT = """exec 3<&0
cd {folder} || exit 1
{environment} {command} </dev/null 3<&- & child=$!
( read -r word <&3; kill -TERM $child; if read -r word <&3; then kill -KILL $child; fi ) 2>/dev/null & watch=$!
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
            folder=shlex.quote(self.folder), environment=environment, command=shlex.join(self.command)
        )
        return [*self.ssh, f"exec sh -c {shlex.quote(script)}"] if self.ssh else ["sh", "-c", script]


def run_together(workers: Sequence[Worker]) -> list[int]:
    """Runs workers until all have ended, and returns their exit codes, 128 + N after signal N.

    When one fails, the others get time to notice it by themselves, and are then told to end. KeyboardInterrupt is
    passed on, once all have ended; a second one kills them.
    """
    processes = [
        subprocess.Popen(  # nosec B603 - the user's own commands
            worker.words(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C comes here alone, and is passed on once
        )
        for worker in workers
    ]
    readers = [
        threading.Thread(target=_show, args=(process.stdout, worker.name), daemon=True)
        for process, worker in zip(processes, workers, strict=True)
    ]
    for reader in readers:
        reader.start()
    try:
        try:
            _wait(processes, None)
        except KeyboardInterrupt:
            extend_grace(SECONDS_TO_END)
            console.note("stopping the workers after a checkpoint (again: at once, without a checkpoint)")
            _tell(processes)
            _wait(processes, SECONDS_TO_END)
            raise
        finally:
            extend_grace(0)
    finally:
        _tell(processes, twice=True)
        codes = [_end(process) for process in processes]
        for reader in readers:
            reader.join(1)
    for worker, code in zip(workers, codes, strict=True):
        if code > 128:
            console.warning(f"{worker.name} was ended by signal {code - 128}")
    return codes


def _wait(processes: Sequence[subprocess.Popen], seconds: float | None) -> None:
    """Waits until all have ended; tells the others to end some time after one has failed."""
    end = None if seconds is None else time.monotonic() + seconds
    told = seconds is not None
    while any(process.poll() is None for process in processes):
        if end is None and any(process.poll() for process in processes):
            end = time.monotonic() + SECONDS_TO_END
        if end is not None and time.monotonic() > end:
            if told:
                return
            told, end = True, time.monotonic() + SECONDS_TO_END
            _tell(processes)
        time.sleep(0.05)


def _tell(processes: Sequence[subprocess.Popen], twice: bool = False) -> None:
    """Asks commands to end, or with `twice` kills those that were asked before."""
    for process in processes:
        with contextlib.suppress(OSError, ValueError):
            if process.poll() is None and process.stdin:
                process.stdin.write(b"end\nend\n" if twice else b"end\n")
                process.stdin.flush()


def _end(process: subprocess.Popen) -> int:
    """The exit code of a process that has been told to end."""
    try:
        code = process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    return code if code >= 0 else 128 - code


def _show(lines: IO[bytes] | None, name: str) -> None:
    """Prints a process's lines with its name before each."""
    for line in lines or ():
        text = line.decode("utf-8", "replace").rstrip("\r\n").rpartition("\r")[2]
        with contextlib.suppress(OSError, ValueError):
            print(f"{name}| {text}", file=sys.stderr, flush=True)
