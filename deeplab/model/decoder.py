"""The decoder of DeepLab v3+: sharper borders from low-level features (Chen et al. 2018, arXiv:1802.02611)."""

from __future__ import annotations

import keras

from deeplab.config.model_config import ModelConfig
from deeplab.model.aspp import XAVIER, separable_unit
from deeplab.model.head_layers import ResizeToStride, concatenated
from deeplab.utils.errors import UserError
from slim.layers import Norm, ResizeLike, conv_unit, rounded

PROJECTION_FILTERS = 48  # of the low-level features, section 4.1 and table 1 of the paper


def decoder(features, low_level: dict[int, keras.KerasTensor], image, config: ModelConfig, norm: Norm):
    """Merges low-level features into those of the head, stage by stage.

    Args:
      features: [B, h, w, C] of ASPP or the dense prediction cell.
      low_level: output stride -> [B, H/stride, W/stride, C'] of the backbone.
      image: [B, H, W, C]; only its size is used.
      config: strides, filters and type of convolution.
      norm: batch norm of the decoder.

    Returns:
      [B, (H-1)//s+1, (W-1)//s+1, decoder_filters] with s the last of `decoder_output_stride`.

    Raises:
      UserError: the backbone has no low-level features of a wanted stride.
    """
    for index, stride in enumerate(config.decoder_output_stride):
        if stride not in low_level:
            strides = ", ".join(map(str, sorted(low_level))) or "none"
            rule = f"{config.model_variant} has no low-level features of stride {stride}; it has: {strides}"
            raise UserError("unsupported-by-backbone", rule, field="decoder_output_stride", value=stride)
        suffix = f"_{index}" if index else ""
        features = _stage(features, low_level[stride], image, stride, suffix, config, norm)
    return features


def _stage(features, low_level, image, stride: int, suffix: str, config: ModelConfig, norm: Norm):
    of_features = "relu6" if config.use_bounded_activation else "relu"
    activation = None if config.decoder_output_is_logits else of_features
    projected_filters = config.decoder_filters if config.decoder_use_sum_merge else PROJECTION_FILTERS
    projected = conv_unit(
        low_level,
        f"decoder/feature_projection0{suffix}",
        projected_filters,
        norm=norm,
        activation=activation,
        initializer=XAVIER(),
        biased=config.decoder_output_is_logits,
    )
    if config.align_corners:
        features = ResizeToStride(stride, name=f"decoder_resize{suffix}")(features, image)
        projected = ResizeToStride(stride, name=f"decoder_resize_low_level{suffix}")(projected, image)
    else:
        features = ResizeLike(False, name=f"decoder_resize{suffix}")(features, projected)
    if config.decoder_use_sum_merge:
        of_convolution, of_sum = _range_names(stride, suffix, config)
        net = _sum_convolution(features, suffix, config, norm, activation, of_convolution) + projected
        return rounded(net, f"decoder/{of_sum}", norm)
    merged = concatenated([features, projected], f"decoder_concatenation{suffix}", norm)
    return _refine(merged, suffix, config, norm, activation)


def _range_names(stride: int, suffix: str, config: ModelConfig) -> tuple[str, str]:
    """The ranges of fake quantization of a convolution and of its sum, as TensorFlow's contrib.quantize names them."""
    if not config.decoder_output_is_logits:
        return "act_quant", f"post_activation_bypass_quant{suffix}"
    if stride == config.decoder_output_stride[-1]:
        return "conv_quant", "act_quant"
    return "act_quant", f"add{suffix}/activation_AddV2_quant"


def _sum_convolution(features, suffix, config: ModelConfig, norm, activation, range_name: str):
    if config.decoder_use_separable_conv and not config.decoder_output_is_logits:
        name = f"decoder/decoder_split_sep_conv0{suffix}"
        return separable_unit(features, name, config.decoder_filters, 1, norm, activation)
    kernel_size = 1 if config.decoder_output_is_logits else 3
    return conv_unit(
        features,
        f"decoder/decoder_conv0{suffix}",
        config.decoder_filters,
        kernel_size,
        norm=norm,
        activation=activation,
        initializer=XAVIER(),
        biased=config.decoder_output_is_logits,
        range_name=range_name,
    )


def _refine(net, suffix, config: ModelConfig, norm, activation):
    """Convolutions over the concatenated features."""
    separable = config.decoder_use_separable_conv and not config.decoder_output_is_logits
    for index in range(config.decoder_convolutions):
        if separable:
            name = f"decoder/decoder_conv{index}{suffix}"
            net = separable_unit(net, name, config.decoder_filters, 1, norm, activation)
        else:  # the reference's repeat() names its convolutions scope/scope_1, scope/scope_2
            scope = f"decoder_conv0{suffix}"
            net = conv_unit(
                net,
                f"decoder/{scope}/{scope}_{index + 1}",
                config.decoder_filters,
                3,
                norm=norm,
                activation=activation,
                initializer=XAVIER(),
                biased=config.decoder_output_is_logits,
            )
    return net
