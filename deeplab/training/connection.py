"""Connects the processes of a training, and ends the others when one is lost.

After their meeting, TensorFlow's coordination service watches the processes: when one ends or hangs, the collective
operations of the others raise, which `explained` turns into an error. A process that is busy with something else is
ended by its `companions.Watch`. Used by `distribution` and the train command. It never decides what is computed.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import socket
import subprocess  # nosec B404  # a shell that watches this process
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import tensorflow as tf

# Private modules: the public API has no time limits, and no logical devices of a CPU.
from tensorflow.python.distribute.collective_all_reduce_strategy import (
    CollectiveAllReduceExtended,
    coordination_config_pb2,
)
from tensorflow.python.eager import context

from deeplab import __version__
from deeplab.training import companions, meeting
from deeplab.training.cluster import Cluster
from deeplab.utils import console
from deeplab.utils.errors import LOST, UserError

HEARTBEAT = 10  # seconds without a sign of life after which a process counts as gone
_TO_CONNECT = 45.0  # seconds at most for processes that have met, and now start TensorFlow's servers
_MIN_TO_CONNECT = 20.0  # seconds that they have where they met at the last moment
_MIN_TO_REGISTER = 5.0  # seconds for the last part of it
_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.CancelledError,
)
_RESTART = "see its own last lines; the same command, started in all workers, resumes from the last checkpoint"


def join(cluster: Cluster, devices: list[str], wait: int) -> tf.distribute.Strategy:
    """Waits for the other processes, and returns the strategy over the devices of all.

    Args:
      cluster: all processes.
      devices: of this process, such as GPU:0; each process has the same number of them.
      wait: seconds after which missing processes are an error: those that do not come to the meeting, and those that
        came and do not connect afterwards, together.

    Raises:
      UserError: some did not come (`worker-missing`), two have the same number (`same-worker`), some have other
        versions or numbers of devices (`workers-differ`), or this process's port is in use (`port-in-use`).
    """
    end = time.monotonic() + wait
    console.note(f"worker {cluster.index} of {len(cluster.addresses)}, waiting for the others")
    connections = meeting.meet(cluster.addresses, cluster.index, facts(devices), wait)
    left = min(_TO_CONNECT, max(_MIN_TO_CONNECT, end - time.monotonic()))
    if cluster.index == 0:
        left = _await_others(cluster, left)
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        cluster_register_timeout_in_ms=round(1000 * left),
        heartbeat_timeout_in_ms=1000 * HEARTBEAT,
        shutdown_barrier_timeout_in_ms=2000,
        coordinated_jobs=[coordination_config_pb2.CoordinatedJob(name="worker", num_tasks=len(cluster.addresses))],
    )
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}), task_type="worker", task_id=cluster.index
    )

    def local_devices(extended: Any, resolver: Any, worker: str) -> tuple[tuple[str, ...], str]:
        return tuple(f"{worker}/device:{device}" for device in devices), devices[0].partition(":")[0]

    with (
        _deadline(cluster, left),
        mock.patch.object(CollectiveAllReduceExtended, "_initialize_local_devices", local_devices),
    ):
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        except tf.errors.OpError:
            raise _unconnected(cluster, left) from None
    if threading.current_thread() is threading.main_thread():  # replaces the handler that TensorFlow has installed
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    _watches[cluster] = companions.Watch(connections, lambda number: _end(cluster, number), companions.PATIENCE)
    return strategy


def facts(devices: list[str]) -> dict[str, str]:
    """What must be equal in all processes before they connect, by name."""
    found = {"the number of devices": str(len(devices)), "the version of deeplab": __version__}
    return {**found, "the version of TensorFlow": tf.__version__}


_watches: dict[Cluster, companions.Watch] = {}


def _end(cluster: Cluster, number: int) -> None:
    """Ends this process, which has not noticed that another one is gone.

    It may be in native code, which neither exceptions nor signals interrupt.
    """
    error = _lost(cluster, [f"{number} ({cluster.addresses[number]})"])
    with contextlib.suppress(OSError):
        os.write(_errors() or 2, f"error: {error.text(console.spelled, with_code=True)}\n".encode())
    os._exit(LOST)


def _await_others(cluster: Cluster, wait: float) -> float:
    """Waits in the chief until the others listen, which they do before they register with it.

    TensorFlow's own wait holds Python's interpreter lock, so that neither signals nor timeouts would interrupt it.

    Args:
      cluster: all processes.
      wait: seconds after which it is an error that one does not listen.

    Returns:
      The seconds that are left for them to register, which takes an instant.
    """
    end = time.monotonic() + wait
    while _silent(cluster):
        if time.monotonic() > end:
            raise _unconnected(cluster, wait)
        time.sleep(0.2)
    return max(_MIN_TO_REGISTER, end - time.monotonic())


_WATCH = """
left="$2"
while [ "$left" -gt 0 ]; do sleep 1; kill -0 "$1" 2>/dev/null || exit; left=$((left - 1)); done
printf '%s\\n' "$3" >&2; kill -KILL "$1"
"""


@contextlib.contextmanager
def _deadline(cluster: Cluster, seconds: float) -> Iterator[None]:
    """Kills this process, after a message, if the block takes longer than `seconds`.

    TensorFlow's own limit does not hold for a process that listens, but never registers. It waits in native code that
    holds Python's interpreter lock, so that neither threads nor signal handlers run; a small shell process watches it
    instead.
    """
    error = meeting.missing(cluster.addresses, cluster.index, seconds, {})
    text = f"error: {error.text(console.spelled, with_code=True)}"
    words = ["sh", "-c", _WATCH, "watch", str(os.getpid()), str(math.ceil(seconds) + 2), text]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=_errors()) as watch:  # nosec B603 B607
        try:
            yield
        finally:
            watch.kill()


def _errors() -> int | None:
    """The file descriptor of the stream for errors; None if it has none, as in a notebook."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _unconnected(cluster: Cluster, seconds: float) -> UserError:
    """The error after a meeting of which some processes do not answer any more, for so many seconds."""
    absent = dict.fromkeys(_silent(cluster), "does not answer any more")
    return meeting.missing(cluster.addresses, cluster.index, seconds, absent)


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
    """Turns what TensorFlow raises when another process is gone into a UserError (`worker-lost`).

    At the end of the block, the watch of the others ends. After an error, the others count this process as lost.
    """
    if cluster is None:
        yield
        return
    has_failed = True
    try:
        yield
        has_failed = False
    except KeyboardInterrupt:
        has_failed = False
        raise
    except tf.errors.OpError as error:
        if not (isinstance(error, _GONE) or "ollective ops is aborted" in str(error.message)):
            raise
        gone = [f"{index} ({cluster.addresses[index]})" for index in _silent(cluster) or _named(cluster, error)]
        raise _lost(cluster, gone) from error
    finally:
        if watch := _watches.pop(cluster, None):
            watch.end(goodbye=not has_failed)


def _lost(cluster: Cluster, gone: list[str]) -> UserError:
    rule = f"worker {', '.join(gone) or 'of another machine'} has ended or does not answer"
    return UserError("worker-lost", rule, _RESTART, where=f"worker {cluster.index}", value=tuple(gone))


def _named(cluster: Cluster, error: tf.errors.OpError) -> list[int]:
    """The process that an error is about, if it still accepts connections, as a suspended process does."""
    others = {index for index in range(len(cluster.addresses)) if index != cluster.index}
    named = others & {int(number) for number in re.findall(r"/job:worker/replica:0/task:([0-9]+)", str(error.message))}
    return [*others] if len(others) == 1 else [*named] if len(named) == 1 else []
