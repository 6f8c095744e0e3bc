"""The loss of a batch: logits and labels are brought to one size, and the terms of a sum of losses are added up."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from deeplab import losses
from deeplab.config.training_config import LossConfig
from deeplab.data.decoding import as_report
from deeplab.data.labels import LabelSpec
from deeplab.losses import class_balance
from deeplab.losses.expression import Term, parse
from deeplab.losses.hard_mining import hardest
from deeplab.losses.pixelwise import PixelLoss
from deeplab.model import AUXILIARY_LOGITS
from deeplab.utils.errors import UserError, nearest
from slim import kernels

AUXILIARY = "auxiliary"  # the part of the loss that comes from the auxiliary head


@keras.saving.register_keras_serializable("deeplab")
class SegmentationLoss(keras.losses.Loss):
    """A registered loss, or a weighted sum of some, for labels of any size.

    As a Keras loss it takes y_true, labels [B, H, W] or [B, H, W, 1], and y_pred, logits [B, h, w, C]; mining then has
    its final fraction from the start.

    Args:
      loss: a name of `deeplab.losses.names()`, or a sum such as "cross_entropy + 0.5*focal(gamma=2)".
      ignore_label: label of pixels that do not count; it may be one of 0..C-1.
      label_weights: factor for the pixels of each class, C numbers; none = 1 for all.
      adaptive: without `label_weights`, weigh the classes of each batch so that all that occur in it count the same.
      auxiliary_weight: factor of the loss of `auxiliary_logits`, where the model has that output.
      upsample_logits: compare at the labels' size (off: at the logits' size, with subsampled labels).
      align_corners: how logits are enlarged, as in `slim.kernels.resize_bilinear`.
      top_k_percent_pixels: fraction of the hardest pixels kept, above 0 to 1; in sums it acts on losses of single
        pixels.
      hard_example_mining_step: steps over which that fraction falls from 1 in a straight line; 0 = at once.

    Raises:
      UserError: no loss has such a name or option; mining without a loss of single pixels.
    """

    def __init__(
        self,
        loss: str = "cross_entropy",
        *,
        ignore_label: int = 255,
        label_weights: Sequence[float] = (),
        adaptive: bool = False,
        auxiliary_weight: float = 1.0,
        upsample_logits: bool = True,
        align_corners: bool = True,
        top_k_percent_pixels: float = 1.0,
        hard_example_mining_step: int = 0,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name or "segmentation_loss", **kwargs)
        self.loss, self.ignore_label, self.label_weights = loss, ignore_label, tuple(label_weights)
        self.adaptive, self.auxiliary_weight = adaptive, auxiliary_weight
        self.upsample_logits, self.align_corners = upsample_logits, align_corners
        self.top_k_percent_pixels, self.hard_example_mining_step = top_k_percent_pixels, hard_example_mining_step
        self._terms = [(term, _checked(term)) for term in parse(loss)]
        if top_k_percent_pixels < 1.0 and not any(isinstance(function, PixelLoss) for _, function in self._terms):
            rule = f"hard-pixel mining needs a loss of single pixels, and {loss} has none"
            hint = "add `cross_entropy` to `loss`, or leave `top_k_percent_pixels` at 1"
            raise UserError("conflicting-settings", rule, hint, field="top_k_percent_pixels")

    def call(self, y_true, y_pred):
        return self.value(y_pred, y_true)

    def value(self, logits: tf.Tensor, labels: tf.Tensor, global_step: Any = None) -> tf.Tensor:
        """The sum of all terms as a float32 scalar; arguments as in `terms`."""
        return _sum(self.terms(logits, labels, global_step))

    def terms(self, logits: tf.Tensor, labels: tf.Tensor, global_step: Any = None) -> dict[str, tf.Tensor]:
        """Each term of the sum, its factor included, by its text.

        Args:
          logits: float [B, h, w, C], any scale and any float type; computed in float32.
          labels: integer or float [B, H, W] or [B, H, W, 1], classes 0..C-1 or `ignore_label`.
          global_step: updates done so far, for mining: int or integer scalar tensor; None = beyond its last step.

        Returns:
          text -> float32 scalar; 0 when no pixel is labeled.

        Raises:
          UserError: `label_weights` has another number of classes.
          tf.errors.InvalidArgumentError: when it runs, a label is neither a class nor `ignore_label`.
        """
        logits, labels = to_same_size(tf.cast(logits, tf.float32), labels, self.upsample_logits, self.align_corners)
        labels, weights = labels_and_weights(labels, logits.shape[-1], self.ignore_label, self.label_weights)
        if self.adaptive and not self.label_weights:
            weights *= balanced(labels, logits.shape[-1])
        mined: dict[str, Any] = {}
        if self.top_k_percent_pixels < 1.0:
            mined["reduce"] = hardest(self.top_k_percent_pixels, self.hard_example_mining_step, global_step)
        values: dict[str, tf.Tensor] = {}
        for term, function in self._terms:
            reduction = mined if isinstance(function, PixelLoss) else {}
            value = function(logits, labels, weights, **reduction, **term.options)
            value = value if term.factor == 1.0 else term.factor * value
            values[term.text] = values[term.text] + value if term.text in values else value  # a term may come twice
        return values

    def of_outputs(
        self, outputs: Mapping[str, tf.Tensor], labels: tf.Tensor, global_step: Any
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """What training minimizes, and its parts by the names of `part_names`, in that order.

        It is the sum of `value` over a model's outputs, the auxiliary one times its weight. A model with an image
        pyramid has one output per scale and their merger, and each is trained.
        """
        terms = {name: self.terms(logits, labels, global_step) for name, logits in outputs.items()}
        values = {name: _sum(of_output) for name, of_output in terms.items()}
        if AUXILIARY_LOGITS in values:
            values[AUXILIARY_LOGITS] *= self.auxiliary_weight
        parts = {
            text: tf.add_n([of_output[text] for name, of_output in terms.items() if name != AUXILIARY_LOGITS])
            for text in self._texts()
        }
        if AUXILIARY_LOGITS in values:
            parts[AUXILIARY] = values[AUXILIARY_LOGITS]
        return tf.add_n(list(values.values())), {name: parts[name] for name in self.part_names(outputs)}

    def part_names(self, outputs: Iterable[str]) -> tuple[str, ...]:
        """The parts of the loss of these outputs: the terms' texts, and `auxiliary`; none where there is but one."""
        names = (*self._texts(), *((AUXILIARY,) if AUXILIARY_LOGITS in outputs else ()))
        return names if len(names) > 1 else ()

    def _texts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(term.text for term, _ in self._terms))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for `model.save`."""
        names = ("loss", "ignore_label", "label_weights", "adaptive", "auxiliary_weight", "upsample_logits")
        more = ("align_corners", "top_k_percent_pixels", "hard_example_mining_step")
        own = {name: getattr(self, name) for name in (*names, *more)}
        return {**super().get_config(), **own, "label_weights": list(self.label_weights)}


def _sum(values: Mapping[str, tf.Tensor]) -> tf.Tensor:
    return next(iter(values.values())) if len(values) == 1 else tf.add_n(list(values.values()))


def from_config(config: LossConfig, ignore_label: int, align_corners: bool = True) -> SegmentationLoss:
    """The loss that the config asks for; weight decay, and balance other than per batch, are not part of it."""
    return SegmentationLoss(
        config.loss,
        ignore_label=ignore_label,
        label_weights=config.label_weights,
        adaptive=config.class_balance == class_balance.ADAPTIVE,
        auxiliary_weight=config.auxiliary_loss_weight,
        upsample_logits=config.upsample_logits,
        align_corners=align_corners,
        top_k_percent_pixels=config.top_k_percent_pixels,
        hard_example_mining_step=config.hard_example_mining_step,
    )


def balanced(labels: tf.Tensor, classes: int) -> tf.Tensor:
    """Weights by which all classes of a batch count the same: labeled pixels / (classes present * the class's pixels).

    Where several devices share a batch, pixels are counted over all of them.

    Args:
      labels: int32 [B, H, W], 0..classes-1, or `losses.IGNORED`.
      classes: number of classes.

    Returns:
      float32 [B, H, W], with mean 1 over the labeled pixels of the batch; 0 at ignored ones.
    """
    rows = tf.reshape(labels, [-1])
    pixels = tf.math.unsorted_segment_sum(tf.ones_like(rows, tf.float32), rows, classes)  # negative ones count nowhere
    replica = tf.distribute.get_replica_context()
    if replica is not None and replica.num_replicas_in_sync > 1:
        pixels = replica.all_reduce("SUM", pixels)
    present = tf.reduce_sum(tf.cast(pixels > 0, tf.float32))
    of_class = tf.math.divide_no_nan(tf.reduce_sum(pixels), present * pixels)
    return tf.where(labels > losses.IGNORED, tf.gather(of_class, tf.maximum(labels, 0)), 0.0)


def _checked(term: Term) -> Callable[..., tf.Tensor]:
    """The term's function, which must know its options."""
    function = losses.registry.get(term.name)
    parameters = inspect.signature(getattr(function, "values", function)).parameters
    known = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    for option in term.options:
        if option not in known:
            rule = f"the loss {term.name!r} has no option {option!r}"
            hint = nearest(option, known) if known else "it has no options"
            raise UserError("unknown-name", rule, hint, field="loss", value=option)
    return function


def to_same_size(
    logits: tf.Tensor, labels: tf.Tensor, upsample_logits: bool, align_corners: bool = True
) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits enlarged to the labels' size, or labels subsampled to the logits', corners aligned.

    Args:
      logits: float32 [B, h, w, C].
      labels: integer or float [B, H, W] or [B, H, W, 1].
      upsample_logits: bilinear on the logits (off: nearest neighbor on the labels).
      align_corners: of the logits' enlarging, as in `slim.kernels.resize_bilinear`.

    Returns:
      float32 logits and int32 labels [B, H, W] of one height and width.
    """
    labels = tf.cast(labels, tf.int32)
    if labels.shape.rank == 4:
        labels = labels[..., 0]
    small, large = logits.shape[1:3], labels.shape[1:3]
    if small.is_fully_defined() and large.is_fully_defined() and small == large:
        return logits, labels
    if upsample_logits:
        height, width = _sides(labels)
        return kernels.resize_bilinear_training(logits, height, width, align_corners), labels
    return logits, kernels.resize_nearest(labels[..., tf.newaxis], *_sides(logits))[..., 0]


def _sides(maps: tf.Tensor) -> Sequence[Any]:
    """Height and width: ints where they are known, else int32 scalars."""
    shape = tf.shape(maps)
    return [shape[axis] if maps.shape[axis] is None else maps.shape[axis] for axis in (1, 2)]


def label_assertions(labels: tf.Tensor, classes: int, ignore_label: int) -> list[tf.Operation]:
    """Operations that stop a step whose labels are neither classes nor `ignore_label`.

    Outside of a graph labels are checked at once, and the list is empty. Arguments as in `labels_and_weights`.
    """
    inside = tf.where(tf.not_equal(labels, ignore_label), labels, 0)
    hint = f"the model has {classes} classes: build the records again with corrected masks, or set its num_classes"
    rule = LabelSpec(classes, ignore_label).rule
    report = as_report(UserError("label-out-of-range", rule, hint, where="labels of the batch"))
    checks = [
        tf.debugging.assert_less(tf.reduce_max(inside), classes, message=report),
        tf.debugging.assert_non_negative(tf.reduce_min(inside), message=report),
    ]
    return [check for check in checks if check is not None]


def labels_and_weights(
    labels: tf.Tensor, classes: int, ignore_label: int, label_weights: Sequence[float] = ()
) -> tuple[tf.Tensor, tf.Tensor]:
    """Labels and weights in the form that every loss takes.

    Args:
      labels: int32 [B, H, W], classes or `ignore_label`; another label stops the step that computes them.
      classes: number of classes.
      ignore_label: label of pixels that do not count.
      label_weights: weight of each class's pixels; none = 1 for all.

    Returns:
      int32 labels, 0..classes-1 or `losses.IGNORED`, and float32 weights, 0 where a pixel is ignored.

    Raises:
      UserError: not one weight per class.
    """
    counted = tf.not_equal(labels, ignore_label)
    with tf.control_dependencies(label_assertions(labels, classes, ignore_label)):
        labels = tf.where(counted, labels, losses.IGNORED)
    weights = tf.cast(counted, tf.float32)
    if not label_weights:
        return labels, weights
    if len(label_weights) != classes:
        padded = ",".join(f"{weight:g}" for weight in [*label_weights, *[1.0] * classes][:classes])
        example = f", for example `label_weights={padded}`" if classes <= class_balance.MAX_CLASSES_IN_TEXT else ""
        raise UserError(
            "class-count-mismatch",
            f"there are {len(label_weights)} weights, and the model has {classes} classes (background counts)",
            f"give one weight per class{example}",
            field="label_weights",
            value=tuple(label_weights),
        )
    return labels, weights * tf.gather(tf.constant(label_weights, tf.float32), tf.maximum(labels, 0))
