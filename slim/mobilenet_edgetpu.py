"""MobileNet-EdgeTPU: MobileNetV3 blocks whose early ones use one full convolution, which an Edge TPU runs faster
than an expansion and a depthwise convolution (Gupta and Akin 2020, arXiv:2003.02838).

It has no low-level features for a decoder, as in the reference.
"""

from __future__ import annotations

from slim.backbones import Backbone, Features, Options, register
from slim.mobilenet_v3 import BATCH_NORM_DECAY, InvertedResidual, build_blocks

SCOPE = "MobilenetEdgeTPU"
STEM_CHANNELS, LAST_CHANNELS = 32, 1280

# Expanded channels, output channels, stride, blocks like this one.
FUSED_STAGES = ((32, 16, 1, 1), (128, 32, 2, 1), (128, 32, 1, 3), (256, 48, 2, 1), (192, 48, 1, 3))
# Kernel, expanded channels, output channels, stride, residual, blocks like this one.
DEPTHWISE_STAGES = (
    (3, 384, 96, 2, True, 1),
    (3, 384, 96, 1, True, 3),
    (3, 768, 96, 1, False, 1),
    (3, 384, 96, 1, True, 3),
    (5, 768, 160, 2, True, 1),
    (5, 640, 160, 1, True, 3),
    (3, 1280, 192, 1, True, 1),
)
BLOCKS = (
    *(
        InvertedResidual(3, expanded, channels, False, "relu", stride, fused=True)
        for expanded, channels, stride, count in FUSED_STAGES
        for _ in range(count)
    ),
    *(
        InvertedResidual(kernel, expanded, channels, False, "relu", stride, residual=residual)
        for kernel, expanded, channels, stride, residual, count in DEPTHWISE_STAGES
        for _ in range(count)
    ),
)


def build(image, options: Options) -> Features:
    """MobileNet-EdgeTPU's features of an image [B, H, W, C] in -1..1."""
    return build_blocks(image, options, SCOPE, STEM_CHANNELS, "relu", BLOCKS, LAST_CHANNELS, decoder={})


register(Backbone("mobilenet_edgetpu", build, SCOPE, batch_norm_decay=BATCH_NORM_DECAY))
