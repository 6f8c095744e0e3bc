"""Assembles a model: backbone, head, decoder, logits, and the image pyramid around them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
from keras import ops

import slim
from deeplab.config.model_config import ModelConfig
from deeplab.model.aspp import aspp
from deeplab.model.auxiliary_head import AUXILIARY_LOGITS, auxiliary_head
from deeplab.model.decoder import decoder
from deeplab.model.dense_prediction_cell import dense_prediction_cell
from deeplab.model.head_layers import (
    NormalizeInput,
    Rescale,
    ResizeToStride,
    ScalableModel,
    Standardize,
    SubpixelLogits,
)
from deeplab.utils.errors import UserError
from slim.layers import TRUNCATED_NORMAL, Convolution, Norm, QuantizedConvolution, dotted, rounded

HEAD_DECAY = 0.9997
HEAD_EPSILON = 1.001e-5  # the reference asks for 1e-5, and TensorFlow's fused kernel raises it to this
MERGED_LOGITS = "merged_logits"

# Options of backbones -> fields of the config, where their names differ.
_FIELDS = {
    "group_norm": "normalization",
    "bounded_activation": "use_bounded_activation",
    "nas_classification_head": "nas_use_classification_head",
    "nas_stem_filters": "nas_stem_output_num_conv_filters",
}


def build_model(
    config: ModelConfig,
    num_classes: int,
    *,
    train_batch_norm: bool = True,
    sync_batch_norm: bool = False,
    fold_batch_norm: bool = False,
    drop_path_keep_probability: float = 1.0,
    training_progress: Callable[[], Any] | None = None,
    with_auxiliary_head: bool = False,
) -> keras.Model:
    """The model that `config` describes.

    Args:
      config: architecture.
      num_classes: number of classes, background included, the ignore label not.
      train_batch_norm: whether the statistics of batch norm are updated when the model is called with `training=True`.
      sync_batch_norm: with several replicas, compute batch-norm statistics over the batches of all of them.
      fold_batch_norm: build without batch norm, with biases in its place (for export).
      drop_path_keep_probability, training_progress: of NAS backbones, see `slim.Options`.
      with_auxiliary_head: add the output `auxiliary_logits`, which only training uses.

    Returns:
      A model from float32 images [B, H, W, C], RGB, 0..255, any H and W, to a dict of logits
      [B, h, w, num_classes]: `merged_logits`, and with several scales `logits_0.50` and so on for each scale.
      h = (H-1)//s+1, s being `logits_stride`: usually the decoder's last stride, or the output stride. Weights carry
      TensorFlow-1 names, see `slim.layers.variables_by_name`. `model.save` and `keras.models.load_model` work.

    Raises:
      UserError: unknown backbone, or a config that contradicts itself.
    """
    _check(config, num_classes)
    image = keras.Input((None, None, config.input_channels), name="image")
    options = dataclasses.replace(
        _backbone_options(config),
        train_batch_norm=train_batch_norm,
        fold_batch_norm=fold_batch_norm,
        sync_batch_norm=sync_batch_norm,
        drop_path_keep_probability=drop_path_keep_probability,
        training_progress=training_progress,
    )
    features = _backbone(image, config, options)
    logits = _single_scale(image, features, config, num_classes, options)
    if with_auxiliary_head:
        norm = options.norm(HEAD_DECAY, HEAD_EPSILON)
        auxiliary = _float32(auxiliary_head(features, config, num_classes, norm))
        return keras.Model(image, {MERGED_LOGITS: logits, AUXILIARY_LOGITS: auxiliary}, name="deeplab")
    if config.has_image_pyramid:
        of_windows = config.pooling_window is not None and set(config.image_pyramid) != {1.0}
        single_scale = (ScalableModel if of_windows else keras.Model)(image, logits, name="single_scale")
        return keras.Model(image, _pyramid(image, single_scale, config), name="deeplab")
    return keras.Model(image, {MERGED_LOGITS: logits}, name="deeplab")


def _backbone_options(config: ModelConfig) -> slim.Options:
    """The backbone options that a config sets."""
    return slim.Options(
        output_stride=config.output_stride,
        batch_norm_decay=config.batch_norm_decay,
        batch_norm_epsilon=config.batch_norm_epsilon,
        symmetric_padding=not config.align_corners,
        dilation=config.dilation,
        group_norm=config.normalization == "group",
        quantized=config.quantize_delay_step >= 0,
        granularity=config.quantize_weights,
        depth_multiplier=config.depth_multiplier,
        divisible_by=config.divisible_by,
        expansion_channels=config.expansion_channels,
        multi_grid=config.multi_grid,
        bounded_activation=config.use_bounded_activation,
        nas_stem_filters=config.nas_stem_output_num_conv_filters,
        nas_classification_head=config.nas_use_classification_head,
        nas_remove_os32_stride=config.nas_remove_os32_stride,
    )


def logits_stride(config: ModelConfig) -> int:
    """Image size over logits size, before an image pyramid."""
    return features_stride(config) // (config.subpixel_factor if config.logits_upsampling == "subpixel" else 1)


def features_stride(config: ModelConfig) -> int:
    """Image size over the size of the features from which logits are computed."""
    return config.decoder_output_stride[-1] if config.decoder_output_stride else config.output_stride


def padding_color(config: ModelConfig) -> tuple[float, ...]:
    """Return the color of pixels outside an image, one number per channel on the scale 0..255.

    It is `input_mean` where that is set, else the color of the backbone's registration. Channels after the third get
    the value that the normalization maps to 0.
    """
    if config.input_mean:
        return config.input_mean
    color = tuple(slim.find(config.model_variant).padding_color)
    return (*color, *_center(config)[3:])[: config.input_channels]


def _center(config: ModelConfig) -> tuple[float, ...]:
    """The pixel value that the backbone's normalization maps to 0, one number per channel."""
    more = config.input_channels
    if slim.find(config.model_variant).subtract_imagenet_mean:
        return (*slim.IMAGENET_MEAN, *([0.0] * more))[:more]
    return (slim.MID_GRAY[0],) * more


