"""Which processes train together: read from `TF_CONFIG`, which `deeplab launch` and schedulers set, or from Slurm.

A cluster is a list of addresses, HOST:PORT, of which the first is the chief's. Used by `distribution`, and by the train
command, where only the chief copies remote folders; so it does not import TensorFlow. It never opens a connection.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deeplab.utils.errors import UserError

_FIRST_PORT, _PORTS = 12_000, 16_000  # for Slurm's jobs: above well-known services, below the system's ephemeral ports
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+):[1-9][0-9]{0,4}")


@dataclass(frozen=True)
class Cluster:
    """The processes of one training, and this one's place among them.

    Attributes:
      addresses: HOST:PORT of each process; the first is the chief's.
      index: number of this process.
    """

    addresses: tuple[str, ...]
    index: int


def find(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The cluster that the environment describes; None = this process is alone.

    Raises:
      UserError: `TF_CONFIG` or Slurm's variables contradict each other, or need something that is not supported
        (`bad-cluster`).
    """
    if environment.get("TF_CONFIG"):
        return of_tf_config(environment["TF_CONFIG"])
    if environment.get("SLURM_STEP_NUM_TASKS", "") not in ("", "1"):
        return of_slurm(environment)
    return None


def of_tf_config(text: str) -> Cluster | None:
    """The cluster of a `TF_CONFIG`: the jobs `chief` and `worker`; None if this process is the only one.

    Raises:
      UserError: it does not describe a cluster (`bad-cluster`).
    """

    def error(rule: str, value: Any = None) -> UserError:
        example = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
        return UserError("bad-cluster", rule, example, where="TF_CONFIG", value=value)

    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise error("is not JSON") from None
    jobs = content.get("cluster") or {} if isinstance(content, dict) else None
    if not isinstance(jobs, dict) or not all(isinstance(listed, list) for listed in jobs.values()):
        raise error("does not describe a cluster: lists of addresses by job")
    jobs = {name: listed for name, listed in jobs.items() if listed}
    task = content.get("task") or {}
    if not isinstance(task, dict):
        raise error("its task is not a type and an index", task)
    kind = task.get("type", "worker")
    other = sorted({*jobs, str(kind)} - {"chief", "worker"})
    if other:
        raise error(
            f"has a {other[0]}; every process here is a chief or a worker, which trains and evaluates", other[0]
        )
    addresses = (*jobs.get("chief", ()), *jobs.get("worker", ()))
    wrong = [address for address in addresses if not _is_address(address)]
    if wrong:
        raise error(f"{wrong[0]!r} is not HOST:PORT", wrong[0])
    if not addresses:
        if task.get("index") in (None, 0, "0"):
            return None
        raise error(f"the task is {kind} {task['index']!r}, but no cluster names the processes", task["index"])
    if len(jobs.get("chief", ())) > 1:
        raise error("there are several chiefs", len(jobs["chief"]))
    if "index" not in task:
        if len(addresses) == 1:
            return None
        raise error("does not say which of the processes this one is; its task must have a type and an index")
    number = task["index"] if not isinstance(task["index"], str) else _number(task["index"])
    if type(number) is not int or not 0 <= number < len(jobs.get(kind, ())):
        raise error(f"the task is {kind} {task['index']!r}, but there are {len(jobs.get(kind, ()))}", task["index"])
    if len(addresses) < 2:
        return None
    if len({address.lower() for address in addresses}) < len(addresses):
        raise error("two processes have the same address; give each its own port", addresses)
    return Cluster(addresses, number + (len(jobs.get("chief", ())) if kind == "worker" else 0))


def _is_address(address: Any) -> bool:
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        return False
    return int(address.rpartition(":")[2]) < 1 << 16


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else None


def of_slurm(environment: Mapping[str, str]) -> Cluster:
    """The cluster of a Slurm step: one process per task, at ports that depend on the number of the job.

    TensorFlow's `SlurmClusterResolver` is not used: it sorts hosts by name, but Slurm numbers tasks in the order of its
    list; it does not accept names with a suffix after the number; it divides GPUs on nodes that have none; and it gives
    all jobs of a node the same port.

    Raises:
      UserError: the variables are incomplete or contradict each other (`bad-cluster`).
    """
    hint = "start the training by srun; `--distribution=block` of srun numbers the tasks node by node"
    try:
        hosts = _hosts(environment["SLURM_STEP_NODELIST"])
        tasks = _tasks(environment["SLURM_STEP_TASKS_PER_NODE"])
        index, job = int(environment["SLURM_PROCID"]), int(environment.get("SLURM_JOB_ID") or 0)
        step, number = int(environment.get("SLURM_STEP_ID") or 0), int(environment["SLURM_STEP_NUM_TASKS"])
        node = int(environment.get("SLURM_NODEID") or -1)
    except (KeyError, ValueError) as problem:
        rule = f"Slurm's variables cannot be read: {problem}"
        raise UserError("bad-cluster", rule, hint, where="SLURM_STEP_NODELIST") from None
    first = _FIRST_PORT + (131 * job + 17 * step) % _PORTS
    places = [(node, local) for node, number in enumerate(tasks) for local in range(number)]
    if len(hosts) != len(tasks) or number != len(places) or not 0 <= index < number:
        rule = f"task {index} of {number}, but {len(places)} tasks on {len(hosts)} nodes"
        raise UserError("bad-cluster", rule, hint, where="SLURM_PROCID", value=index)
    if node not in (-1, places[index][0]):
        rule = f"task {index} runs on node {node} of the list, not on node {places[index][0]}"
        raise UserError("bad-cluster", rule, hint, where="SLURM_NODEID", value=node)
    return Cluster(tuple(f"{hosts[node]}:{first + local}" for node, local in places), index)


def _hosts(text: str) -> list[str]:
    """The hosts in one of Slurm's lists, such as `gpu[01-03,07],rack[1-2]n[1-2].site`, in its order.

    Raises:
      ValueError: it is not such a list.
    """
    if not re.fullmatch(r"([^\[\],\s]|\[[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*\]|,(?=.))+", text):
        raise ValueError(f"{text!r} is no list of hosts")
    found = []
    for name in re.split(r",(?![^\[]*\])", text):
        parts = [_numbers(part[1:-1]) if part.startswith("[") else [part] for part in re.split(r"(\[.*?\])", name)]
        found += ["".join(combined) for combined in itertools.product(*parts)]
    return found


def _tasks(text: str) -> list[int]:
    """The number of tasks of each node, as in `2(x3),1`.

    Raises:
      ValueError: it is not such a list.
    """
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]+)(\(x([0-9]+)\))?", part)
        if not match:
            raise ValueError(f"{text!r} is no list of tasks per node")
        found += [int(match[1])] * int(match[3] or 1)
    return found


def _numbers(text: str) -> list[str]:
    """The numbers in `01-03,07`, with their leading zeros."""
    found = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += [f"{number:0{len(first)}d}" for number in range(int(first), int(last or first) + 1)]
    return found
