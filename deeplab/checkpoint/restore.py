"""Puts a checkpoint's values into a model's variables by name, and tells what fitted and what did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.checkpoint import adapt
from deeplab.checkpoint.files import Checkpoint, InMemory, Reader, open_reader, step_of
from deeplab.checkpoint.infer_config import Description, describe_shapes
from deeplab.checkpoint.names import HEAD_SCOPES, in_scopes, is_bookkeeping
from deeplab.utils import console
from deeplab.utils.errors import UserError

LEAST_SHARE = 0.5  # of the backbone's variables; below it the checkpoint is of another network
Shape = tuple[int, ...]


@dataclass(frozen=True)
class RestoreReport:
    """What became of every name, in the order of the model (`unused`: of the checkpoint).

    Attributes:
      checkpoint: its prefix.
      restored: set from the checkpoint.
      differing: (name, shape in the model, shape in the checkpoint), left as they were.
      missing: in the model, not in the checkpoint, left as they were.
      unused: in the checkpoint, not in the model.
      excluded: in both, left out on purpose.
      adapted: (name, shape in the model, shape in the checkpoint) of a first convolution for RGB images, set so
        that it reads images of another number of channels.
    """

    checkpoint: str
    restored: tuple[str, ...]
    differing: tuple[tuple[str, Shape, Shape], ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    excluded: tuple[str, ...]
    adapted: tuple[tuple[str, Shape, Shape], ...] = ()

    def table(self, lines: int = 4) -> str:
        """Counts as a table, optimizer slots and step apart, and the first names of each unfitting kind."""
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
        text = [f"from {self.checkpoint}:", console.table(rows, ["outcome", "network", "optimizer and step"])]
        for kind, (_, shown) in kinds.items():
            text += _listing(kind, [line for line in shown if not is_bookkeeping(line)], lines)
        return "\n".join(text)


def restore(
    variables: Mapping[str, Any],
    checkpoint: Checkpoint,
    exclude: Callable[[str], bool] = lambda name: False,
    require_all: bool = False,
) -> RestoreReport:
    """Sets variables from a checkpoint: what is there under the same name with the same shape.

    The first convolution of a network for RGB images is adapted to a model with other input channels, unless
    `require_all`.

    Args:
      variables: TensorFlow-1 name (no `:0`) -> Keras or TensorFlow variable, or anything with `.shape` and
        `.assign`; optimizer slots and `global_step` may be among them under their names.
      checkpoint: prefix, folder, file of a checkpoint, arrays by name, or a reader.
      exclude: names to leave alone, e.g. `names.initial_exclusion(...)`.
      require_all: every variable that is not excluded must be restored, as evaluation and export need it.

    Raises:
      UserError: less than half of the backbone's variables fit, or with `require_all` any does not; nothing
        has been set then.
    """
    reader = open_reader(checkpoint)
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    report = plan(shapes, reader, exclude)
    if not require_all:
        report = _with_adapted(report, shapes, reader)
    _require_same_backbone(report, shapes, reader)
    if require_all and (report.missing or report.differing):
        raise _incomplete(report, shapes, reader)
    values = {name: reader.array(name) for name in report.restored}  # all read before any is set
    for name, model, _ in report.adapted:
        values[name] = adapt.to_channels(reader.array(name), model[2])
    for name, value in values.items():
        variables[name].assign(_in_dtype_of(variables[name], value))
    return report


def plan(
    shapes: Mapping[str, Shape], reader: Reader | InMemory, exclude: Callable[[str], bool] = lambda name: False
) -> RestoreReport:
    """What `restore` would do, from the model's names and shapes."""
    wanted = [name for name in shapes if not exclude(name)]
    there = [name for name in wanted if name in reader]
    fits = {name: tuple(shapes[name]) == reader.shapes[name] for name in there}
    return RestoreReport(
        checkpoint=reader.prefix,
        restored=tuple(name for name in there if fits[name]),
        differing=tuple((name, tuple(shapes[name]), reader.shapes[name]) for name in there if not fits[name]),
        missing=tuple(name for name in wanted if name not in reader),
        unused=tuple(name for name in reader.shapes if name not in shapes),
        excluded=tuple(name for name in shapes if exclude(name) and name in reader),
    )


