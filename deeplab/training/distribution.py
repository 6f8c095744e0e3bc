"""Devices on which a training runs: one, several on this machine, those of several machines, or a TPU.

All are strategies of `tf.distribute`. One device needs none of its own; several mirror the variables and divide each
batch. The loop is the same for all: it only ever calls `strategy.run`, and asks `Devices` what concerns several
processes: who is the chief, and what the others have.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deeplab.config.training_config import TrainConfig
from deeplab.training import cluster, connection, meeting
from deeplab.training.cluster import Cluster
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.text import counted


@dataclass(frozen=True)
class Devices:
    """The devices of a training, and this process's place among all that take part.

    Attributes:
      strategy: mirrors variables over the devices of all processes.
      cluster: the processes; None = this one alone.
    """

    strategy: tf.distribute.Strategy = dataclasses.field(default_factory=tf.distribute.get_strategy)
    cluster: Cluster | None = None

    @property
    def worker(self) -> int:
        """Number of this process, from 0."""
        return self.cluster.index if self.cluster else 0

    @property
    def workers(self) -> int:
        """Number of processes."""
        return len(self.cluster.addresses) if self.cluster else 1

    @property
    def local_workers(self) -> int:
        """Number of processes on this machine."""
        return _hosts(self.cluster).count(_hosts(self.cluster)[self.worker]) if self.cluster else 1

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what the training gives; the others only compute."""
        return self.worker == 0

    @property
    def replicas(self) -> int:
        """Devices of all processes together."""
        return self.strategy.num_replicas_in_sync

    @property
    def local_replicas(self) -> int:
        """Devices of this process."""
        return self.replicas // self.workers

    @contextlib.contextmanager
    def replica(self, number: int) -> Iterator[None]:
        """Within it, operations run on a device of this process, and read its copy of the variables."""
        place = self.worker * self.local_replicas + number
        device = self.strategy.extended.worker_devices[number]
        with tf.distribute.ReplicaContext(self.strategy, place), tf.device(device):
            yield

    # ---- what processes tell each other; all of them must make the same calls in the same order

    def sum(self, value: np.ndarray) -> np.ndarray:
        """The sum of all processes' arrays of one shape and type: float32, float64, int32 or int64."""
        value = np.asarray(value)
        if self.cluster is None:
            return value
        first, zero = self.worker * self.local_replicas, np.zeros_like(value)

        def of_replica(replica: Any) -> tf.Tensor:
            return tf.constant(value if replica.replica_id_in_sync_group == first else zero)

        values = self.strategy.experimental_distribute_values_from_function(of_replica)
        return self.strategy.reduce("SUM", values, axis=None).numpy()

    def from_chief(self, value: np.ndarray) -> np.ndarray:
        """The chief's array; those of the others have its shape and type."""
        return self.sum(value if self.is_chief else np.zeros_like(value))

    def barrier(self) -> None:
        """Waits until all processes are here."""
        self.sum(np.zeros((), np.int32))

    def any(self, condition: bool) -> bool:
        """Whether a condition holds in some process."""
        return bool(self.sum(np.array(int(condition), np.int32)))

    def gathered(self, content: bytes) -> list[bytes]:
        """The contents of all processes, in their order."""
        if self.cluster is None:
            return [content]
        lengths = np.zeros(self.workers, np.int32)
        lengths[self.worker] = len(content)
        lengths = self.sum(lengths)
        table = np.zeros((self.workers, int(lengths.max()) // 4 + 1), np.int32)
        table[self.worker] = np.frombuffer(content.ljust(4 * table.shape[1], b"\0"), np.int32)
        return [row.tobytes()[:length] for row, length in zip(self.sum(table), lengths.tolist(), strict=True)]

    def broadcast(self, variables: Mapping[str, keras.Variable | tf.Variable]) -> None:
        """Gives every process the chief's values."""
        if self.cluster is None:
            return
        by_type: dict[str, list[Any]] = {}
        for name in sorted(variables):
            by_type.setdefault(np.asarray(variables[name].numpy()).dtype.name, []).append(variables[name])
        for kind, listed in sorted(by_type.items()):
            values = [np.asarray(variable.numpy()) for variable in listed]
            wire = kind if kind in ("float32", "int32", "int64") else "float32" if "float" in kind else "int64"
            together = self.from_chief(np.concatenate([value.astype(wire).ravel() for value in values]))
            ends = np.cumsum([value.size for value in values])[:-1]
            for variable, value, mine in zip(listed, np.split(together, ends), values, strict=True):
                variable.assign(value.reshape(mine.shape).astype(mine.dtype))

    def require_equal(self, facts: Mapping[str, str]) -> None:
        """Refuses processes of which the facts differ from the chief's.

        Raises:
          UserError: they do (`workers-differ`), in all processes.
        """
        meeting.require_equal(
            [json.loads(text) for text in self.gathered(json.dumps(dict(facts), sort_keys=True).encode())]
        )

    def batches(self, make: Callable[..., tf.data.Dataset]) -> Any:
        """An iterable of batches over the devices.

        Args:
          make: `pipeline.train_batches` with all but `part` and `pieces`.
        """
        if self.replicas == 1:
            return make()
        if self.cluster is None and not is_tpu(self.strategy):
            return self.strategy.experimental_distribute_dataset(make())
        part = (self.worker, self.workers)
        options = tf.distribute.InputOptions(experimental_fetch_to_device=False)  # a TPU holds no texts
        return self.strategy.distribute_datasets_from_function(
            lambda _: make(part=part, pieces=self.local_replicas), options if is_tpu(self.strategy) else None
        )


ALONE = Devices()


def open_devices(config: TrainConfig) -> Devices:
    """The devices that a config asks for; waits for other processes where there are some.

    Must be called before the first operation of TensorFlow.

    Raises:
      UserError: too few devices, a cluster that does not fit the config, or one that does not come together.
    """
    allow_memory_growth()
    found = cluster.find() if config.distribution in ("auto", "multi_worker") else None
    if config.distribution == "multi_worker" or found or config.num_replicas > 1:
        _require_workers(config, found)
    if found is not None:
        replicas = len(found.addresses) * config.num_clones
        require_divisible(config, replicas)
        return Devices(connection.join(found, _own_devices(found, config.num_clones), config.worker_wait_secs), found)
    if config.distribution == "tpu":
        devices = Devices(_tpu_strategy())
        require_divisible(config, devices.replicas)
        return devices
    return Devices(make_strategy(config.num_clones))


def _require_workers(config: TrainConfig, found: Cluster | None) -> None:
    number = len(found.addresses) if found else 1
    if found is None or config.num_replicas not in (1, number):
        field = "num_replicas" if config.num_replicas > 1 else "distribution"
        rule = f"{config.num_replicas} workers are requested, but the environment names {number}"
        rule = rule if field == "num_replicas" else "needs several workers, but the environment names none"
        hint = "start the workers with `deeplab launch --hosts=a,b -- train ...`, srun or TF_CONFIG"
        raise UserError("missing-workers", rule, hint, field=field, value=getattr(config, field))


def require_divisible(config: TrainConfig, replicas: int) -> None:
    """Refuses a batch that cannot be divided among the devices of all processes.

    Raises:
      UserError: it cannot (`indivisible-batch`).
    """
    unit = replicas * config.accumulate_steps
    if config.train_batch_size % unit:
        better = -(-config.train_batch_size // unit) * unit
        parts = f" and {config.accumulate_steps} parts each" if config.accumulate_steps > 1 else ""
        rule = f"{config.train_batch_size} images cannot be divided among {replicas} devices{parts}"
        raise UserError("indivisible-batch", rule, f"`train_batch_size={better}`", field="train_batch_size")


def make_strategy(num_clones: int) -> tf.distribute.Strategy:
    """A strategy over `num_clones` GPUs, or over as many logical devices of the CPU where there is no GPU.

    Raises:
      UserError: fewer GPUs than clones.
    """
    if num_clones == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy(_local_devices(num_clones))


def _own_devices(found: Cluster, num_clones: int) -> list[str]:
    """The devices of this worker, apart from those of other workers on the same host."""
    hosts = _hosts(found)
    before, here = (part.count(hosts[found.index]) for part in (hosts[: found.index], hosts))
    gpus = tf.config.list_physical_devices("GPU")
    if here > 1 and len(gpus) >= here * num_clones:  # a scheduler may show each worker its own GPUs alone
        tf.config.set_visible_devices(gpus[before * num_clones : (before + 1) * num_clones], "GPU")
        return [f"GPU:{index}" for index in range(num_clones)]
    return _local_devices(num_clones)


def _hosts(found: Cluster) -> list[str]:
    """The machine of each worker."""
    return [address.rpartition(":")[0] for address in found.addresses]


def _local_devices(num_clones: int) -> list[str]:
    gpus = len(tf.config.list_physical_devices("GPU"))  # asking for logical ones would fix their number
    if not gpus:
        return _logical_cpus(num_clones)
    if gpus < num_clones:
        rule = f"{num_clones} clones need as many GPUs, and this machine has {gpus}"
        raise UserError("not-enough-devices", rule, f"`num_clones={gpus}`", field="num_clones", value=num_clones)
    return [f"GPU:{index}" for index in range(num_clones)]


def _tpu_strategy() -> tf.distribute.Strategy:
    """A strategy over the TPU of this machine, or over the one that `TPU_NAME` names.

    Raises:
      UserError: there is none.
    """
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, tf.errors.OpError, RuntimeError, OSError) as problem:
        rule = f"no TPU can be reached: {str(problem).splitlines()[0] if str(problem) else type(problem).__name__}"
        hint = "run on a TPU machine, or set TPU_NAME; `distribution=auto` uses GPUs or the CPU"
        raise UserError("not-enough-devices", rule, hint, field="distribution", value="tpu") from None


def is_tpu(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy computes on a TPU."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


def allow_memory_growth() -> None:
    """Makes GPUs take memory as they need it; must be called before the first operation."""
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # the GPU is in use already, so its memory has been configured
            return


def describe(devices: Devices, batch_size: int) -> str:
    """The devices and each one's part of a batch, in one line."""
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    kind = "TPU core" if is_tpu(devices.strategy) else kind
    if devices.replicas == 1:
        return f"one {kind}, batches of {batch_size}"
    each = f"batches of {batch_size}: {batch_size // devices.replicas} each"
    if devices.cluster is None:
        return f"{devices.replicas} {kind} replicas, {each}"
    return f"{devices.workers} workers with {counted(devices.local_replicas, f'{kind} replica')} each, {each}"


def _logical_cpus(count: int) -> list[str]:
    if count == 1:
        return ["CPU:0"]
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) < count:
            rule = "TensorFlow has started, so the CPU can no longer be split into logical devices"
            raise UserError("not-enough-devices", rule, "start a new process", field="num_clones") from None
    console.note(f"no GPU: the CPU stands in for {count} devices, which is no faster than one")
    return [f"CPU:{index}" for index in range(count)]
