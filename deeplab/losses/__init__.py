"""What training minimizes: losses by name, and weighted sums of them.

    loss = deeplab.losses.get("cross_entropy + 0.5*dice", ignore_label=255)
    model.compile(optimizer="adam", loss=loss)

A loss is one file that registers one function, of float32 logits [B, H, W, C] at the labels' size, int32 labels
[B, H, W] (0..C-1, or `IGNORED`) and float32 weights [B, H, W] (the class's weight; 0 where a pixel is ignored) to a
float32 scalar. Its keyword arguments are options that users may set: `focal(gamma=3)`. A loss of single pixels returns
[B, H, W] instead and is registered by `pixelwise.pixel_loss`; reduction and hard-pixel mining are added to it.
Importing this package imports no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deeplab.utils.registry import Registry

if TYPE_CHECKING:
    from deeplab.losses.segmentation_loss import SegmentationLoss

Loss = Callable[..., Any]  # (logits, labels, weights, **options) -> scalar
IGNORED = -1  # the label of ignored pixels, whatever the dataset's ignore label is

registry: Registry[Loss] = Registry("loss", field="loss")
_MODULES = {
    "cross_entropy": ("cross_entropy",),
    "focal": ("focal",),
    "label_smoothing": ("label_smoothing",),
    "bootstrapped_cross_entropy": ("bootstrapped_cross_entropy",),
    "boundary_cross_entropy": ("boundary_cross_entropy",),
    "regions": ("dice", "jaccard", "tversky", "focal_tversky"),
    "lovasz": ("lovasz",),
}
for _module, _names in _MODULES.items():
    for _name in _names:
        registry.register_lazily(_name, f"deeplab.losses.{_module}")

register = registry.register
names = registry.names


def get(loss: str = "cross_entropy", **settings: Any) -> SegmentationLoss:
    """A loss, or a sum of losses, ready for `keras.Model.compile` and for this project's training step.

    Args:
      loss: a registered name, or a sum such as "cross_entropy + 0.5*focal(gamma=2)".
      settings: ignore label, class weights and so on; see `SegmentationLoss`.

    Raises:
      UserError: no loss has that name or option, or the text is no such sum.
    """
    from deeplab.losses.segmentation_loss import SegmentationLoss

    return SegmentationLoss(loss, **settings)
