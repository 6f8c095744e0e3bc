r"""Trains on several hosts, or in several processes on this one: starts the workers and shows their output.

    deeplab launch --hosts=a,b -- train --dataset_dir=/data/tfrecord --train_logdir=runs/first --num_clones=4 ...
    deeplab launch --workers_per_host=2 -- train ...          two processes on this machine

What follows `--` is the command that each worker runs, in the same folder, with the same Python. Each line begins with
the host it comes from. Hosts are reached by ssh without a password; records must have the same path on each host;
`train_logdir` is written on the first host. Ctrl-C asks all workers to save a checkpoint and end; a second
one ends them at once.
"""

from __future__ import annotations

import pathlib
import sys

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

import dataclasses
import os
import random
import socket
from collections.abc import Sequence

from deeplab.config.command_line import OK, STOPPED, USAGE, Command, Given, UsageError, configs_from
from deeplab.config.launch_config import LaunchConfig
from deeplab.utils import console
from deeplab.utils.errors import LOST, UserError
from deeplab.utils.worker_processes import Worker, run_together

GROUPS = (LaunchConfig,)
_COMMANDS = ("train",)
_EXAMPLE = "deeplab launch --hosts=a,b -- train --dataset_dir=... --train_logdir=..."
_PORTS = range(12_000, 28_000)


@dataclasses.dataclass(frozen=True)
class LaunchCommand(Command):
    """A command of which `--` divides its own flags from another command's words."""

    def _run(self, words: Sequence[str]) -> int | None:
        mine, dashes, theirs = list(words), "--" in words, []
        if dashes:
            place = mine.index("--")
            mine, theirs = mine[:place], mine[place + 1 :]
        call = self.parse(mine)
        if call is None:
            return OK
        if not theirs:
            rule = "the command of the workers is missing; it follows `--`"
            raise UsageError("missing-setting", rule, _EXAMPLE)
        if theirs[0].removesuffix(".py") not in _COMMANDS:
            rule = f"{theirs[0]!r} cannot be launched in several processes"
            raise UsageError(
                "unknown-command", rule, "use train; for evaluation in several processes set `eval_processes` of eval"
            )
        return run(call[1], theirs)


def run(given: Given, words: Sequence[str] = ()) -> int:
    """Runs the command.

    Args:
      given: settings of the launcher.
      words: the workers' command.
    """
    (config,) = configs_from(given, GROUPS)
    for attempt in range(config.restarts + 1):
        workers = workers_of(config, words)
        where = ", ".join(worker.name for worker in workers)
        console.note(f"starting {len(workers)} workers: {where}")
        codes = run_together(workers)
        if not any(codes):
            return OK
        code = _cause(codes)
        if code in (STOPPED, USAGE) or 0 < code < LOST or attempt == config.restarts:
            return code if 0 < code < 128 or code == STOPPED else 1
        console.note(f"a worker was lost; all workers restart ({attempt + 1} of {config.restarts})")
    return OK


def _cause(codes: Sequence[int]) -> int:
    """The exit code that explains the others: that of a worker which did not end for want of another one."""
    own = [code for code in codes if code not in (OK, LOST)]
    return next((code for code in own if code == STOPPED), own[0] if own else LOST)


def workers_of(config: LaunchConfig, words: Sequence[str]) -> list[Worker]:
    """The workers to start, the chief first.

    Raises:
      UserError: this machine is named by a name that the other hosts cannot use.
    """
    hosts = config.names()
    here = [_is_here(host) for host in hosts]
    if not all(here):
        wrong = next((host for host in hosts if _is_loopback(host)), None)
        if wrong:
            rule = f"names {wrong}, which on the other hosts means these hosts themselves"
            raise UserError("bad-host", rule, f"`hosts={socket.gethostname()},...`", field="hosts", value=wrong)
    number = config.workers_per_host
    first = config.port or random.choice(_PORTS[: -(number + 1)])  # nosec B311  # a port
    places = [(host, local) for host in hosts for local in range(number)]
    ports = [first + local for _, local in places]
    if all(here) and not config.port:
        ports = _free_ports(len(places))
    addresses = [f"{_address(host)}:{port}" for (host, _), port in zip(places, ports, strict=True)]
    folder, python = config.directory or os.getcwd(), config.python or sys.executable
    found = []
    for index, (host, local) in enumerate(places):
        name = host if number == 1 else f"{host}/{local}"
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        command = [python, "-u", "-m", "deeplab", *words]
        ssh = () if _is_here(host) else (*config.ssh.split(), host)
        found.append(Worker(name, command, folder, task, ssh))
    return found


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "127.0.0.1", "::1")


def _is_here(host: str) -> bool:
    return _is_loopback(host) or host in (socket.gethostname(), socket.getfqdn())


def _address(host: str) -> str:
    name = host.rpartition("@")[2]
    return "127.0.0.1" if name == "localhost" else name


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


COMMAND = LaunchCommand("launch", lambda given: run(given), GROUPS, __doc__ or "")


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
