"""Devices on which a training runs.

One device needs no strategy of its own; several on one machine mirror the variables and share each batch. The
loop is the same for both: it only ever calls `strategy.run`.
"""

from __future__ import annotations

import tensorflow as tf

from deeplab.utils import console
from deeplab.utils.errors import UserError


def make_strategy(num_clones: int) -> tf.distribute.Strategy:
    """A strategy over `num_clones` GPUs, or over as many logical devices of the CPU where there is no GPU.

    Raises:
      UserError: fewer GPUs than clones.
    """
    if num_clones == 1:
        return tf.distribute.get_strategy()
    gpus = len(tf.config.list_physical_devices("GPU"))  # asking for logical ones would fix their number
    if gpus:
        if gpus < num_clones:
            rule = f"{num_clones} clones need as many GPUs, and this machine has {gpus}"
            raise UserError("not-enough-devices", rule, f"`num_clones={gpus}`", field="num_clones", value=num_clones)
        return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(num_clones)])
    return tf.distribute.MirroredStrategy(_logical_cpus(num_clones))


def allow_memory_growth() -> None:
    """Makes GPUs take memory as they need it; must be called before the first operation."""
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # the GPU is in use already, so its memory has been configured
            return


def describe(strategy: tf.distribute.Strategy, batch_size: int) -> str:
    """The devices and each one's part of a batch, in one line."""
    replicas = strategy.num_replicas_in_sync
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if replicas == 1:
        return f"one {device}, batches of {batch_size}"
    return f"{replicas} {device} replicas, batches of {batch_size}: {batch_size // replicas} each"


def _logical_cpus(count: int) -> list[str]:
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) < count:
            rule = "TensorFlow has started, so the CPU can no longer be split into logical devices"
            raise UserError("not-enough-devices", rule, "start a new process", field="num_clones") from None
    console.note(f"no GPU: the CPU stands in for {count} devices, which is no faster than one")
    return [f"CPU:{index}" for index in range(count)]
