"""A second classifier on an earlier map of the backbone, used only in training: deep supervision.

Its loss has a shorter path to the lower layers (Zhao et al. 2017, arXiv:1612.01105, section 3.3). `build_model` adds it
on request. Evaluation and export build the model without it and ignore its variables (`auxiliary/...`) in checkpoints.
"""

from __future__ import annotations

import keras

import slim
from deeplab.config.model_config import ModelConfig
from deeplab.utils.errors import UserError
from slim.layers import TRUNCATED_NORMAL, Convolution, Norm, conv_unit

AUXILIARY_LOGITS = "auxiliary_logits"
FILTERS = 256
KEEP_PROBABILITY = 0.9


def auxiliary_head(features: slim.Features, config: ModelConfig, num_classes: int, norm: Norm):
    """3x3 convolution, batch norm, ReLU, dropout, 1x1 convolution, as in PSPNet and mmsegmentation.

    Args:
      features: of the backbone. The head uses the map of the largest stride among `low_level`: stride 16 in a ResNet,
        where it is the output of the last but one stage.
      config: of the model.
      num_classes: number of classes.
      norm: batch norm of the head.

    Returns:
      Logits [B, h, w, num_classes] of that map's size.

    Raises:
      UserError: the backbone has no such map, or the model runs at several scales.
    """
    if not features.low_level or config.has_image_pyramid:
        what = "an image pyramid" if features.low_level else f"the backbone {config.model_variant}"
        rule = f"{what} has no place for an auxiliary head"
        hint = "leave `auxiliary_loss_weight` at 0"
        raise UserError("conflicting-settings", rule, hint, field="auxiliary_loss_weight")
    net = features.low_level[max(features.low_level)]
    net = conv_unit(net, "auxiliary/conv", FILTERS, 3, norm=norm, initializer=keras.initializers.GlorotUniform())
    net = keras.layers.Dropout(1.0 - KEEP_PROBABILITY, name="auxiliary_dropout")(net)
    initializer = TRUNCATED_NORMAL(stddev=0.01)
    return Convolution(num_classes, 1, use_bias=True, initializer=initializer, name="auxiliary.logits")(net)
