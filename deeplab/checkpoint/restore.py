"""Sets a model's variables from a checkpoint by name, and reports what was restored and what was not.

The first convolution of a model for RGB images is adapted to images with another number of channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.checkpoint import AnyCheckpoint
from deeplab.checkpoint import open as open_checkpoint
from deeplab.checkpoint.bundle import ArrayCheckpoint, Checkpoint
from deeplab.checkpoint.foreign.sources import ImportedCheckpoint
from deeplab.checkpoint.infer_config import Description, describe_shapes
from deeplab.checkpoint.names import AVERAGE, HEAD_SCOPES, in_scopes, is_bookkeeping, mask_name
from deeplab.utils import console
from deeplab.utils.errors import UserError

MIN_FRACTION = 0.5  # of the backbone's variables; below it the checkpoint is of another model
RGB = 3
Shape = tuple[int, ...]
Opened = Checkpoint | ArrayCheckpoint


@dataclass(frozen=True)
class RestoreReport:
    """What happened to every variable, in the order of the model (`unused`: of the checkpoint).

    Attributes:
      checkpoint: its prefix.
      restored: set from the checkpoint.
      differing: (name, shape in the model, shape in the checkpoint), left as they were.
      missing: in the model, not in the checkpoint, left as they were.
      unused: in the checkpoint, not in the model.
      excluded: in both, left out on purpose.
      adapted: (name, shape in the model, shape in the checkpoint) of a first convolution for RGB images that was
        adapted to another number of channels.
    """

    checkpoint: str
    restored: tuple[str, ...]
    differing: tuple[tuple[str, Shape, Shape], ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    excluded: tuple[str, ...]
    adapted: tuple[tuple[str, Shape, Shape], ...] = ()

    def table(self, lines: int = 4) -> str:
        """Format the counts as a table, optimizer slots and step apart, and the first names that do not fit."""
        kinds: dict[str, tuple[Sequence[str], Sequence[str]]] = {"restored": (self.restored, [])}
        if self.adapted:
            kinds["adapted to the input channels"] = _both_shapes(self.adapted)
        kinds |= {
            "shape differs": _both_shapes(self.differing),
            "missing": (self.missing, self.missing),
            "unused": (self.unused, self.unused),
            "excluded": (self.excluded, self.excluded),
        }
        rows = [(kind, *_counts(names)) for kind, (names, _) in kinds.items()]
        text = [f"from {self.checkpoint}:", console.table(rows, ["outcome", "model", "optimizer and step"])]
        for kind, (_, shown) in kinds.items():
            text += _listing(kind, [line for line in shown if not is_bookkeeping(line)], lines)
        return "\n".join(text)


def restore(
    variables: Mapping[str, Any],
    checkpoint: AnyCheckpoint,
    exclude: Callable[[str], bool] = lambda name: False,
    require_all: bool = False,
    averages: bool = False,
) -> RestoreReport:
    """Set variables from a checkpoint: those that it holds under the same name with the same shape.

    Kernels of a pruned model are multiplied by their masks, which a checkpoint of TensorFlow 1 holds apart.
    The first convolution of a model for RGB images is adapted to a model with other input channels, unless
    `require_all`.

    Args:
      variables: TensorFlow-1 name (without `:0`) -> Keras or TensorFlow variable, or anything with `.shape` and
        `.assign`; optimizer slots and `global_step` may be among them under their names.
      checkpoint: whatever `deeplab.checkpoint.open` takes.
      exclude: names to leave alone, e.g. `names.initial_exclusion(...)`.
      require_all: every variable that is not excluded must be restored, as evaluation and export need it.
      averages: take the running average of a weight in place of the weight, where the checkpoint has one.

    Raises:
      UserError: less than half of the backbone's variables fit, with `require_all` any variable does not, or a value
        is NaN or infinite; nothing has been set then.
    """
    opened = open_checkpoint(checkpoint)
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    report = plan(shapes, opened, exclude)
    if not require_all:
        report = _with_adapted(report, shapes, opened)
    _require_same_backbone(report, shapes, opened)
    if require_all and (report.missing or report.differing):
        raise _incomplete(report, shapes, opened)
    source = {name: averaged_name(name, opened) if averages else name for name in report.restored}
    # All are read before any is set.
    values = {name: masked(name, opened.array(source[name]), opened) for name in report.restored}
    for name, model, _ in report.adapted:
        values[name] = adapt_to_channels(opened.array(name), model[2])
    require_finite(values, opened.prefix)
    for name, value in values.items():
        variables[name].assign(_in_dtype_of(variables[name], value))
    return report


def averaged_name(name: str, checkpoint: Opened) -> str:
    """The name of a weight's running average (`NAME/ExponentialMovingAverage`), or of the weight if it has none."""
    average = f"{name}/{AVERAGE}"
    return average if average in checkpoint else name


