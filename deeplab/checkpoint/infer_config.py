"""Infers the model config from the names and shapes of the variables in a checkpoint.

`describe` tells backbone, head and number of classes. `model_settings` turns that into the `ModelConfig` fields that
build a checkpoint without `config.yml`, and asks for what the variables do not show. The backbone's part is in
`infer_backbone.py`; the head's is here. Called by restoring, `inspect_checkpoint` and the checkpoint runtime; reads no
values of variables.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deeplab.checkpoint import AnyCheckpoint, infer_backbone
from deeplab.checkpoint import open as open_checkpoint
from deeplab.checkpoint.infer_backbone import Shapes, input_channels, output_channels
from deeplab.checkpoint.names import HEAD_SCOPES, in_scopes, is_bookkeeping
from deeplab.config.model_config import ModelConfig
from deeplab.utils import console
from deeplab.utils.errors import UserError

USUAL_RATES, USUAL_STRIDE = (6, 12, 18, 24), 16  # the DeepLab papers' rates, and the output stride they belong to
SUBPIXEL = "logits/subpixel"  # the layer of sub-pixel logits
PUBLISHED_CELL = "dense_prediction_cell_branch5_top1_cityscapes.json"

# Channels of the low-level features at stride 8, where the published MobileNetV3 models have their decoder.
_STRIDE_8_CHANNELS = {
    "mobilenet_v3_large_seg": 120,
    "mobilenet_v3_small_seg": 88,
    "mobilenet_v3_large": 120,
    "mobilenet_v3_small": 88,
}
_DECODER_LOGITS = (  # of a decoder whose output is the logits, by a sum or a concatenation; others have no biases
    "decoder/decoder_conv0/biases",
    "decoder/decoder_conv0/decoder_conv0_1/biases",
)
_USUAL = {
    "depth_multiplier": 1.0,
    "divisible_by": None,
    "expansion_channels": (),
    "input_channels": 3,
    "atrous_rates": (),
    "add_image_level_feature": True,
    "aspp_with_batch_norm": True,
    "aspp_with_separable_conv": True,
    "aspp_with_concat_projection": True,
    "aspp_with_final_conv": False,
    "aspp_with_squeeze_and_excitation": False,
    "aspp_convs_filters": 256,
    "decoder_output_stride": (),
    "decoder_use_separable_conv": True,
    "decoder_use_sum_merge": False,
    "decoder_filters": 256,
    "decoder_convolutions": 2,
    "decoder_output_is_logits": False,
    "logits_kernel_size": 1,
    "logits_upsampling": "bilinear",
    "subpixel_factor": 4,
    "nas_stem_output_num_conv_filters": 20,
    "nas_use_classification_head": False,
    "dense_prediction_cell_json": "",
    "normalization": "batch",
    "quantize_delay_step": -1,
}


@dataclass(frozen=True)
class Description:
    """A checkpoint's model.

    Attributes:
      model_variant: the backbone's name, None for an unknown backbone.
      settings: fields of `ModelConfig` that the names and shapes show, the usual values included. Of atrous rates a
        checkpoint shows only the number: 6,12,18 and so on stand for them.
      num_classes: classes of the segmentation logits, None without a head.
      image_classes: classes of an image classifier's logits, None for a segmentation model.
      step: global step.
      scopes: the outermost scopes, the largest first.
    """

    model_variant: str | None
    settings: dict[str, Any] = field(default_factory=dict)
    num_classes: int | None = None
    image_classes: int | None = None
    step: int = 0
    scopes: tuple[str, ...] = ()

    def setting_texts(self, unlike: Description | None = None) -> list[str]:
        """The settings that fit as "`name=value`": all that are not the default, or that differ from `unlike`."""
        other = {**_USUAL, **unlike.settings} if unlike else _USUAL
        changed = {name: value for name, value in self.settings.items() if value != other[name]}
        if self.model_variant and not (unlike and unlike.model_variant == self.model_variant):
            changed = {"model_variant": self.model_variant, **changed}
        return [f"`{name}={_value_text(value)}`" for name, value in changed.items()]

    def sentence(self) -> str:
        """`mobilenet_v2, depth multiplier 0.5, image pooling, 21 classes`."""
        return ", ".join(_words(self))


def describe(checkpoint: AnyCheckpoint) -> Description:
    """Tell backbone, head and class count of a checkpoint.

    Raises:
      UserError: there is no such checkpoint, or it is damaged.
    """
    opened = open_checkpoint(checkpoint)
    return describe_shapes(opened.shapes, opened.step)


def describe_shapes(shapes: Shapes, step: int = 0) -> Description:
    """Tell the same from variable names (without `:0`) and shapes."""
    weights = {name: tuple(shape) for name, shape in shapes.items() if not is_bookkeeping(name)}
    scopes = tuple(scope for scope, _ in Counter(name.split("/")[0] for name in weights).most_common())
    scope = infer_backbone.scope_of(scopes, weights)
    variant = infer_backbone.variant_of(scope, weights)
    settings = infer_backbone.settings_of(scope, variant, weights)
    if any(in_scopes(name, HEAD_SCOPES) for name in weights):
        settings |= {**_aspp(weights), **_decoder(weights, scope, variant), **_subpixel(weights)}
    if any(name.endswith("/GroupNorm/gamma") for name in weights):
        settings["normalization"] = "group"
    if any("/act_quant/" in name or "/weights_quant/" in name for name in weights):
        settings["quantize_delay_step"] = 0
    return Description(variant, settings, _classes(weights), infer_backbone.image_classes(scope, weights), step, scopes)


def _aspp(shapes: Shapes) -> dict[str, Any]:
    if any(name.startswith("meta_architecture/") for name in shapes):
        summed = _summed_logits(shapes)
        has_one_layer = not summed["atrous_rates"]
        return {"dense_prediction_cell_json": "CELL.json", **({} if has_one_layer else summed)}
    if "aspp0/weights" not in shapes:
        return _summed_logits(shapes)
    branches = sum(bool(re.fullmatch(r"aspp[1-9]\d*(_pointwise)?/weights", name)) for name in shapes)
    return {
        "atrous_rates": _usual_rates(branches),
        "add_image_level_feature": "image_pooling/weights" in shapes,
        "aspp_with_batch_norm": True,
        "aspp_with_separable_conv": "aspp1/weights" not in shapes,
        "aspp_with_concat_projection": "concat_projection/weights" in shapes,
        "aspp_with_final_conv": "aspp_final_conv/weights" in shapes,
        "aspp_with_squeeze_and_excitation": "image_pooling/biases" in shapes,
        "aspp_convs_filters": output_channels(shapes, "aspp0/weights", 256),
    }


def _summed_logits(shapes: Shapes) -> dict[str, Any]:
    """Settings of logits without ASPP: the sum of one convolution per rate; a kernel beyond 1x1 needs a rate, too."""
    count = sum(bool(re.fullmatch(r"logits/semantic(_\d+)?/weights", name)) for name in shapes)
    kernel = shapes.get("logits/semantic/weights", (1,))[0]
    rates = _usual_rates(count) if count > 1 or kernel > 1 else ()
    return {"aspp_with_batch_norm": False, "atrous_rates": rates, "logits_kernel_size": kernel}


def _usual_rates(count: int) -> tuple[int, ...]:
    return tuple(6 * (n + 1) for n in range(count))


def _decoder(shapes: Shapes, scope: str | None, variant: str | None) -> dict[str, Any]:
    projections = [n for n in shapes if re.fullmatch(r"decoder/feature_projection\d+(_\d+)?/weights", n)]
    if not projections:
        return {"decoder_output_stride": ()}
    by_stage = sorted(projections, key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)])
    taken = [input_channels(shapes, name) for name in by_stage]
    strides = _decoder_strides(taken, infer_backbone.low_level_channels(shapes, scope, str(variant)), str(variant))
    is_logits = any(name in shapes for name in _DECODER_LOGITS)
    split = "decoder/decoder_split_sep_conv0_pointwise/weights"
    plain = ["decoder/decoder_conv0/weights", "decoder/decoder_conv0/decoder_conv0_1/weights"]
    widths = [output_channels(shapes, n, 0) for n in ("decoder/decoder_conv0_pointwise/weights", split, *plain)]
    is_sum = split in shapes or plain[0] in shapes
    second = ("decoder/decoder_conv1_pointwise/weights", "decoder/decoder_conv0/decoder_conv0_2/weights")
    return {
        "decoder_output_stride": strides,
        "decoder_convolutions": 2 if is_sum or any(name in shapes for name in second) else 1,
        "decoder_use_separable_conv": is_logits or not any(name in shapes for name in plain),
        "decoder_use_sum_merge": is_sum,
        "decoder_filters": next(filter(None, widths), 256),
        "decoder_output_is_logits": is_logits,
    }


def _decoder_strides(taken: list[int], channels: Mapping[int, int], variant: str) -> tuple[int, ...]:
    """Strides of a decoder's stages from the channels that each takes; the finest where several fit.

    Args:
      taken: channels of the low-level features that each stage takes, the first stage first.
      channels: output stride -> channels of the backbone's low-level features, as far as they are known.
      variant: the backbone, whose published decoder counts where they are not known.
    """
    for strides in itertools.combinations(sorted(channels), len(taken)):
        if [channels[stride] for stride in reversed(strides)] == taken:
            return strides[::-1]
    if len(taken) == 1:
        return (8,) if taken[0] == _STRIDE_8_CHANNELS.get(variant) else (4,)
    return (8, 4) if len(taken) == 2 else (16, 8, 4)


def _subpixel(shapes: Shapes) -> dict[str, Any]:
    """How logits are upsampled; the kernel has the channels of all sub-pixels, the biases those of one."""
    if f"{SUBPIXEL}/weights" not in shapes or f"{SUBPIXEL}/biases" not in shapes:
        return {}
    kernel, biases = shapes[f"{SUBPIXEL}/weights"], shapes[f"{SUBPIXEL}/biases"]
    factor = math.isqrt(kernel[-1] // max(1, biases[-1]))
    return {"logits_upsampling": "subpixel", "subpixel_factor": factor}


def _classes(shapes: Shapes) -> int | None:
    for name in ("logits/semantic/weights", f"{SUBPIXEL}/biases", *_DECODER_LOGITS):
        if name in shapes:
            return shapes[name][-1]
    return None


# ---- a checkpoint without config.yml -----------------------------------------------------------------


def model_settings(found: Description, where: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `ModelConfig` that build a checkpoint without a `config.yml`, except those in `given`.

    Args:
      found: the description of the checkpoint.
      where: its prefix, for messages.
      given: settings by name that the user has set.

    Raises:
      UserError: a setting that changes the predictions leaves no trace in the variables: atrous rates, the dense
        prediction cell; the hint gives the usual values.
    """
    shown = {"model_variant": found.model_variant, **found.settings}
    shown = {name: value for name, value in shown.items() if value is not None and name not in given}
    if shown.pop("dense_prediction_cell_json", ""):
        rule = "has a dense prediction cell, but does not say which"
        hint = f"`dense_prediction_cell_json={PUBLISHED_CELL}` is the published one"
        raise UserError("missing-setting", rule, hint, field="dense_prediction_cell_json", where=where)
    if shown.get("atrous_rates"):
        raise _rates_needed(len(shown["atrous_rates"]), where, given.get("output_stride"))
    if shown:
        console.note(f"{where} has no config.yml beside it; its variables show {found.sentence()}")
    assumed = _without_trace(found, given)
    if assumed:
        texts = " ".join(f"`{name}={value}`" for name, value in assumed.items())
        other = " (the research DeepLab exports with 8)" if "output_stride" in assumed else ""
        console.note(f"assuming {texts}, which a checkpoint does not show{other}; set it to use another value")
    return shown


