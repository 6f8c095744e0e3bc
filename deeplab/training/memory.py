"""Estimates the memory that a training step needs, and how much each setting would save.

Counted are the outputs of all layers, which the backward pass needs, for one part of a batch; the weights with their
gradients, slots and averages; and the logits at label size. What TensorFlow needs beside them (workspaces, copies) is
not. Used where memory runs out, and as a warning before the first step.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import keras
import tensorflow as tf

from deeplab.config.training_config import TrainConfig
from deeplab.training.step import Trainer
from deeplab.utils import console

_COPIES_OF_LOGITS = 3  # at the size of the loss, float32: logits, their gradient, the losses' own
_MUCH = 0.25  # fraction of what images need from which enlarged logits are worth a word
# Files of a control group, and the entry of its memory.stat that counts cached files.
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")


@dataclass(frozen=True)
class MemoryNeed:
    """An estimate, in bytes.

    Attributes:
      image: of one image of a batch.
      images: images that are computed together.
      weights: of weights, gradients, slots and averages.
      enlarged: what of `image` is saved where the loss takes logits at their own size.
    """

    image: int
    images: int
    weights: int
    enlarged: int = 0

    @property
    def total(self) -> int:
        """Bytes of a step."""
        return self.image * self.images + self.weights


def estimate(trainer: Trainer, config: TrainConfig, num_classes: int, replicas: int = 0) -> MemoryNeed:
    """What a step needs on each device, of `replicas` in all; 0 = `num_clones`."""
    outputs, pixels = _activations(trainer.model, config.train_crop_size)
    logits = _COPIES_OF_LOGITS * 4 * num_classes * pixels
    enlarged = max(0, _COPIES_OF_LOGITS * 4 * num_classes * math.prod(config.train_crop_size) - logits)
    image = outputs + logits + (enlarged if trainer.loss.upsample_logits else 0)
    stored = sum(4 * math.prod(variable.shape) for variable in trainer.variables().values())
    gradients = sum(4 * math.prod(variable.shape) for variable in trainer.trainable().values())
    images = config.train_batch_size // (replicas or config.num_clones) // config.accumulate_steps
    return MemoryNeed(image, max(1, images), stored + gradients, enlarged if trainer.loss.upsample_logits else 0)


def activations(model: keras.Model, size: tuple[int, int]) -> int:
    """Bytes of all layers' outputs for one image of a height and width."""
    return _activations(model, size)[0]


def _activations(model: keras.Model, size: tuple[int, int]) -> tuple[int, int]:
    """Bytes of all layers' outputs for one image, and the pixels of the largest logits."""
    channels = model.inputs[0].shape[-1]
    total = 0

    def counting(operation):
        def compute(*args, **kwargs):
            nonlocal total
            outputs = operation.compute_output_spec(*args, **kwargs)
            for tensor in keras.tree.flatten(outputs):
                itemsize = 2 if "16" in str(tensor.dtype) else 4
                total += itemsize * math.prod(side or 1 for side in tensor.shape)
            return outputs

        return compute

    found = model._run_through_graph(keras.KerasTensor((1, *size, channels), "float32"), operation_fn=counting)
    return total, max(math.prod(side or 1 for side in tensor.shape[1:3]) for tensor in keras.tree.flatten(found))


def advice(need: MemoryNeed, config: TrainConfig, replicas: int = 0) -> str:
    """The settings to lower, each with what it saves by the estimate."""
    replicas = replicas or config.num_clones
    part = need.image * need.images
    lines = []
    if need.enlarged > _MUCH * need.image:  # many classes
        saved = need.enlarged * need.images
        lines.append(f"`upsample_logits=false` saves about {size_text(saved)}; the loss then sees subsampled labels")
    if need.images > 1:
        each = config.train_batch_size // replicas
        parts = next(p for p in range(config.accumulate_steps + 1, 10**6) if each % p == 0)
        saved = part - need.image * max(1, each // parts)
        lines.append(f"`accumulate_steps={parts}` saves about {size_text(saved)} and keeps the batch")
        lines.append(f"`train_batch_size={max(1, config.train_batch_size // 2)}` saves {size_text(part // 2)}")
    if config.precision == "float32":
        lines.append(f"`precision=mixed_bfloat16` saves up to {size_text(part // 2)}")
    height, width = config.train_crop_size
    smaller = (max(1, height * 3 // 4), max(1, width * 3 // 4))
    saved = part - part * smaller[0] * smaller[1] // (height * width)
    lines.append(f"`train_crop_size={smaller[0]},{smaller[1]}` saves {size_text(saved)}")
    return "; ".join(lines)


def warn(trainer: Trainer, config: TrainConfig, num_classes: int, replicas: int = 0) -> int:
    """Warns of a step that does not fit into main memory, where the system would end the program without a word.

    Returns:
      Bytes of main memory that a step needs; 0 where it runs on a GPU, or the system does not tell what is free.
    """
    free = None if tf.config.list_physical_devices("GPU") else available()
    need = None if free is None else estimate(trainer, config, num_classes, replicas)
    if free is not None and need and need.total > free:
        hint = advice(need, config, replicas)
        console.warning(f"{need_text(need)}, and {size_text(free)} of memory are free. To lower it: {hint}")
    return need.total if need else 0


def need_text(need: MemoryNeed) -> str:
    """The estimate in words."""
    return (
        f"a step needs about {size_text(need.total)}: {size_text(need.image)} for each of {need.images} images, "
        f"{size_text(need.weights)} for weights, gradients and slots"
    )


def size_text(size: float) -> str:
    """Bytes as text, such as `1.2 GB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def available() -> int | None:
    """Bytes of main memory that programs can have now; None where the system does not tell."""
    limits = [_meminfo(), _cgroup()]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _meminfo() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii", errors="replace") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _cgroup(root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> int | None:
    """Bytes that the limits of containers, batch systems and services leave to this process; None without a limit.

    Each control group of the process and each group above it may have a limit. Memory that only caches files counts as
    free, as in `MemAvailable`. Files as in Linux' cgroup-v2 and cgroup-v1/memory documents.

    Args:
      root: where control groups are mounted.
      membership: the file that lists the groups of the process.
    """
    try:
        with open(membership, encoding="utf-8", errors="replace") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return None
    found = []
    for _, controllers, group in (parts for parts in groups if len(parts) == 3):
        if controllers and "memory" not in controllers.split(","):
            continue
        top, names = (os.path.join(root, "memory"), _VERSION_1) if controllers else (root, _VERSION_2)
        parts = [part for part in group.split("/") if part not in ("", "..")]
        found += [_left_in(os.path.join(top, *parts[:depth]), *names) for depth in range(len(parts) + 1)]
    return min((left for left in found if left is not None), default=None)


def _left_in(folder: str, limit: str, usage: str, cached: str) -> int | None:
    """The limit of one control group less its usage; None if it has none, or is not visible in a container."""
    try:
        with open(os.path.join(folder, "memory.stat"), encoding="ascii") as file:
            statistics = dict(line.split() for line in file)
        used_bytes = _number_in(folder, usage) - int(statistics.get(cached, 0))
        return max(0, _number_in(folder, limit) - max(0, used_bytes))
    except (OSError, ValueError):  # no limit ("max"), no such file, or another system
        return None


def _number_in(folder: str, name: str) -> int:
    with open(os.path.join(folder, name), encoding="ascii") as file:
        return int(file.read())


def used() -> int | None:
    """Bytes that this process has in main memory; None where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
