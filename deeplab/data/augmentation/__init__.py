"""Augmentations of training images: one file per operation, registered by name.

The names are those of the settings in `deeplab.config.augmentation_config`; `make` gives the operations of a config.
An operation is a callable `(image, label, seed) -> (image, label)` that draws all randomness from the stateless seed,
so that a training can be repeated and resumed exactly. It works eagerly, in `tf.function` and inside tf.data.

Those of this package compute with NumPy and OpenCV and are applied together: colors by one matrix, motions by one
sampling (`composition`). They subclass `operation.ImageOperation`, or `mixture.Mixture` if they mix the images of a
batch; `brightness` is a short example. Adding one is one file with a class, a field of its name in
`AugmentationConfig`, and a line in the battery of tests/deeplab/data/augmentation/test_augmentation.py. Any other
callable will do as well:

    @AUGMENTATIONS.register("gray")
    @dataclass(frozen=True)
    class Gray:
        probability: float = 0.1
        geometric: ClassVar[bool] = False

        def __call__(self, image, label, seed):
            gray = tf.tile(tf.reduce_mean(image, -1, keepdims=True), [1, 1, 3])
            return tf.where(tf.random.stateless_uniform([], seed) < self.probability, gray, image), label
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from deeplab.config.augmentation_config import OPERATIONS, AugmentationConfig
from deeplab.utils import console
from deeplab.utils.registry import Registry

Tensor = Any


class Augmentation(Protocol):
    """A random change of one training image and its label."""

    @property
    def geometric(self) -> bool:
        """Whether pixels move, in which case image and label move alike; else only the image's colors change."""

    def __call__(self, image: Tensor, label: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Change one image.

        Args:
          image: float32 [H, W, C], 0..255; RGB where C is 3 and `dataset.yml` describes no `image_bands`.
          label: uint8 or uint16 [H, W], class indices and the ignore label.
          seed: int64 [2]; the same seed gives the same result, bit for bit.

        Returns:
          Image and label of the same types; of one size, and that of the input unless the operation is a crop.
        """


AUGMENTATIONS: Registry[Callable[..., Augmentation]] = Registry("augmentation")
"""Constructors of operations by name; their arguments are keywords."""

MIXTURES: Registry[Callable[..., Any]] = Registry("mixture")
"""Constructors of operations on a batch, which mix its images: `deeplab.data.augmentation.mixture.Mixture`."""

_OF_BATCHES = ("mosaic", "cutmix", "class_mix", "copy_paste")
for _name in ("scale_crop_flip", *OPERATIONS):
    (MIXTURES if _name in _OF_BATCHES else AUGMENTATIONS).register_lazily(_name, f"deeplab.data.augmentation.{_name}")


def make(
    config: AugmentationConfig,
    padding_color: Sequence[float],
    ignore_label: int,
    rare_classes: Sequence[int] = (),
) -> list[Any]:
    """The operations that a config turns on, for `pipeline.train_batches`.

    Args:
      config: preset and single settings.
      padding_color: 0..255, one number per channel, of places without an image.
      ignore_label: label of such places.
      rare_classes: classes that `copy_paste` pastes.

    """
    common: dict[str, Any] = {"padding_color": tuple(padding_color), "ignore_label": ignore_label}
    operations: list[Any] = []
    for name, amount in config.amounts().items():
        if name in _OF_BATCHES:
            further = {"rare_classes": tuple(rare_classes)} if name == "copy_paste" else {}
            operations.append(MIXTURES.get(name)(amount, ignore_label=ignore_label, **further))
            continue
        operation: Any = AUGMENTATIONS.get(name)(amount, config.augmentation_probability, **common)
        if operation.rgb_only and len(padding_color) != 3:
            console.note(
                f"`{name}` is left out: it is for red, green and blue, and images have {len(padding_color)} channels"
            )
            continue
        operations.append(operation)
    return operations


def in_order(augmentations: Iterable[Augmentation]) -> list[Augmentation]:
    """Operations in the order in which they are applied: those that move pixels first, otherwise as given."""
    return sorted(augmentations, key=lambda augmentation: not augmentation.geometric)
