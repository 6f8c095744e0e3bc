"""What training minimizes, as a pure function of logits and labels.

A loss is made in three parts: logits and labels are brought to one size, a pixel loss gives each pixel its
own value, and the reduction weighs these and leaves one scalar. A new pixel loss is one function
in `PIXEL_LOSSES`; the other two parts then serve it as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from deeplab.config.training_config import LossConfig
from deeplab.data.decoding import as_report
from deeplab.data.labels import LabelSpec
from deeplab.utils.errors import UserError, nearest
from slim import kernels

PLANAR_CLASSES = 12  # up to here class planes are quicker than pixel rows (benchmarks/losses.py)


def softmax_cross_entropy(
    logits: tf.Tensor,
    labels: tf.Tensor,
    *,
    ignore_label: int,
    label_weights: Sequence[float] = (),
    upsample_logits: bool = True,
    top_k_percent_pixels: float = 1.0,
    hard_example_mining_step: int = 0,
    global_step: Any = 0,
    loss_weight: float = 1.0,
) -> tf.Tensor:
    """Softmax cross-entropy over the labeled pixels of a batch; `pixel_loss` says more.

    Args:
      logits: float [B, h, w, C], any scale and any float type; computed in float32.
      labels: integer [B, H, W] or [B, H, W, 1], classes 0..C-1 or `ignore_label`.
      ignore_label: label of pixels that do not count; may itself lie in 0..C-1.
      label_weights: factor of each class's pixels, C numbers; none = 1 for all.
      upsample_logits: compare at the labels' size (off: at the logits' size, with subsampled labels).
      top_k_percent_pixels: share of the hardest pixels kept, above 0 to 1.
      hard_example_mining_step: steps over which that share shrinks from 1 in a straight line; 0 = at once.
      global_step: updates done so far, int or integer scalar tensor.
      loss_weight: factor of the whole.

    Returns:
      float32 scalar, in nats; 0 when no pixel is labeled.
    """
    return pixel_loss(
        "softmax_cross_entropy",
        logits,
        labels,
        ignore_label=ignore_label,
        label_weights=label_weights,
        upsample_logits=upsample_logits,
        top_k_percent_pixels=top_k_percent_pixels,
        hard_example_mining_step=hard_example_mining_step,
        global_step=global_step,
        loss_weight=loss_weight,
    )


def pixel_loss(
    name: str,
    logits: tf.Tensor,
    labels: tf.Tensor,
    *,
    ignore_label: int,
    label_weights: Sequence[float] = (),
    upsample_logits: bool = True,
    top_k_percent_pixels: float = 1.0,
    hard_example_mining_step: int = 0,
    global_step: Any = 0,
    loss_weight: float = 1.0,
) -> tf.Tensor:
    """A loss of `PIXEL_LOSSES`, weighted and averaged over pixels; arguments as in `softmax_cross_entropy`.

    Without hard-pixel mining it is the weighted sum over the number of labeled pixels. That number does not
    depend on `label_weights`, as in the reference: weights above 1 make the loss larger. With mining it is the
    mean over those of the hardest pixels whose loss is not 0; ignored pixels count in what the share is of.

    Returns:
      float32 scalar; 0 when no pixel is labeled.

    Raises:
      UserError: no such loss, or not one label weight a class.
      tf.errors.InvalidArgumentError: when it runs, a label is neither a class nor `ignore_label`.
    """
    if name not in PIXEL_LOSSES:
        raise UserError(
            "unclassified", f"no pixel loss is called {name!r}", nearest(name, list(PIXEL_LOSSES)), where="loss"
        )
    logits, labels = to_same_size(tf.cast(logits, tf.float32), labels, upsample_logits)
    classes = logits.shape[-1]
    logits, labels = tf.reshape(logits, [-1, classes]), tf.reshape(labels, [-1])
    counted = tf.not_equal(labels, ignore_label)
    labels = tf.where(counted, labels, tf.zeros_like(labels))  # any class will do, their weight is 0
    with tf.control_dependencies(_label_checks(labels, classes, ignore_label)):
        losses = PIXEL_LOSSES[name](logits, labels)
    losses *= pixel_weights(labels, counted, label_weights, classes)
    if top_k_percent_pixels < 1.0:
        share = mined_share(top_k_percent_pixels, hard_example_mining_step, global_step)
        loss = mean_of_hardest(losses, share)
    else:
        loss = tf.math.divide_no_nan(tf.reduce_sum(losses), tf.reduce_sum(tf.cast(counted, tf.float32)))
    return loss if loss_weight == 1.0 else loss * loss_weight


def of_outputs(
    outputs: Mapping[str, tf.Tensor], labels: tf.Tensor, config: LossConfig, *, ignore_label: int, global_step: Any
) -> dict[str, tf.Tensor]:
    """The loss of every output of the model; training minimizes their sum.

    A model with an image pyramid has one output a scale and their merger, and each is trained.

    Args:
      outputs: name -> float logits [B, h, w, C].
      labels: integer [B, H, W] or [B, H, W, 1].
      config: every field but `weight_decay` is read.
      ignore_label: label of pixels that do not count.
      global_step: updates done so far, int or integer scalar tensor.

    Returns:
      name -> float32 scalar.
    """
    return {
        name: softmax_cross_entropy(
            logits,
            labels,
            ignore_label=ignore_label,
            label_weights=config.label_weights,
            upsample_logits=config.upsample_logits,
            top_k_percent_pixels=config.top_k_percent_pixels,
            hard_example_mining_step=config.hard_example_mining_step,
            global_step=global_step,
        )
        for name, logits in outputs.items()
    }


def softmax_pixel_losses(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of each pixel: log(sum(exp(logits))) - logits[label].

    Written out because TensorFlow's fused operations take 1.4 to 2.4 times as long on a CPU, with the gradient
    (benchmarks/losses.py).

    Args:
      logits: float32 [N, C].
      labels: integer [N], 0..C-1.

    Returns:
      float32 [N], in nats.
    """
    classes = logits.shape[-1]
    axis = 0 if classes <= PLANAR_CLASSES else 1
    if axis == 0:
        logits = tf.transpose(logits)
    own = tf.reduce_sum(logits * tf.one_hot(labels, classes, axis=axis), axis)
    return tf.reduce_logsumexp(logits, axis) - own


