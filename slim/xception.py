"""Xception (Chollet 2017, arXiv:1610.02357), deepened and made fully convolutional for dense prediction
(Chen et al. 2018, arXiv:1802.02611, figure 4, after Dai et al.'s COCO 2017 entry).

Strided separable convolutions replace max pooling, and batch norm follows every depthwise convolution.

`xception_65_preactivated` is that of a DeepLab in PyTorch: shortcuts take the activated input as well, the last block
activates before each separable convolution, as all others do, and a decoder takes the first block's output.
`xception_65_same` is that of a DeepLab in Keras: its first convolution pads by TensorFlow's rule at any size;
it shares the names of `xception_65`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from slim.backbones import Backbone, Features, Options, multi_grid, register
from slim.layers import ACTIVATIONS, TRUNCATED_NORMAL, AtrousPlan, Norm, conv_unit, depthwise_unit

BATCH_NORM_DECAY, BATCH_NORM_EPSILON = 0.9997, 1e-3
STEM_CHANNELS = (32, 64)


class XceptionBlock(NamedTuple):
    """Units of three separable convolutions each.

    Attributes:
      scope: part of the variables' names.
      channels: of the three convolutions.
      shortcut: "conv" (1x1 convolution), "sum" (the input itself) or "none".
      units: number of units.
      stride: nominal stride of the last convolution of each unit.
    """

    scope: str
    channels: tuple[int, int, int]
    shortcut: str
    units: int
    stride: int


SHALLOW_ENTRY = (
    XceptionBlock("entry_flow/block1", (128, 128, 128), "conv", 1, 2),
    XceptionBlock("entry_flow/block2", (256, 256, 256), "conv", 1, 2),
    XceptionBlock("entry_flow/block3", (728, 728, 728), "conv", 1, 2),
)
DEEP_ENTRY = (
    XceptionBlock("entry_flow/block1", (128, 128, 128), "conv", 1, 2),
    XceptionBlock("entry_flow/block2", (256, 256, 256), "conv", 1, 1),
    XceptionBlock("entry_flow/block3", (256, 256, 256), "conv", 1, 2),
    XceptionBlock("entry_flow/block4", (728, 728, 728), "conv", 1, 1),
    XceptionBlock("entry_flow/block5", (728, 728, 728), "conv", 1, 2),
)
PREACTIVATED = "xception_65_preactivated"
SAME_STEM = "xception_65_same"
EXIT = (
    XceptionBlock("exit_flow/block1", (728, 1024, 1024), "conv", 1, 2),
    XceptionBlock("exit_flow/block2", (1536, 1536, 2048), "none", 1, 1),
)


def _scope(variant: str) -> str:
    """Start of a variant's variable names."""
    return variant.removesuffix("_same")


def _middle(units: int) -> tuple[XceptionBlock]:
    return (XceptionBlock("middle_flow/block1", (728, 728, 728), "sum", units, 1),)


# Variant -> blocks; the number in the name counts layers of convolution.
VARIANTS = {
    "xception_41": SHALLOW_ENTRY + _middle(8) + EXIT,
    "xception_65": SHALLOW_ENTRY + _middle(16) + EXIT,
    "xception_71": DEEP_ENTRY + _middle(16) + EXIT,
    PREACTIVATED: SHALLOW_ENTRY + _middle(16) + EXIT,
    SAME_STEM: SHALLOW_ENTRY + _middle(16) + EXIT,
}

# Output stride -> block whose second convolution a decoder takes.
SHALLOW_DECODER = {4: "entry_flow/block2", 8: "entry_flow/block3", 16: "exit_flow/block1"}
BLOCKS = {4: "entry_flow/block1", 8: "entry_flow/block2"}  # whose output it takes of the preactivated variant
DEEP_DECODER = {4: "entry_flow/block3", 8: "entry_flow/block5", 16: "exit_flow/block1"}


