"""Networks for semantic segmentation: heads and decoders on the backbones of `slim`."""

from deeplab.model.deeplab import MERGED_LOGITS, build_model, logits_stride

__all__ = ["MERGED_LOGITS", "build_model", "logits_stride"]
