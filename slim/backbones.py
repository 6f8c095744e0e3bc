"""The registry of backbones: a name, what it needs, and the function that builds it.

To add a backbone: write a file with a build function, import it in `slim/__init__.py`, and register it there.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from slim.layers import Norm
from slim.quantization import PER_TENSOR

RGB = tuple[float, float, float]
IMAGENET_MEAN: RGB = (123.15, 115.90, 103.06)
MID_GRAY: RGB = (127.5, 127.5, 127.5)


class OptionError(ValueError):
    """A backbone cannot be built with these options.

    Args:
      option: the field of `Options` that is wrong.
      rule: what must hold, with the value that was given.
      hint: what to choose instead.
    """

    def __init__(self, option: str, rule: str, hint: str = ""):
        self.option, self.rule, self.hint = option, rule, hint
        super().__init__(f"{option}: {rule}" + (f"; {hint}" if hint else ""))


@dataclass(frozen=True)
class Options:
    """How a backbone is built; each family reads the options that concern it.

    Attributes:
      output_stride: input size over feature size: 8, 16 or 32.
      train_batch_norm: whether the statistics of batch norm are updated in training.
      batch_norm_decay: of the moving averages; None = the family's own.
      batch_norm_epsilon: added to the variance; None = the family's own.
      symmetric_padding: strided layers pad as much before as after, for images of any size; otherwise as TensorFlow's
        "same" does, which differs for even sizes. Xception and ResNets always pad symmetrically.
      dilation: which layers are dilated in place of a stride, see `slim.layers.AtrousPlan`.
      fold_batch_norm: build without batch norm, with biases.
      sync_batch_norm: batch norm uses the statistics of the whole batch of all replicas.
      group_norm: group norm in place of batch norm; it cannot be folded.
      quantized: weights and activations are rounded to 8 bits; see `slim.quantization`.
      granularity: whether a kernel has one range (per_tensor) or one per output channel (per_channel).
      depth_multiplier, divisible_by: MobileNet channel counts.
      expansion_channels: expanded channels of MobileNetV2's blocks, from the second on; empty = six times the input.
      multi_grid: atrous rate multipliers of the last block's units.
      bounded_activation: ReLU6 and clipping instead of ReLU.
      nas_stem_filters: base filter count of NAS cells.
      nas_classification_head: NAS backbones end in their 2048-channel head.
      nas_remove_os32_stride: the last stride of NAS backbones becomes 1.
      drop_path_keep_probability: of a path in the last NAS cell, in training; earlier cells keep more.
      training_progress: gives the fraction of training done so far, a scalar 0..1, when a training step runs;
        dropping paths grows with it. None = all of it at once.
    """

    output_stride: int = 16
    train_batch_norm: bool = True
    batch_norm_decay: float | None = None
    batch_norm_epsilon: float | None = None
    symmetric_padding: bool = False
    dilation: str = "after"
    fold_batch_norm: bool = False
    sync_batch_norm: bool = False
    group_norm: bool = False
    quantized: bool = False
    granularity: str = PER_TENSOR
    depth_multiplier: float = 1.0
    divisible_by: int | None = None
    expansion_channels: tuple[int, ...] = ()
    multi_grid: tuple[int, ...] = ()
    bounded_activation: bool = False
    nas_stem_filters: int = 20
    nas_classification_head: bool = False
    nas_remove_os32_stride: bool = False
    drop_path_keep_probability: float = 1.0
    training_progress: Callable[[], Any] | None = None

    def norm(self, decay: float, epsilon: float) -> Norm:
        """Batch norm by these options and the family's own decay and epsilon."""
        own = decay if self.batch_norm_decay is None else self.batch_norm_decay
        epsilon = epsilon if self.batch_norm_epsilon is None else self.batch_norm_epsilon
        folded = self.fold_batch_norm and not self.group_norm
        return Norm(
            own,
            epsilon,
            self.train_batch_norm,
            folded,
            self.sync_batch_norm,
            self.group_norm,
            self.quantized,
            self.granularity,
        )

    @property
    def padding(self) -> str:
        """The padding of strided convolutions of families that pad as TensorFlow does."""
        return "fixed" if self.symmetric_padding else "same"


