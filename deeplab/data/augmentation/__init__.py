"""Augmentations of training images: one file per operation, registered by name.

An operation is a callable `(image, label, seed) -> (image, label)` that draws all randomness from the stateless seed,
so that a training can be repeated and resumed exactly. It works eagerly, in `tf.function` and inside tf.data.

Adding one is one file:

    @AUGMENTATIONS.register("gray")
    @dataclass(frozen=True)
    class Gray:
        probability: float = 0.1
        geometric: ClassVar[bool] = False

        def __call__(self, image, label, seed):
            gray = tf.tile(tf.reduce_mean(image, -1, keepdims=True), [1, 1, 3])
            return tf.where(tf.random.stateless_uniform([], seed) < self.probability, gray, image), label

and a line in the battery of tests/deeplab/data/augmentation/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

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
          image: float32 [H, W, 3], RGB, 0..255.
          label: uint8 [H, W], class indices and the ignore label.
          seed: int64 [2]; the same seed gives the same result, bit for bit.

        Returns:
          Image and label of the same types; of one size, and that of the input unless the operation is a crop.
        """


AUGMENTATIONS: Registry[Callable[..., Augmentation]] = Registry("augmentation")
"""Constructors of operations by name; their arguments are keywords."""

AUGMENTATIONS.register_lazily("scale_crop_flip", "deeplab.data.augmentation.scale_crop_flip")


def in_order(augmentations: Iterable[Augmentation]) -> list[Augmentation]:
    """Operations in the order in which they are applied: those that move pixels first, otherwise as given."""
    return sorted(augmentations, key=lambda augmentation: not augmentation.geometric)
