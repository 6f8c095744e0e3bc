"""Infers a backbone from the names and shapes of its variables: which one it is, how wide, and what its features are.

Called by `infer_config.py`, which adds the head. It never reads values, and expects the variables of the model alone,
without those of the training.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

# Scope of a backbone -> its `model_variant`; `variant_of` handles the rest.
_VARIANTS = {
    "MobilenetV2": "mobilenet_v2",
    "MobilenetV2Prepadded": "mobilenet_v2_prepadded",
    "MobilenetV2PrepaddedValid": "mobilenet_v2_prepadded_valid",
    "MobilenetV3": "mobilenet_v3_large_seg",
    "MobilenetEdgeTPU": "mobilenet_edgetpu",
    "pnasnet": "nas_pnasnet",
    "hnasnet": "nas_hnasnet",
}
_SAME_NAME = re.compile(r"xception_\d+(_preactivated)?|resnet_v[12]_(5_|caffe_)?\d+|drn_d_\d+")
_STEMS = ("Conv", "entry_flow/conv1_1", "conv0", "conv1", "conv1_1")
# Where the channels of low-level features show: for each output stride, the block whose kernel has them.
_V2_BLOCKS = {4: "expanded_conv_2", 8: "expanded_conv_5", 16: "expanded_conv_12"}
_V3_LARGE_BLOCKS = {4: "expanded_conv_2", 8: "expanded_conv_5", 16: "expanded_conv_11"}
_V3_SMALL_BLOCKS = {4: "expanded_conv", 8: "expanded_conv_2", 16: "expanded_conv_7"}
_RESNET_UNITS = {4: "block1/unit_1", 8: "block2/unit_1", 16: "block3/unit_1"}
_SHALLOW_UNITS = {4: "entry_flow/block2/unit_1", 8: "entry_flow/block3/unit_1", 16: "exit_flow/block1/unit_1"}
_DEEP_UNITS = {4: "entry_flow/block3/unit_1", 8: "entry_flow/block5/unit_1", 16: "exit_flow/block1/unit_1"}
_PREACTIVATED_UNITS = {4: "entry_flow/block1/unit_1", 8: "entry_flow/block2/unit_1"}
# Backbones (a regular expression), the kernel in each block, features per channel of the kernel, and the blocks.
_LOW_LEVEL = (
    ("mobilenet_v2", "depthwise/depthwise_weights", 1, _V2_BLOCKS),
    ("mobilenet_v2_.+", "project/weights", 1, _V2_BLOCKS),
    ("mobilenet_v3_large(_seg)?", "depthwise/depthwise_weights", 1, _V3_LARGE_BLOCKS),
    ("mobilenet_v3_large_same", "project/weights", 1, _V3_LARGE_BLOCKS),
    ("mobilenet_v3_small(_seg)?", "depthwise/depthwise_weights", 1, _V3_SMALL_BLOCKS),
    ("mobilenet_v3_small_same", "project/weights", 1, _V3_SMALL_BLOCKS),
    ("resnet_v1_18(_beta)?", "lite_bottleneck_v1/conv2/weights", 1, _RESNET_UNITS),
    ("resnet_v1_.+", "bottleneck_v1/conv3/weights", 1, _RESNET_UNITS),
    ("resnet_v2_.+", "bottleneck_v2/conv3/weights", 1, _RESNET_UNITS),
    ("xception_71", "xception_module/separable_conv2_pointwise/weights", 1, _DEEP_UNITS),
    (r"xception_\d+_preactivated", "xception_module/separable_conv3_pointwise/weights", 1, _PREACTIVATED_UNITS),
    ("xception_.+", "xception_module/separable_conv2_pointwise/weights", 1, _SHALLOW_UNITS),
    ("nas_pnasnet", "weights", 1, {4: "conv2"}),
    ("nas_pnasnet", "1x1/weights", 5, {8: "cell_3", 16: "cell_7"}),  # a cell concatenates five sums
    ("nas_hnasnet", "1x1/weights", 5, {4: "cell_2", 8: "cell_5", 16: "cell_7"}),
)
# Channels at full width of MobileNetV2's blocks; no other block has other channels.
_V2_CHANNELS = {"": 16, "_1": 24, "_3": 32, "_6": 64, "_10": 96, "_13": 160, "_16": 320}
_DIVISORS = (8, 4, 16, 2, 32, 1, *(each for each in range(3, 65) if each not in (4, 8, 16, 32)), 128)  # the usual first
# MobileNetV3 at full width: channels of the last 1x1 convolution.
_V3_LAST_CHANNELS = {
    "mobilenet_v3_large_seg": 480,
    "mobilenet_v3_small_seg": 288,
    "mobilenet_v3_large": 960,
    "mobilenet_v3_small": 576,
}
_V3_SAME_LAST = {"mobilenet_v3_large_same": (14, 160), "mobilenet_v3_small_same": (10, 96)}  # block, its channels
_NAS_FIRST_CELL = {"pnasnet": 2, "hnasnet": 1}  # its filters over `nas_stem_output_num_conv_filters`


def scope_of(scopes: Iterable[str], shapes: Shapes) -> str | None:
    """The first scope that is a backbone's; None if there is none."""
    if any("/Conv2d_1a_3x3/" in name for name in shapes):  # slim's Inception, in the scope of Keras' InceptionV3
        return None
    return next((s for s in scopes if s in _VARIANTS or _SAME_NAME.fullmatch(s) or _is_of_keras(s)), None)