def _with_adapted(report: RestoreReport, shapes: Mapping[str, Shape], reader: Reader | InMemory) -> RestoreReport:
    """The plan with the first convolution moved from the differing to the adapted variables."""
    first = adapt.first_kernel({name: shapes[name] for name, _, _ in report.differing}, reader.shapes)
    adapted = tuple(entry for entry in report.differing if entry[0] == first)
    return replace(report, adapted=adapted, differing=tuple(e for e in report.differing if e[0] != first))


def _in_dtype_of(variable: Any, value: np.ndarray) -> np.ndarray:
    dtype = getattr(variable, "dtype", None)
    return value if dtype is None else np.asarray(value, tf.as_dtype(dtype).as_numpy_dtype)


# ---- refusing ----------------------------------------------------------------------------------------


def _is_backbone(name: str) -> bool:
    return not is_bookkeeping(name) and not in_scopes(name, HEAD_SCOPES)


def _require_same_backbone(report: RestoreReport, shapes: Mapping[str, Shape], reader: Reader | InMemory) -> None:
    """Stops at a checkpoint of another architecture, which would leave the network as good as untrained."""
    fitting = sum(map(_is_backbone, report.restored)) + len(report.adapted)
    unfit = [name for name, _, _ in report.differing] + list(report.missing)
    total = fitting + sum(map(_is_backbone, unfit))
    if fitting >= LEAST_SHARE * total:
        return
    found, model = describe_shapes(reader.shapes), describe_shapes(shapes)
    raise UserError(
        "unclassified",
        f"is of another network: only {fitting} of the {total} variables of the backbone fit. It looks like"
        f" {found.sentence()}; the model is {model.sentence()}",
        _flags_hint(found, model),
        where=report.checkpoint,
    )


def _incomplete(report: RestoreReport, shapes: Mapping[str, Shape], reader: Reader | InMemory) -> UserError:
    """The error for a checkpoint that must hold the whole model and does not."""
    found, model = describe_shapes(reader.shapes, step_of(reader)), describe_shapes(shapes)
    faults = [f"{name} is missing" for name in report.missing]
    faults += [f"{name} is {_x(there)}, the model's {_x(here)}" for name, here, there in report.differing]
    shown = "; ".join(faults[:4]) + (f"; and {len(faults) - 4} more" if len(faults) > 4 else "")
    return UserError(
        "unclassified",
        f"does not hold the whole model: {shown}. It looks like {found.sentence()}; the model is {model.sentence()}",
        _flags_hint(found, model),
        where=report.checkpoint,
    )


def _flags_hint(found: Description, model: Description) -> str:
    """Which flags would make the model fit the checkpoint."""
    if found.model_variant is None:
        return "give a checkpoint of a network that `model_variant` knows"
    flags = found.flags(unlike=model)
    hint = f"flags that fit it: {' '.join(flags)}" if flags else ""
    if any(flag.startswith("`atrous_rates=`") for flag in flags) and found.settings["atrous_rates"]:
        hint += " (a checkpoint shows how many atrous rates there were, not which: these are those of stride 16)"
    if found.num_classes and model.num_classes and found.num_classes != model.num_classes:
        classes = f"it has {found.num_classes} classes: take the dataset it was trained on, or `num_classes`"
        hint = "; ".join(filter(None, [hint, f"{classes}={found.num_classes}"]))
    if not hint and found.num_classes is None:
        return "it has no segmentation head: train from it first (`tf_initial_checkpoint`)"
    return hint or "give the flags it was trained with"


# ---- words -------------------------------------------------------------------------------------------


def _both_shapes(entries: Sequence[tuple[str, Shape, Shape]]) -> tuple[list[str], list[str]]:
    """Names, and lines that say both shapes."""
    lines = [f"{name}: model {_x(model)}, checkpoint {_x(there)}" for name, model, there in entries]
    return [name for name, _, _ in entries], lines


def _x(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _counts(names: Any) -> tuple[int, int]:
    bookkeeping = sum(map(is_bookkeeping, names))
    return len(names) - bookkeeping, bookkeeping


def _listing(kind: str, texts: Sequence[str], lines: int) -> list[str]:
    """The first names of a kind; of the rest, how many lie in which outermost scope."""
    rest = Counter(text.split("/")[0] for text in texts[lines:])
    more = ", ".join(f"{scope} {count}" for scope, count in rest.items())
    listing = [f"{kind}:", *(f"  {text}" for text in texts[:lines])] if texts else []
    return [*listing, f"  and more: {more}"] if more else listing