def rates_at(rates: tuple[int, ...], trained_stride: int, stride: int) -> tuple[int, ...]:
    """Atrous rates with the same field of view at another output stride: 6, 12, 18 at 16 are 12, 24, 36 at 8."""
    return tuple(max(1, round(rate * trained_stride / stride)) for rate in rates)


def _rates_needed(count: int, where: str, stride: int | None) -> UserError:
    """The error for missing atrous rates, with the likely ones."""
    usual = tuple(USUAL_RATES[index] if index < len(USUAL_RATES) else 6 * (index + 1) for index in range(count))

    def setting(at: int) -> str:
        return f"`atrous_rates={_value_text(rates_at(usual, USUAL_STRIDE, at))}`"

    hint = f"add {setting(16)} `output_stride=16`, the usual ones (or {setting(8)} `output_stride=8`: finer, slower)"
    if stride:
        hint = f"add {setting(stride)}, the usual rates at `output_stride={stride}`"
    rule = f"has {count} atrous branch{'es' * (count > 1)}, whose rates a checkpoint does not show"
    return UserError("missing-setting", rule, hint, field="atrous_rates", where=where, value=count)


def _without_trace(found: Description, given: Mapping[str, Any]) -> dict[str, str]:
    """Settings that change this model's predictions and are invisible in a checkpoint, with their assumed values."""
    names = ["output_stride"]
    if found.settings.get("aspp_with_squeeze_and_excitation"):
        names += ["image_se_uses_qsigmoid", "image_pooling_crop_size", "image_pooling_stride"]
    if found.model_variant and found.model_variant.startswith("resnet") and found.num_classes:
        names.append("multi_grid")
    return {name: _default_text(getattr(ModelConfig(), name)) for name in names if name not in given}