def variant_of(scope: str | None, shapes: Shapes) -> str | None:
    """The `model_variant` of a backbone's scope; None without a scope."""
    if scope is None:
        return None
    if scope == "MobilenetV3":
        return _mobilenet_v3(shapes)
    if f"{scope}/conv1_3/weights" in shapes:
        return f"{scope}_beta"  # three 3x3 convolutions in place of ResNet's 7x7
    if scope == "MobilenetV2":
        block = output_channels(shapes, "MobilenetV2/expanded_conv_2/project/weights", 0)
        if block and block == input_channels(shapes, "decoder/feature_projection0/weights"):
            return "mobilenet_v2_same"  # the decoder takes a block's output, not its expanded channels
    return f"keras:{scope}" if _is_of_keras(scope) else _VARIANTS.get(scope, scope)


def _is_of_keras(scope: str) -> bool:
    """Whether a scope is that of a `keras:` backbone."""
    from slim.keras_applications import applications  # Keras is imported only if a scope may be one of its models

    return scope[:1].isupper() and scope in applications()


def _mobilenet_v3(shapes: Shapes) -> str:
    """Large or small by the number of blocks; `_seg` where the last stage has been halved, `_same` without `Conv_1`."""
    size, before = ("large", 11) if "MobilenetV3/expanded_conv_11/project/weights" in shapes else ("small", 7)
    has_all_blocks = f"MobilenetV3/expanded_conv_{14 if size == 'large' else 10}/project/weights" in shapes
    if has_all_blocks and "MobilenetV3/Conv_1/weights" not in shapes:
        return f"mobilenet_v3_{size}_same"
    last = input_channels(shapes, "MobilenetV3/Conv_1/weights")
    is_whole = last > output_channels(shapes, f"MobilenetV3/expanded_conv_{before}/project/weights", last)
    return f"mobilenet_v3_{size}" + ("" if is_whole else "_seg")


def settings_of(scope: str | None, variant: str | None, shapes: Shapes) -> dict[str, Any]:
    """The `ModelConfig` fields that a backbone's kernels show: input channels, widths, the cells of a NAS backbone."""
    stems = [shapes.get(f"{scope}/{stem}/weights", ()) for stem in _STEMS]
    stem = next((shape for shape in stems if len(shape) == 4), None)
    settings: dict[str, Any] = {"input_channels": stem[2]} if stem else {}
    if str(scope).startswith("MobilenetV2") and stem:
        settings |= _mobilenet_v2_width(shapes, stem[3])
    if scope == "MobilenetEdgeTPU":
        settings["depth_multiplier"] = output_channels(shapes, f"{scope}/Conv_1/weights", 1280) / 1280
    if variant in _V3_LAST_CHANNELS:
        whole = _V3_LAST_CHANNELS[variant]
        settings["depth_multiplier"] = round(output_channels(shapes, "MobilenetV3/Conv_1/weights", whole) / whole, 2)
    if variant in _V3_SAME_LAST:  # they end without `Conv_1`
        block, whole = _V3_SAME_LAST[variant]
        last = output_channels(shapes, f"MobilenetV3/expanded_conv_{block}/project/weights", whole)
        settings["depth_multiplier"] = round(last / whole, 2)
    if scope in _NAS_FIRST_CELL:
        first = output_channels(shapes, f"{scope}/cell_0/1x1/weights", 20 * _NAS_FIRST_CELL[scope])
        settings["nas_stem_output_num_conv_filters"] = first // _NAS_FIRST_CELL[scope]
        settings["nas_use_classification_head"] = f"{scope}/classification_head_conv/weights" in shapes
    return settings