def masked(name: str, value: np.ndarray, checkpoint: Opened) -> np.ndarray:
    """A kernel, or its running average, multiplied by the mask that a checkpoint of a pruned model holds."""
    mask = mask_name(name)
    if value.ndim > 1 and checkpoint.shapes.get(mask) == value.shape and mask != name:
        return value * checkpoint.array(mask).astype(value.dtype)
    return value


def require_finite(values: Mapping[str, Any], where: str) -> None:
    """Stop if a weight is NaN or infinite: predictions would be one class, without any warning.

    Args:
      values: variable name -> array or variable.
      where: what holds them, for the message.

    Raises:
      UserError: with the first such variable and the number of its bad values.
    """
    for name, value in values.items():
        array = np.asarray(value)
        if array.dtype.kind not in "biuSUO" and not (finite := np.isfinite(array.astype(np.float32, copy=False))).all():
            rule = f"{int((~finite).sum())} values of {name} are not finite: the training had diverged"
            hint = "use an earlier checkpoint, or train with a lower `base_learning_rate`"
            raise UserError("not-finite", rule, hint, where=where, value=name)


def plan(
    shapes: Mapping[str, Shape], checkpoint: Opened, exclude: Callable[[str], bool] = lambda name: False
) -> RestoreReport:
    """Report what `restore` would do, from the model's names and shapes."""
    wanted = [name for name in shapes if not exclude(name)]
    there = [name for name in wanted if name in checkpoint]
    fits = {name: tuple(shapes[name]) == checkpoint.shapes[name] for name in there}
    return RestoreReport(
        checkpoint=checkpoint.prefix,
        restored=tuple(name for name in there if fits[name]),
        differing=tuple((name, tuple(shapes[name]), checkpoint.shapes[name]) for name in there if not fits[name]),
        missing=tuple(name for name in wanted if name not in checkpoint),
        unused=tuple(name for name in checkpoint.shapes if name not in shapes),
        excluded=tuple(name for name in shapes if exclude(name) and name in checkpoint),
    )


def _with_adapted(report: RestoreReport, shapes: Mapping[str, Shape], checkpoint: Opened) -> RestoreReport:
    """Move the first convolution from the differing to the adapted variables."""
    first = first_kernel({name: shapes[name] for name, _, _ in report.differing}, checkpoint.shapes)
    adapted = tuple(entry for entry in report.differing if entry[0] == first)
    return replace(report, adapted=adapted, differing=tuple(e for e in report.differing if e[0] != first))


def _in_dtype_of(variable: Any, value: np.ndarray) -> np.ndarray:
    dtype = getattr(variable, "dtype", None)
    return value if dtype is None else np.asarray(value, tf.as_dtype(dtype).as_numpy_dtype)


# ---- other input channels ------------------------------------------------------------------------------


def first_kernel(model: Mapping[str, Shape], checkpoint: Mapping[str, Shape]) -> str | None:
    """Name of the kernel that reads the image, if it can be adapted.

    That is the only backbone kernel [h, w, in, out] that has 3 input channels in the checkpoint and another number in
    the model, all else being equal.

    Args:
      model, checkpoint: variable names and shapes.
    """
    found = [name for name in model if name in checkpoint and _differs_in_channels(model[name], checkpoint[name])]
    found = [name for name in found if _is_backbone(name)]
    return found[0] if len(found) == 1 else None


def _differs_in_channels(model: Shape, checkpoint: Shape) -> bool:
    if len(model) != 4 or len(checkpoint) != 4 or checkpoint[2] != RGB or model[2] == RGB:
        return False
    return (*model[:2], model[3]) == (*checkpoint[:2], checkpoint[3])


