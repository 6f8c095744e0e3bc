"""Estimates the memory that a training step needs, and how much each setting would save.

Counted are the outputs of all layers, which the backward pass needs, for one part of a batch; the weights with their
gradients, slots and averages; and the logits at label size. What TensorFlow needs beside them (workspaces, copies) is
not. Used where memory runs out, and as a warning before the first step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
import tensorflow as tf

from deeplab.config.training_config import TrainConfig
from deeplab.training.step import Trainer
from deeplab.utils import console, resources

_COPIES_OF_LOGITS = 3  # at the size of the loss, float32: logits, their gradient, the losses' own
_MUCH = 0.25  # fraction of what images need from which enlarged logits are worth a word


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
    free = None if tf.config.list_physical_devices("GPU") else resources.available_memory()
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
