"""Runs targets in processes of their own, and tells what happened to each input."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).parents[2]
SECONDS_PER_INPUT = 30  # an image of Pillow's largest size takes ten
MAX_MEMORY = 6 << 30  # bytes of address space; TensorFlow alone reserves some


@dataclass(frozen=True)
class Target:
    """Something that reads untrusted input.

    Attributes:
      name: its name in the table.
      prepare: called once per process, with an empty folder; returns the function that makes and reads one input,
        given a seeded random generator.
      weight: fraction of the inputs of a run, relative to the other targets.
    """

    name: str
    prepare: Callable[[pathlib.Path], Callable[[random.Random], None]]
    weight: float = 1.0


@dataclass
class Outcome:
    """What happened to the inputs of one target.

    Attributes:
      inputs, accepted, refused: numbers; refused inputs ended with a UserError.
      findings: index and kind ("traceback", "hang", "crash") of each unwanted end, with its last line.
    """

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    findings: list[tuple[int, str, str]] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """How many findings are of a kind."""
        return sum(found == kind for _, found, _ in self.findings)


class _Hang(BaseException):
    """Not an Exception, so that no code under test swallows it."""


def chance_of(target: str, seed: int, index: int) -> random.Random:
    """The random generator of one input."""
    return random.Random(f"{target}/{seed}/{index}")


def run_target(name: str, seed: int, start: int, count: int, seconds: float = float("inf")) -> Outcome:
    """Run inputs `start` ... `start + count - 1` of a target, or as many as fit into `seconds`.

    A crash ends the worker process; the run continues behind the input that caused it.
    """
    outcome, end, index = Outcome(), time.monotonic() + seconds, start
    while index < start + count and time.monotonic() < end:
        left = min(1e9, end - time.monotonic())
        with tempfile.TemporaryDirectory() as folder:
            words = [name, str(seed), str(index), str(start + count - index), str(left), folder]
            worker = subprocess.run(
                [sys.executable, "-c", "from tests.fuzz.harness import work; work()", *words],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "TF_CPP_MIN_LOG_LEVEL": "3"},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=False,
            )
        done = index
        for line in worker.stdout.decode("utf-8", "replace").splitlines():
            number, kind, text = json.loads(line)
            done = number + 1
            outcome.inputs += 1
            outcome.accepted += kind == "accepted"
            outcome.refused += kind == "refused"
            if kind not in ("accepted", "refused"):
                outcome.findings.append((number, kind, text))
        if worker.returncode:
            outcome.inputs += 1
            outcome.findings.append((done, "crash", f"the process ended with {worker.returncode}"))
            done += 1
        elif done == index:
            break
        index = done
    return outcome


def work() -> None:
    """The worker process: reads its inputs and writes a JSON line for each."""
    from tests.fuzz.targets import TARGETS

    name, seed, start, count, seconds, folder = sys.argv[1:]
    report = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    read = TARGETS[name].prepare(pathlib.Path(folder))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    end = time.monotonic() + float(seconds)
    for index in range(int(start), int(start) + int(count)):
        if time.monotonic() > end:
            return
        kind, text = run_one(read, chance_of(name, int(seed), index))
        report.write(json.dumps([index, kind, text]) + "\n")
        report.flush()


def run_one(read: Callable[[random.Random], None], chance: random.Random) -> tuple[str, str]:
    """Read one input; returns the kind of its end, and the last line of a traceback."""
    from deeplab.utils.errors import UserError

    try:
        with _time_limit(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            read(chance)
    except UserError as error:
        return ("refused", error.code) if error.rule else ("traceback", "a UserError without a rule")
    except _Hang:
        return "hang", f"longer than {SECONDS_PER_INPUT} s"
    except SystemExit as ended:
        return "traceback", f"SystemExit({ended.code})"
    except Exception as problem:
        place = traceback.extract_tb(problem.__traceback__)[-1]
        return "traceback", f"{type(problem).__name__}: {str(problem)[:200]} ({place.filename}:{place.lineno})"
    return "accepted", ""


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def expire(*_: object) -> None:
        raise _Hang

    signal.signal(signal.SIGALRM, expire)
    signal.alarm(SECONDS_PER_INPUT)
    try:
        yield
    finally:
        signal.alarm(0)
