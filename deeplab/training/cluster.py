"""The processes that train together: who they are, how they connect, and what the others do when one is lost.

A cluster is a list of addresses, HOST:PORT, of which the first is the chief's. It comes from `TF_CONFIG`, which
`deeplab launch` and schedulers set, or from Slurm's variables. TensorFlow's coordination service watches the
processes: when one ends or hangs, the collective operations of the others raise, which `explained` turns into an error.
Used by `distribution`. It never decides what is computed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import socket
import subprocess  # nosec B404  # a shell that watches this process
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from unittest import mock

import tensorflow as tf

# Not exported: its public face offers no limits, and no logical devices of a CPU.
from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver
from tensorflow.python.distribute.collective_all_reduce_strategy import (
    CollectiveAllReduceExtended,
    coordination_config_pb2,
)
from tensorflow.python.eager import context

from deeplab import __version__
from deeplab.training import meeting
from deeplab.utils import console
from deeplab.utils.errors import UserError

HEARTBEAT = 10  # seconds without a sign of life after which a process counts as gone
_TO_CONNECT = 45  # seconds for processes that have met, and now start TensorFlow's servers
_FIRST_PORT, _PORTS = 12_000, 16_000  # for Slurm's jobs; above those of services, below those that systems deal out
_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.CancelledError,
)
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+):[1-9][0-9]{0,4}")
_RESTART = "see its own last lines; the same command, started in all workers, resumes from the last checkpoint"


@dataclass(frozen=True)
class Cluster:
    """The processes of one training, and this one's place among them.

    Attributes:
      addresses: HOST:PORT of each; the first is the chief.
      index: of this process.
    """

    addresses: tuple[str, ...]
    index: int


def find(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The cluster that the environment describes; None = this process is alone.

    Raises:
      UserError: `TF_CONFIG` or Slurm's variables contradict themselves, or ask for what is not supported.
    """
    if environment.get("TF_CONFIG"):
        return of_tf_config(environment["TF_CONFIG"])
    if environment.get("SLURM_STEP_NUM_TASKS", "") not in ("", "1"):
        return of_slurm(environment)
    return None


def of_tf_config(text: str) -> Cluster | None:
    """The cluster of a `TF_CONFIG`: the jobs `chief` and `worker`; None if it has one process or none.

    Raises:
      UserError: it is no such description (`bad-cluster`).
    """

    def error(rule: str, value: Any = None) -> UserError:
        example = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
        return UserError("bad-cluster", rule, example, where="TF_CONFIG", value=value)

    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise error("is not JSON") from None
    jobs = content.get("cluster", {}) if isinstance(content, dict) else None
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
    wrong = [address for address in addresses if not isinstance(address, str) or not _ADDRESS.fullmatch(address)]
    if wrong:
        raise error(f"{wrong[0]!r} is not HOST:PORT", wrong[0])
    if len(addresses) < 2:
        return None
    if len(jobs.get("chief", ())) > 1:
        raise error("there are several chiefs", len(jobs["chief"]))
    if "index" not in task:
        raise error("does not say which of the processes this one is; its task must have a type and an index")
    number = task["index"] if not isinstance(task["index"], str) else _number(task["index"])
    if type(number) is not int or not 0 <= number < len(jobs.get(kind, ())):
        raise error(f"the task is {kind} {task['index']!r}, but there are {len(jobs.get(kind, ()))}", task["index"])
    if len(set(addresses)) < len(addresses):
        raise error("two processes have the same address; give each its own port", addresses)
    return Cluster(addresses, number + (len(jobs.get("chief", ())) if kind == "worker" else 0))


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else None


def of_slurm(environment: Mapping[str, str]) -> Cluster:
    """The cluster of a Slurm step: a process for each of its tasks, at ports that follow from the number of the job.

    TensorFlow's `SlurmClusterResolver` reads the list of tasks. Its own addresses are not used: it sorts hosts by name,
    where Slurm numbers tasks in the order of its list, knows no names with something after the numbers, divides GPUs
    on nodes that have none, and gives all jobs of a node the same port.

    Raises:
      UserError: the variables are incomplete or contradict each other (`bad-cluster`).
    """
    hint = "start the training by srun; `--distribution=block` of srun numbers the tasks node by node"
    try:
        hosts = _hosts(environment["SLURM_STEP_NODELIST"])
        tasks = slurm_cluster_resolver.expand_tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
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
    """The hosts of a list of Slurm's, such as `gpu[01-03,07],rack[1-2]n[1-2].site`, in its order.

    Raises:
      ValueError: it is no such list.
    """
    if not re.fullmatch(r"([^\[\],\s]|\[[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*\]|,(?=.))+", text):
        raise ValueError(f"{text!r} is no list of hosts")
    found = []
    for name in re.split(r",(?![^\[]*\])", text):
        parts = [_numbers(part[1:-1]) if part.startswith("[") else [part] for part in re.split(r"(\[.*?\])", name)]
        found += ["".join(combined) for combined in itertools.product(*parts)]
    return found