def _default_text(value: Any) -> str:
    return "(unset)" if value is None else _value_text(value) or "(none)"


# ---- words -------------------------------------------------------------------------------------------


def _words(description: Description) -> list[str]:
    have = {**_USUAL, **description.settings}
    words = [description.model_variant or _foreign(description.scopes)]
    if have["depth_multiplier"] != 1:
        words.append(f"depth multiplier {have['depth_multiplier']:g}")
    if have["expansion_channels"]:
        words.append("pruned channels")
    if have["input_channels"] != 3:
        words.append(f"{have['input_channels']} input channels")
    if have["normalization"] == "group":
        words.append("group norm")
    if description.image_classes:
        words.append(f"an image classifier of {description.image_classes} classes")
    elif not {"atrous_rates", "dense_prediction_cell_json"} & set(description.settings):
        words.append("without a segmentation head")
    else:
        words += _head_words(have)
    if description.num_classes:
        words.append(f"{description.num_classes} classes")
    if have["quantize_delay_step"] >= 0:
        words.append("trained with fake quantization")
    return words


def _head_words(have: dict[str, Any]) -> list[str]:
    if have["dense_prediction_cell_json"]:
        words = ["dense prediction cell"]
    elif not have["aspp_with_batch_norm"]:
        words = ["no ASPP"]
    else:
        count = len(have["atrous_rates"])
        words = [f"ASPP with {count} atrous rate{'s' * (count > 1)}" if count else "no atrous ASPP branches"]
        words += ["image pooling" if have["add_image_level_feature"] else "no image pooling"]
    words += ["sub-pixel logits"] if have["logits_upsampling"] == "subpixel" else []
    return [*words, "decoder" if have["decoder_output_stride"] else "no decoder"]


def _foreign(scopes: tuple[str, ...]) -> str:
    """Words for a checkpoint of another kind."""
    if any(s in ("_CHECKPOINTABLE_OBJECT_GRAPH", "layer_with_weights-0", "model") for s in scopes):
        return "a TensorFlow 2 object checkpoint (Keras or tf.train.Checkpoint), whose names are not TensorFlow 1's"
    return f"an unknown model (scopes {', '.join(scopes[:4])})" if scopes else "no model at all"


def _value_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