PIXEL_LOSSES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "softmax_cross_entropy": softmax_pixel_losses,
}
"""Losses of single pixels by name: (float32 logits [N, C], integer labels [N] in 0..C-1) -> float32 [N], >= 0."""


def to_same_size(logits: tf.Tensor, labels: tf.Tensor, upsample_logits: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits enlarged to the labels' size, or labels subsampled to the logits', corners aligned.

    Args:
      logits: float32 [B, h, w, C].
      labels: integer [B, H, W] or [B, H, W, 1].
      upsample_logits: bilinear on the logits (off: nearest neighbor on the labels).

    Returns:
      float32 logits and int32 labels with equal height and width; the labels' rank is 4.
    """
    labels = tf.cast(labels, tf.int32)
    if labels.shape.rank == 3:
        labels = labels[..., tf.newaxis]
    small, large = logits.shape[1:3], labels.shape[1:3]
    if small.is_fully_defined() and large.is_fully_defined() and small == large:
        return logits, labels
    if upsample_logits:
        return kernels.resize_bilinear(logits, *keras.ops.shape(labels)[1:3]), labels
    return logits, kernels.resize_nearest(labels, *keras.ops.shape(logits)[1:3])


def pixel_weights(labels: tf.Tensor, counted: tf.Tensor, label_weights: Sequence[float], classes: int) -> tf.Tensor:
    """Factor of each pixel's loss: its class's weight, 0 where it is ignored.

    Args:
      labels: int32 [N], 0..classes-1 everywhere.
      counted: bool [N], false where a pixel is ignored.
      label_weights: `classes` numbers; none = 1 for all.
      classes: number of classes.

    Returns:
      float32 [N].

    Raises:
      UserError: not one weight a class.
    """
    weights = tf.cast(counted, tf.float32)
    if not label_weights:
        return weights
    if len(label_weights) != classes:
        given = ",".join(f"{weight:g}" for weight in label_weights)
        padded = ",".join(f"{weight:g}" for weight in [*label_weights, *[1.0] * classes][:classes])
        raise UserError(
            "unclassified",
            f"{given} has {len(label_weights)} weights, the network has {classes} classes (background counts)",
            f"give one weight a class, e.g. `label_weights={padded}`",
            field="label_weights",
        )
    return weights * tf.gather(tf.constant(label_weights, tf.float32), labels)


def mined_share(final_share: float, mining_step: int, global_step: Any) -> tf.Tensor:
    """Share of the pixels that hard-pixel mining keeps: from 1 to `final_share` over `mining_step` steps.

    Args:
      final_share: share from `mining_step` on, 0 to 1.
      mining_step: number of steps; 0 = `final_share` at once.
      global_step: updates done so far, int or integer scalar tensor.

    Returns:
      float32 scalar, `final_share` to 1.
    """
    if mining_step == 0:
        return tf.constant(final_share, tf.float32)
    progress = tf.minimum(1.0, tf.cast(global_step, tf.float32) / float(mining_step))
    return progress * final_share + (1.0 - progress)


def mean_of_hardest(losses: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Mean of the largest losses, leaving out those that are 0.

    Args:
      losses: float32 [N], >= 0, 0 where a pixel is ignored.
      share: float32 scalar, 0 to 1; int(share * N) losses are kept.

    Returns:
      float32 scalar; 0 when all kept losses are 0.
    """
    kept = tf.cast(share * tf.cast(tf.size(losses), tf.float32), tf.int32)
    hardest = tf.math.top_k(losses, kept, sorted=False).values
    return tf.math.divide_no_nan(tf.reduce_sum(hardest), tf.reduce_sum(tf.cast(hardest != 0.0, tf.float32)))


def _label_checks(labels: tf.Tensor, classes: int, ignore_label: int) -> list[Any]:
    """Operations that stop the step at a label that is no class; it would train on noise unnoticed."""
    hint = f"the model has {classes} classes: build the records again with corrected masks, or set its num_classes"
    error = UserError("label-out-of-range", LabelSpec(classes, ignore_label).rule, hint, where="labels of the batch")
    checks = [
        tf.debugging.assert_less(tf.reduce_max(labels), classes, message=as_report(error)),
        tf.debugging.assert_non_negative(tf.reduce_min(labels), message=as_report(error)),
    ]
    return [check for check in checks if check is not None]