def _check(config: ModelConfig, num_classes: int) -> None:
    if num_classes < 2:
        rule = f"a segmentation has at least 2 classes, not {num_classes}"
        raise UserError("out-of-range", rule, "count the background", field="num_classes", value=num_classes)
    if config.decoder_output_is_logits and not config.decoder_output_stride:
        rule, hint = "needs a decoder", "add `decoder_output_stride=4`, for example, or leave it out"
        raise UserError("conflicting-settings", rule, hint, field="decoder_output_is_logits", value=True)
    if config.decoder_output_is_logits and config.decoder_filters != num_classes:
        rule = f"the decoder's output is the logits, so it needs {num_classes} filters, one per class"
        hint = f"`decoder_filters={num_classes}`"
        raise UserError("conflicting-settings", rule, hint, field="decoder_filters", value=config.decoder_filters)
    if config.expansion_channels and config.model_variant != "mobilenet_v2":
        rule = f"is for mobilenet_v2; {config.model_variant} has different blocks"
        raise UserError("unsupported-by-backbone", rule, "leave it out", field="expansion_channels")
    try:
        backbone = slim.find(config.model_variant)
    except KeyError as error:
        rule = str(error.args[0])
        raise UserError("unknown-name", rule, field="model_variant", value=config.model_variant) from None
    known = backbone.dilations
    if config.dilation not in known:
        rule = f"{config.model_variant} does not support {config.dilation!r}"
        hint = f"choose {' or '.join(known)}"
        raise UserError("unsupported-by-backbone", rule, hint, field="dilation", value=config.dilation)
    if config.quantize_delay_step >= 0:
        _require_quantizable(config, backbone)


def _require_quantizable(config: ModelConfig, backbone: slim.Backbone) -> None:
    """Refuse fake quantization where an operation would have no range, which an integer model needs."""
    if not backbone.quantizable:
        able = ", ".join(name for name in slim.names() if slim.find(name).quantizable)
        rule = f"is not available with fake quantization (`quantize_delay_step={config.quantize_delay_step}`)"
        hint = f"choose from {able}; other models can be quantized after training (format litert_int8)"
        raise UserError("not-supported", rule, hint, field="model_variant", value=config.model_variant)
    wanted = {
        "normalization": config.normalization == "batch",
        "logits_upsampling": config.logits_upsampling == "bilinear",
        "input_mean": not config.input_mean,
    }
    for field in (name for name, fits in wanted.items() if not fits):
        value = getattr(config, field)
        rule = f"is {value!r}, which fake quantization (`quantize_delay_step`) does not support"
        raise UserError("not-supported", rule, "leave it at its default", field=field, value=value)
    if len(config.image_pyramid) > 1:
        count = len(config.image_pyramid)
        rule = f"has {count} scales; with fake quantization (`quantize_delay_step`) each needs ranges of its own"
        hint = "give one scale, or leave it out"
        raise UserError("not-supported", rule, hint, field="image_pyramid", value=config.image_pyramid)