def build(variant: str, image, options: Options) -> Features:
    """Xception's features of an image [B, H, W, C] in -1..1.

    Raises:
      OptionError: `multi_grid` is not three rates.
    """
    norm = options.norm(BATCH_NORM_DECAY, BATCH_NORM_EPSILON)
    rates = multi_grid(options, 3)
    plan = AtrousPlan(options.output_stride)
    net = _stem(image, variant, plan, norm, options.bounded_activation)
    end_points: dict = {}
    for block in VARIANTS[variant]:
        unit_rates = rates if block.scope == "exit_flow/block2" else (1, 1, 1)
        for unit in range(1, block.units + 1):
            stride, rate = plan.next(block.stride)
            scope = f"{block.scope}/unit_{unit}/xception_module"
            module = Module(_scope(variant), scope, norm, options.bounded_activation, variant == PREACTIVATED)
            net = module(net, block, stride, tuple(rate * unit_rate for unit_rate in unit_rates), end_points)
    if variant == PREACTIVATED:
        relu = ACTIVATIONS["relu6" if options.bounded_activation else "relu"]
        outputs = {stride: relu(end_points[f"{scope}/unit_1/xception_module"]) for stride, scope in BLOCKS.items()}
        return Features(relu(net), outputs, end_points)
    decoder = DEEP_DECODER if variant == "xception_71" else SHALLOW_DECODER
    low_level = {
        stride: end_points[f"{scope}/unit_1/xception_module/separable_conv2_pointwise"]
        for stride, scope in decoder.items()
    }
    return Features(net, low_level, end_points)


def _stem(net, variant: str, plan: AtrousPlan, norm: Norm, bounded: bool):
    activation = "relu6" if bounded else "relu"
    for index, channels in enumerate(STEM_CHANNELS, start=1):
        stride, _ = plan.next(2 if index == 1 else 1)
        net = conv_unit(
            net,
            f"{_scope(variant)}/entry_flow/conv1_{index}",
            channels,
            3,
            stride=stride,
            padding="same" if variant == SAME_STEM else "fixed",
            norm=norm,
            activation=activation,
            initializer=TRUNCATED_NORMAL(stddev=0.09),
        )
    return net


class Module(NamedTuple):
    """One unit: three separable convolutions and a shortcut.

    Attributes:
      root, scope: together the start of its variables' names.
      norm: batch norm.
      bounded: ReLU6 and clipping instead of ReLU.
      preactivated: the shortcut takes the activated input, and no block activates inside.
    """

    root: str
    scope: str
    norm: Norm
    bounded: bool
    preactivated: bool

    def __call__(self, inputs, block: XceptionBlock, stride: int, rates: tuple[int, ...], end_points: dict):
        """inputs [B, H, W, C] -> [B, H/stride, W/stride, C']; adds its parts to `end_points`."""
        if self.preactivated:
            inputs = ACTIVATIONS["relu6" if self.bounded else "relu"](inputs)
        net = inputs
        activate_inside = block.shortcut == "none" and not self.preactivated
        for index, (channels, rate) in enumerate(zip(block.channels, rates, strict=True), start=1):
            name = f"separable_conv{index}"
            net = self._separable(net, name, channels, stride if index == 3 else 1, rate, activate_inside)
            end_points[f"{self.scope}/{name}_pointwise"] = net
        net = self._add_shortcut(net, inputs, block, stride)
        end_points[self.scope] = net
        return net

    def _separable(self, net, name: str, channels: int, stride: int, rate: int, activate_inside: bool):
        relu = "relu6" if self.bounded else "relu"
        if not activate_inside:
            net = ACTIVATIONS[relu](net)
        linear = "clip6" if self.bounded else None
        settings: dict = {"norm": self.norm, "initializer": TRUNCATED_NORMAL(stddev=0.09)}
        settings["activation"] = relu if activate_inside else linear
        padding = "same" if self.bounded else "fixed"  # as in the reference; they differ for even sizes
        scope = f"{self.root}/{self.scope}/{name}"
        net = depthwise_unit(net, f"{scope}_depthwise", stride=stride, rate=rate, padding=padding, **settings)
        return conv_unit(net, f"{scope}_pointwise", channels, **settings)

    def _add_shortcut(self, net, inputs, block: XceptionBlock, stride: int):
        if block.shortcut == "none":
            return net
        shortcut = inputs
        if block.shortcut == "conv":
            shortcut = conv_unit(
                inputs,
                f"{self.root}/{self.scope}/shortcut",
                block.channels[-1],
                stride=stride,
                norm=self.norm,
                activation=None,
                initializer=TRUNCATED_NORMAL(stddev=0.09),
            )
        if not self.bounded:
            return net + shortcut
        clip = ACTIVATIONS["clip6"]
        return ACTIVATIONS["relu6"](clip(net) + clip(shortcut))


for _variant in VARIANTS:
    register(Backbone(_variant, partial(build, _variant), _scope(_variant), batch_norm_decay=BATCH_NORM_DECAY))