def multi_grid(options: Options, units: int) -> tuple[int, ...]:
    """The rate multipliers of a last block with this number of units; all 1 unless the options give some.

    Raises:
      OptionError: the options give another number of them.
    """
    if not options.multi_grid:
        return (1,) * units
    if len(options.multi_grid) != units:
        given = ",".join(map(str, options.multi_grid))
        example = ",".join(str(2**index) for index in range(units))
        raise OptionError(
            "multi_grid",
            f"this backbone's last block has {units} units, not {len(options.multi_grid)} ({given})",
            f"`multi_grid={example}`, for example",
        )
    return options.multi_grid


@dataclass
class Features:
    """The output of a backbone.

    Attributes:
      final: [B, H/s, W/s, C], s = output stride.
      low_level: for a decoder: output stride -> [B, H/stride, W/stride, C'].
      end_points: every named intermediate map, for inspection.
    """

    final: Any
    low_level: dict[int, Any] = field(default_factory=dict)
    end_points: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Backbone:
    """A registered backbone.

    Attributes:
      name: the `model_variant`.
      build: (image [B, H, W, C] normalized, options) -> Features.
      scope: first part of its variables' names.
      subtract_imagenet_mean: input is 0..255 minus the ImageNet mean; otherwise it is scaled to -1..1.
      batch_norm_decay: of its moving averages.
      own_normalization: input is 0..255, and the backbone normalizes it.
      own_padding_color: RGB, 0..255, if padding does not have the color that normalization turns into 0.
      dilations: the values of `Options.dilation` that it supports.
      quantizable: `Options.quantized` covers every operation for which integer arithmetic needs a range.
    """

    name: str
    build: Callable[[Any, Options], Features]
    scope: str
    subtract_imagenet_mean: bool = False
    batch_norm_decay: float = 0.9997
    own_normalization: bool = False
    own_padding_color: RGB | None = None
    dilations: tuple[str, ...] = ("after",)
    quantizable: bool = False

    @property
    def padding_color(self) -> RGB:
        """RGB, 0..255, with which images are padded."""
        return self.own_padding_color or (IMAGENET_MEAN if self.subtract_imagenet_mean else MID_GRAY)


_REGISTRY: dict[str, Backbone] = {}
_FAMILIES: dict[str, Callable[[str], Backbone]] = {}


def register(backbone: Backbone) -> None:
    """Adds a backbone; each name can be registered once."""
    if backbone.name in _REGISTRY:
        raise ValueError(f"backbone {backbone.name!r} is registered twice")
    _REGISTRY[backbone.name] = backbone


def register_family(prefix: str, find_in_family: Callable[[str], Backbone]) -> None:
    """Adds a family with too many backbones to list: all names that begin with a prefix, found by a function.

    The function raises KeyError for an unknown name; the text suggests the nearest.
    """
    _FAMILIES[prefix] = find_in_family


def names() -> list[str]:
    """All registered names, sorted."""
    return sorted(_REGISTRY)


def find(name: str) -> Backbone:
    """The backbone of that name.

    Raises:
      KeyError: no such backbone; the text suggests the nearest.
    """
    for prefix, find_in_family in _FAMILIES.items():
        if name.startswith(prefix):
            return find_in_family(name)
    if name not in _REGISTRY:
        near = difflib.get_close_matches(name, names(), n=1)
        known = [*names(), *(f"{prefix}NAME" for prefix in _FAMILIES)]
        hint = f"did you mean {near[0]!r}?" if near else "choose from " + ", ".join(known)
        raise KeyError(f"there is no backbone called {name!r}; {hint}")
    return _REGISTRY[name]


def build(name: str, image, options: Options) -> Features:
    """Builds a backbone by name on a normalized image [B, H, W, C]."""
    return find(name).build(image, options)