def _numbers(text: str) -> list[str]:
    """The numbers in `01-03,07`, with their zeros in front."""
    found = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += [f"{number:0{len(first)}d}" for number in range(int(first), int(last or first) + 1)]
    return found


# ---- meeting -------------------------------------------------------------------------------------------


def join(cluster: Cluster, devices: list[str], wait: int) -> tf.distribute.Strategy:
    """Waits for the others, and returns the strategy over the devices of all.

    Args:
      cluster: all processes.
      devices: those of this one, such as GPU:0; each process has as many.
      wait: seconds after which missing processes end this one.

    Raises:
      UserError: they did not come (`worker-missing`), have other versions or numbers of devices (`workers-differ`), or
        this process's port is in use (`port-in-use`).
    """
    console.note(f"worker {cluster.index} of {len(cluster.addresses)}, waiting for the others")
    facts = {"the number of devices": str(len(devices)), "the version of deeplab": __version__}
    meeting.meet(cluster.addresses, cluster.index, {**facts, "the version of TensorFlow": tf.__version__}, wait)
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        cluster_register_timeout_in_ms=1000 * _TO_CONNECT,
        heartbeat_timeout_in_ms=1000 * HEARTBEAT,
        shutdown_barrier_timeout_in_ms=2000,
        coordinated_jobs=[coordination_config_pb2.CoordinatedJob(name="worker", num_tasks=len(cluster.addresses))],
    )
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}), task_type="worker", task_id=cluster.index
    )

    def local_devices(extended: Any, resolver: Any, worker: str) -> tuple[tuple[str, ...], str]:
        return tuple(f"{worker}/device:{device}" for device in devices), devices[0].partition(":")[0]

    if cluster.index == 0:
        _await_others(cluster)
    with (
        _deadline(cluster),
        mock.patch.object(CollectiveAllReduceExtended, "_initialize_local_devices", local_devices),
    ):
        try:
            return tf.distribute.MultiWorkerMirroredStrategy(resolver)
        except tf.errors.OpError:
            raise _unconnected(cluster) from None


def _await_others(cluster: Cluster) -> None:
    """Waits in the chief until the others listen, as they do before they register with it.

    TensorFlow's own wait holds Python's lock, so that neither signals nor a limit of time would be heeded.
    """
    end = time.monotonic() + _TO_CONNECT
    while _silent(cluster):
        if time.monotonic() > end:
            raise _unconnected(cluster)
        time.sleep(0.2)


_WATCH = """
left="$2"
while [ "$left" -gt 0 ]; do sleep 1; kill -0 "$1" 2>/dev/null || exit; left=$((left - 1)); done
printf '%s\\n' "$3" >&2; kill -KILL "$1"
"""


@contextlib.contextmanager
def _deadline(cluster: Cluster) -> Iterator[None]:
    """Kills the process if the block takes longer than TensorFlow's own limit, after a message.

    TensorFlow waits in native code that holds Python's lock, so that neither threads nor signals are heeded; a small
    shell process watches it.
    """
    error = meeting.missing(cluster.addresses, cluster.index, _TO_CONNECT, {})
    text = f"error: {error.text(console.spelled, with_code=True)}"
    words = ["sh", "-c", _WATCH, "watch", str(os.getpid()), str(_TO_CONNECT + 10), text]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=_errors()) as watch:  # nosec B603 B607
        try:
            yield
        finally:
            watch.kill()


def _errors() -> int | None:
    """Where errors are printed, as the number of a file; None = as by default."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _unconnected(cluster: Cluster) -> UserError:
    """The error of processes that have met, and of which some do not answer any more."""
    absent = dict.fromkeys(_silent(cluster), "does not answer any more")
    return meeting.missing(cluster.addresses, cluster.index, _TO_CONNECT, absent)


def _silent(cluster: Cluster) -> list[int]:
    """Numbers of the other processes that do not answer."""
    others = [index for index in range(len(cluster.addresses)) if index != cluster.index]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda index: _listens(cluster.addresses[index]), others))
    return [index for index, answer in zip(others, answers, strict=True) if not answer]


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except (OSError, ValueError, OverflowError):
        return False


@contextlib.contextmanager
def explained(cluster: Cluster | None) -> Iterator[None]:
    """Turns what TensorFlow raises when another process is gone into a UserError (`worker-lost`)."""
    if cluster is None:
        yield
        return
    try:
        yield
    except tf.errors.OpError as error:
        if not (isinstance(error, _GONE) or "ollective ops is aborted" in str(error.message)):
            raise
        gone = [f"{index} ({cluster.addresses[index]})" for index in _silent(cluster)]
        rule = f"worker {', '.join(gone) or 'of another machine'} has ended or does not answer"
        raise UserError("worker-lost", rule, _RESTART, where=f"worker {cluster.index}", value=tuple(gone)) from error
