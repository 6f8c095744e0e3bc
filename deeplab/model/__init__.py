"""Networks for semantic segmentation: heads and decoders on the backbones of `slim`."""

from deeplab.model.network import MERGED_LOGITS, build_model, logits_stride

__all__ = ["MERGED_LOGITS", "build_model", "logits_stride"]