def adapt_to_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Adapt a kernel for RGB images to images of `channels` channels.

    Equal channels give exactly the output that a gray RGB image gave. Up to two channels share the sum over R, G and B;
    from four on, the first three keep the weights of R, G and B, the others get their mean, and all are scaled by
    3 / channels. (timm's `adapt_input_conv` repeats R, G, B instead, which keeps that output on average only.)

    Args:
      kernel: [h, w, 3, out].
      channels: number of input channels, not 3.

    Returns:
      [h, w, channels, out], in the kernel's dtype.
    """
    mean = kernel.mean(axis=2, keepdims=True)
    extra = np.repeat(mean, max(0, channels - RGB), axis=2)
    spread = np.concatenate([kernel, extra], axis=2) if channels > RGB else np.repeat(mean, channels, axis=2)
    return (spread * (RGB / channels)).astype(kernel.dtype)


# ---- refusing ----------------------------------------------------------------------------------------


def _is_backbone(name: str) -> bool:
    return not is_bookkeeping(name) and not in_scopes(name, HEAD_SCOPES)


def _require_same_backbone(report: RestoreReport, shapes: Mapping[str, Shape], checkpoint: Opened) -> None:
    """Stop at a checkpoint of another architecture, which would leave the model practically untrained."""
    fitting = sum(map(_is_backbone, report.restored)) + len(report.adapted)
    unfit = [name for name, _, _ in report.differing] + list(report.missing)
    total = fitting + sum(map(_is_backbone, unfit))
    if fitting < MIN_FRACTION * total:
        rule = f"is of another model: only {fitting} of the {total} variables of the backbone fit"
        raise _mismatch(rule, report, shapes, checkpoint)


def _incomplete(report: RestoreReport, shapes: Mapping[str, Shape], checkpoint: Opened) -> UserError:
    """The error for a checkpoint that must hold the whole model and does not."""
    lacks = [f"{name} is missing" for name in report.missing]
    lacks += [f"{name} is {_x(stored)}, the model's {_x(wanted)}" for name, wanted, stored in report.differing]
    shown = "; ".join(lacks[:4]) + (f"; and {len(lacks) - 4} more" if len(lacks) > 4 else "")
    if not report.differing and all(map(is_bookkeeping, report.missing)):
        rule = f"holds the model, but not the state of the training, so that none can resume from it: {shown}"
        hint = "start a training of its own from it: `tf_initial_checkpoint`, with another `train_logdir`"
        return UserError("checkpoint-mismatch", rule, hint, where=report.checkpoint)
    return _mismatch(f"does not hold the whole model: {shown}", report, shapes, checkpoint)


def _mismatch(rule: str, report: RestoreReport, shapes: Mapping[str, Shape], checkpoint: Opened) -> UserError:
    found, model = describe_shapes(checkpoint.shapes), describe_shapes(shapes)
    rule += f". It looks like {found.sentence()}; the model is {model.sentence()}"
    if isinstance(checkpoint, ImportedCheckpoint):
        hint = f"settings that fit {checkpoint.source.title}: {' '.join(checkpoint.setting_texts())}"
        raise UserError("checkpoint-mismatch", rule, hint, where=report.checkpoint)
    return UserError("checkpoint-mismatch", rule, _settings_hint(found, model), where=report.checkpoint)


def _settings_hint(found: Description, model: Description) -> str:
    """Which settings would make the model fit the checkpoint."""
    if found.model_variant is None:
        return "give a checkpoint of a backbone that `model_variant` knows"
    texts = found.setting_texts(unlike=model)
    if "normalization" in model.settings and "normalization" not in found.settings:  # batch norm is not described
        texts.append("`normalization=batch`")
    hint = f"settings that fit it: {' '.join(texts)}" if texts else ""
    if any(text.startswith("`atrous_rates=") for text in texts) and found.settings["atrous_rates"]:
        hint += " (a checkpoint shows the number of atrous rates, not their values: these are the usual ones)"
    if found.num_classes and model.num_classes and found.num_classes != model.num_classes:
        classes = f"it has {found.num_classes} classes: use the dataset it was trained on"
        hint = "; ".join(filter(None, [hint, f"{classes}, or `num_classes={found.num_classes}`"]))
    if not hint and found.num_classes is None:
        return "it has no segmentation head: train from it first (`tf_initial_checkpoint`)"
    return hint or "give the settings it was trained with"


# ---- words -------------------------------------------------------------------------------------------


def _both_shapes(entries: Sequence[tuple[str, Shape, Shape]]) -> tuple[list[str], list[str]]:
    """Names, and lines with both shapes."""
    lines = [f"{name}: model {_x(model)}, checkpoint {_x(there)}" for name, model, there in entries]
    return [name for name, _, _ in entries], lines


def _x(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _counts(names: Any) -> tuple[int, int]:
    bookkeeping = sum(map(is_bookkeeping, names))
    return len(names) - bookkeeping, bookkeeping


def _listing(kind: str, texts: Sequence[str], lines: int) -> list[str]:
    """The first names of a kind; of the rest, the number per outermost scope."""
    rest = Counter(text.split("/")[0] for text in texts[lines:])
    more = ", ".join(f"{scope} {count}" for scope, count in rest.items())
    listing = [f"{kind}:", *(f"  {text}" for text in texts[:lines])] if texts else []
    return [*listing, f"  and more: {more}"] if more else listing