def _single_scale(image, features: slim.Features, config: ModelConfig, num_classes: int, options: slim.Options):
    """Image [B, H, W, C] in 0..255 and the backbone's features -> logits [B, h, w, num_classes]."""
    norm = options.norm(HEAD_DECAY, HEAD_EPSILON)
    net = _head(features.final, image, config, norm)
    if config.decoder_output_stride:
        net = decoder(net, features.low_level, image, config, norm)
        if config.decoder_output_is_logits:
            return _float32(net)
    return _float32(_logits(net, image, config, num_classes, norm))


def _backbone(image, config: ModelConfig, options: slim.Options) -> slim.Features:
    backbone = slim.find(config.model_variant)
    normalized = image
    if config.input_mean:
        normalized = Standardize(config.input_mean, config.input_std, _center(config), name="standardize")(image)
    if not backbone.own_normalization:
        normalized = NormalizeInput(backbone.subtract_imagenet_mean, name="normalize")(normalized)
    try:
        return backbone.build(normalized, options)
    except slim.OptionError as error:
        field = _FIELDS.get(error.option, error.option)
        raise UserError("unsupported-by-backbone", error.rule, error.hint, field=field) from None


def _head(features, image, config: ModelConfig, norm: Norm):
    if not config.aspp_with_batch_norm:
        return features
    if config.dense_prediction_cell_json:
        return dense_prediction_cell(features, image, config, norm)
    return aspp(features, config, norm)


def _logits(features, image, config: ModelConfig, num_classes: int, norm: Norm):
    """The classifier; without ASPP, the sum of one classifier per atrous rate."""
    if config.logits_upsampling == "subpixel":
        return SubpixelLogits(
            num_classes,
            config.logits_kernel_size,
            config.subpixel_factor,
            features_stride(config),
            initializer=TRUNCATED_NORMAL(stddev=0.01),
            name="logits.subpixel",
            dtype="float32",
        )(features, image)
    convolution: Callable[..., Convolution] = Convolution
    if norm.quantized and not norm.folded:
        convolution = partial(QuantizedConvolution, granularity=norm.granularity)
    rates = (1,) if config.aspp_with_batch_norm or not config.atrous_rates else config.atrous_rates
    results = []
    for index, rate in enumerate(rates):
        scope = "logits/semantic" + (f"_{index}" if index else "")
        logits = convolution(
            num_classes,
            config.logits_kernel_size,
            rate=rate,
            use_bias=True,
            initializer=TRUNCATED_NORMAL(stddev=0.01),
            name=dotted(scope),
            dtype="float32",  # also where the layers before it compute in half precision
        )(features)
        results.append(rounded(logits, f"{scope}/act_quant", norm))
    return ops.sum(ops.stack(results), axis=0) if len(results) > 1 else results[0]


def _float32(logits):
    return logits if logits.dtype == "float32" else ops.cast(logits, "float32")


def _pyramid(image, model: keras.Model, config: ModelConfig) -> dict:
    """The model at several scales with shared weights, merged by maximum or mean."""
    top = max(1.0, *config.image_pyramid)
    reference = image if top == 1.0 else Rescale(top, name="pyramid_largest")(image)
    outputs = {}
    for scale in config.image_pyramid:
        name = f"{scale:.2f}"
        scaled = image if scale == 1.0 else Rescale(scale, name=f"pyramid_{name}".replace(".", "_"))(image)
        layer_name = f"pyramid_logits_{name}".replace(".", "_")
        resize = ResizeToStride(logits_stride(config), config.align_corners, name=layer_name)
        logits = model(scaled, scale=scale) if isinstance(model, ScalableModel) else model(scaled)
        outputs[f"logits_{name}"] = resize(logits, reference)
    if len(config.image_pyramid) == 1:  # the research DeepLab gives, and trains, the one map once
        return {MERGED_LOGITS: next(iter(outputs.values()))}
    stacked = ops.stack(list(outputs.values()), axis=-1)
    merged = ops.max(stacked, axis=-1) if config.merge_method == "max" else ops.mean(stacked, axis=-1)
    return {MERGED_LOGITS: merged, **outputs}