def _mobilenet_v2_width(shapes: Shapes, stem: int) -> dict[str, Any]:
    """Depth multiplier from the widest layer, which rounding changes least, and how widths were rounded."""
    last = output_channels(shapes, "MobilenetV2/expanded_conv_16/project/weights", 0)
    multiplier = round(last / 320, 2) if last else stem / 32
    widths = {32: stem}
    for block, channels in _V2_CHANNELS.items():
        if width := output_channels(shapes, f"MobilenetV2/expanded_conv{block}/project/weights", 0):
            widths[channels] = width
    multiplier, divisor = _v2_rounding(widths, multiplier)
    settings: dict[str, Any] = {"depth_multiplier": multiplier, "divisible_by": divisor}
    kernels = [shapes.get(f"MobilenetV2/expanded_conv_{block}/expand/weights", ()) for block in range(1, 17)]
    if all(len(kernel) == 4 for kernel in kernels):
        settings["expansion_channels"] = _expansions([kernel[2:] for kernel in kernels])
    return settings


def _v2_rounding(widths: Mapping[int, int], likely: float) -> tuple[float, int | None]:
    """Depth multiplier and `divisible_by` (None for its default), from channels at full width -> channels.

    `likely` is the multiplier if rounding does not change the widest layer; a multiplier of two digits is preferred.
    """
    from slim.layers import make_divisible  # Keras is imported only for a MobileNetV2

    def fits(multiplier: float, divisor: int, minimum: int) -> bool:
        return all(make_divisible(full * multiplier, divisor, minimum) == width for full, width in widths.items())

    default = 8 if likely == 1 else 1
    for divisor in (default, *(each for each in _DIVISORS if each != default)):
        if fits(likely, divisor, 8 if likely == 1 else 1):
            return likely, None if divisor == default else divisor
    widest = max(widths)
    around = range(int(1000 * (widths[widest] - 64) / widest), int(1000 * (widths[widest] + 64) / widest) + 1)
    others = sorted((k for k in around if k > 0), key=lambda k: (k % 10 != 0, abs(k / 1000 - likely)))
    for divisor in _DIVISORS:
        for multiplier in (k / 1000 for k in others if abs(k * widest / 1000 - widths[widest]) <= divisor):
            if fits(multiplier, divisor, 8 if multiplier == 1 else 1):
                return multiplier, None if divisor == (8 if multiplier == 1 else 1) else divisor
    unrounded = {full: int(full * likely + 0.5) for full in (16, 24) if full in widths}
    is_rounded = any(widths[full] != width for full, width in unrounded.items())
    return likely, 8 if is_rounded and likely != 1 else None


def _expansions(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Expanded channels of the blocks, (input, expanded) channels given; empty where all are as without pruning."""
    usual = [max(8, (6 * inputs + 4) // 8 * 8) for inputs, _ in shapes]
    usual = [width + 8 if width < 0.9 * 6 * inputs else width for width, (inputs, _) in zip(usual, shapes, strict=True)]
    found = [expanded for _, expanded in shapes]
    return () if found == usual else tuple(found)


def low_level_channels(shapes: Shapes, scope: str | None, variant: str) -> dict[int, int]:
    """Output stride -> channels of the low-level features, as far as the backbone's kernels show them."""
    channels: dict[int, int] = {}
    for backbones, kernel, times, places in _LOW_LEVEL:
        if not channels.keys() & places.keys() and re.fullmatch(backbones, variant):
            for stride, place in places.items():
                shape = shapes.get(f"{scope}/{place}/{kernel}", ())
                if len(shape) == 4:
                    channels[stride] = times * shape[2 if kernel.endswith("depthwise_weights") else 3]
    return channels


def image_classes(scope: str | None, shapes: Shapes) -> int | None:
    """The classes of an image classifier's logits; None where there are none."""
    names = (f"{scope}/logits/weights", f"{scope}/Logits/Conv2d_1c_1x1/weights")
    return next((shapes[name][-1] for name in names if name in shapes), None)


def output_channels(shapes: Shapes, name: str, otherwise: int) -> int:
    """Output channels of a kernel."""
    return shapes[name][-1] if name in shapes else otherwise


def input_channels(shapes: Shapes, name: str) -> int:
    """Input channels of a kernel; 0 where there is none."""
    return shapes[name][2] if len(shapes.get(name, ())) == 4 else 0
