"""The processes that train together: who they are, how they connect, and what the others do when one is lost.

A cluster is a list of addresses, HOST:PORT, of which the first is the chief's. It comes from `TF_CONFIG`, which
`deeplab launch` and schedulers set, or from Slurm's variables. TensorFlow's coordination service watches the
processes: when one ends or hangs, the collective operations of the others raise, which `explained` turns into an error.
Used by `distribution`. It never decides what is computed.
"""

from __future__ import annotations

import contextlib
import json
import os
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

from deeplab.utils import console
from deeplab.utils.errors import UserError

HEARTBEAT = 10  # seconds without a sign of life after which a process counts as gone
_FIRST_PORT, _PORTS = 12_000, 16_000  # for Slurm's jobs; above those of services, below those that systems deal out
_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.CancelledError,
)
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
    example = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        content = json.loads(text)
        jobs = {name: [str(address) for address in listed] for name, listed in content.get("cluster", {}).items()}
        task = content.get("task", {})
        kind, number = str(task.get("type", "worker")), int(task.get("index", 0))
    except (ValueError, TypeError, AttributeError):
        raise UserError("bad-cluster", "does not describe a cluster", example, where="TF_CONFIG") from None
    other = sorted({*jobs, kind} - {"chief", "worker"})
    if other:
        rule = f"has a {other[0]}; every process here is a chief or a worker, which trains and evaluates"
        raise UserError("bad-cluster", rule, example, where="TF_CONFIG", value=other[0])
    addresses = (*jobs.get("chief", ()), *jobs.get("worker", ()))
    if len(addresses) < 2:
        return None
    index = number + (len(jobs.get("chief", ())) if kind == "worker" else 0)
    if not 0 <= number < len(jobs.get(kind, ())):
        rule = f"the task is {kind} {number}, but there are {len(jobs.get(kind, ()))}"
        raise UserError("bad-cluster", rule, example, where="TF_CONFIG", value=number)
    if len(set(addresses)) < len(addresses):
        rule = "two processes have the same address"
        raise UserError("bad-cluster", rule, "give each its own port", where="TF_CONFIG", value=addresses)
    return Cluster(addresses, index)


def of_slurm(environment: Mapping[str, str]) -> Cluster:
    """The cluster of a Slurm step: a process for each of its tasks, at ports that follow from the number of the job.

    TensorFlow's `SlurmClusterResolver` reads the lists of nodes and tasks. Its own addresses are not used: it sorts
    hosts by name, where Slurm numbers tasks in the order of its list, divides GPUs on nodes that have none, and
    gives all jobs of a node the same port.

    Raises:
      UserError: the variables are incomplete or contradict each other (`bad-cluster`).
    """
    hint = "start the training by srun; `--distribution=block` of srun numbers the tasks node by node"
    try:
        hosts = slurm_cluster_resolver.expand_hostlist(environment["SLURM_STEP_NODELIST"])
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


# ---- meeting -------------------------------------------------------------------------------------------


def join(cluster: Cluster, devices: list[str], wait: int) -> tf.distribute.Strategy:
    """Waits for the others, and returns the strategy over the devices of all.

    Args:
      cluster: all processes.
      devices: those of this one, such as GPU:0; each process has as many.
      wait: seconds after which missing processes end this one.

    Raises:
      UserError: they did not come (`worker-missing`), or this process's port is in use (`port-in-use`).
    """
    _require_free_port(cluster)
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        cluster_register_timeout_in_ms=1000 * wait,
        heartbeat_timeout_in_ms=1000 * HEARTBEAT,
        shutdown_barrier_timeout_in_ms=2000,
        coordinated_jobs=[coordination_config_pb2.CoordinatedJob(name="worker", num_tasks=len(cluster.addresses))],
    )
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}), task_type="worker", task_id=cluster.index
    )

    def local_devices(extended: Any, resolver: Any, worker: str) -> tuple[tuple[str, ...], str]:
        return tuple(f"{worker}/device:{device}" for device in devices), devices[0].partition(":")[0]

    console.note(f"worker {cluster.index} of {len(cluster.addresses)}, waiting for the others")
    if cluster.index == 0:
        _await_others(cluster, wait)
    with (
        _deadline(cluster, wait),
        mock.patch.object(CollectiveAllReduceExtended, "_initialize_local_devices", local_devices),
    ):
        try:
            return tf.distribute.MultiWorkerMirroredStrategy(resolver)
        except tf.errors.OpError:
            raise _missing(cluster, wait, _silent(cluster)) from None


def _require_free_port(cluster: Cluster) -> None:
    address = cluster.addresses[cluster.index]
    port = address.rpartition(":")[2]
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("", int(port)))
        except (OSError, ValueError, OverflowError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            rule = f"worker {cluster.index} cannot listen at port {port}: {reason}"
            hint = "end the process that uses it, such as an earlier training, or choose another port"
            raise UserError("port-in-use", rule, hint, where=address) from None


def _await_others(cluster: Cluster, wait: int) -> None:
    """Waits in the chief until the others listen, as they do before they register with it.

    TensorFlow's own wait holds Python's lock, so that neither signals nor a limit of time would be heeded.
    """
    end = time.monotonic() + wait
    while silent := _silent(cluster):
        if time.monotonic() > end:
            raise _missing(cluster, wait, silent)
        time.sleep(0.2)


_WATCH = """
left="$2"
while [ "$left" -gt 0 ]; do sleep 1; kill -0 "$1" 2>/dev/null || exit; left=$((left - 1)); done
printf '%s\\n' "$3" >&2; kill -KILL "$1"
"""


@contextlib.contextmanager
def _deadline(cluster: Cluster, wait: int) -> Iterator[None]:
    """Kills the process if the block takes longer, after a message.

    The chief waits in native code that holds Python's lock, so that neither threads nor signals are heeded; a small
    shell process watches it. The others have a limit of TensorFlow's own, which comes first.
    """
    error = _missing(cluster, wait, None)
    text = f"error: {error.text(console.spelled, with_code=True)}"
    words = ["sh", "-c", _WATCH, "watch", str(os.getpid()), str(wait + (30 if cluster.index else 5)), text]
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


def _missing(cluster: Cluster, wait: int, silent: list[str] | None) -> UserError:
    others = [address for address in cluster.addresses if address != cluster.addresses[cluster.index]]
    who = (
        f"worker {', '.join(silent)} does not answer"
        if silent
        else f"not all other workers started ({', '.join(others)})"
    )
    rule = f"{who} within {wait} seconds"
    hint = "start all workers at the same time, check names and firewalls, or raise `worker_wait_secs`"
    return UserError("worker-missing", rule, hint, where=f"worker {cluster.index}", value=tuple(silent or ()))


def _silent(cluster: Cluster) -> list[str]:
    """Numbers and addresses of the other processes that do not answer."""
    others = [(index, address) for index, address in enumerate(cluster.addresses) if index != cluster.index]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda other: _listens(other[1]), others))
    return [f"{index} ({address})" for (index, address), answer in zip(others, answers, strict=True) if not answer]


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
        gone = _silent(cluster)
        rule = f"worker {', '.join(gone) or 'of another machine'} has ended or does not answer"
        raise UserError("worker-lost", rule, _RESTART, where=f"worker {cluster.index}", value=tuple(gone)) from error
