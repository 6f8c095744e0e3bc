"""Settings of the model: everything that decides its variables and its output.

One dataclass per group of flags, one field per flag; see `fields.py`. No TensorFlow here.
"""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.fields import Floats, Ints, Size, require_positive, setting
from deeplab.utils.errors import UserError


@dataclass(frozen=True)
class ModelConfig:
    """What the network is: everything that decides its variables and its output."""

    model_variant: str = setting("mobilenet_v2", "Backbone name.", shapes_weights=True)
    depth_multiplier: float = setting(1.0, "Width multiplier of MobileNet channels.", shapes_weights=True)
    divisible_by: int | None = setting(
        None,
        "MobileNetV2 channel counts become multiples of this (unset: 8 at depth multiplier 1, else 1).",
        shapes_weights=True,
    )
    input_channels: int = setting(3, "Channels of the input image.", shapes_weights=True)
    output_stride: int = setting(16, "Input size over backbone feature size: 8, 16 or 32.")
    multi_grid: Ints = setting((), "Rate multipliers of the units in the last backbone block.")
    atrous_rates: Ints = setting((), "Atrous rates of the ASPP branches; none = no 3x3 branches.")
    add_image_level_feature: bool = setting(True, "Add the image pooling branch to ASPP.", shapes_weights=True)
    image_pooling_crop_size: Size | None = setting(
        None, "Height,width in pixels of the image pooling window (unset: the whole crop)."
    )
    image_pooling_stride: Size = setting((1, 1), "Height,width stride of image pooling, in feature cells.")
    aspp_with_batch_norm: bool = setting(
        True,
        "ASPP with batch norm (off: no ASPP; logits straight from the backbone, summed over atrous rates).",
        shapes_weights=True,
    )
    aspp_with_separable_conv: bool = setting(True, "Depthwise separable 3x3 convolutions in ASPP.", shapes_weights=True)
    aspp_with_concat_projection: bool = setting(True, "1x1 projection after ASPP's concat.", shapes_weights=True)
    aspp_with_squeeze_and_excitation: bool = setting(
        False,
        "The image pooling branch gates the ASPP output instead of being concatenated.",
        shapes_weights=True,
    )
    image_se_uses_qsigmoid: bool = setting(False, "That gate is relu6(x+3)/6 rather than a sigmoid.")
    aspp_convs_filters: int = setting(256, "Channels of every ASPP convolution.", shapes_weights=True)
    decoder_output_stride: Ints = setting(
        (),
        "Output strides of the decoder's stages, descending; none = no decoder.",
        shapes_weights=True,
    )
    decoder_use_separable_conv: bool = setting(True, "Depthwise separable decoder convolutions.", shapes_weights=True)
    decoder_use_sum_merge: bool = setting(
        False,
        "The decoder adds high- and low-level features instead of concatenating them.",
        shapes_weights=True,
    )
    decoder_filters: int = setting(256, "Channels of decoder convolutions.", shapes_weights=True)
    decoder_output_is_logits: bool = setting(
        False,
        "The decoder's output is the logits (decoder_filters = number of classes).",
        shapes_weights=True,
    )
    logits_kernel_size: int = setting(1, "Kernel size of the logits convolution.", shapes_weights=True)
    use_bounded_activation: bool = setting(False, "ReLU6 and clipping instead of ReLU (kind to quantization).")
    dense_prediction_cell_json: str = setting(
        "",
        "JSON file of a dense prediction cell that replaces ASPP; empty = none.",
        shapes_weights=True,
    )
    image_pyramid: Floats = setting((), "Scales at which the network runs inside one forward pass; none = 1.0.")
    merge_method: str = setting("max", "How the pyramid's logits are merged.", choices=("max", "avg"))
    prediction_with_upsampled_logits: bool = setting(
        True,
        "Upsample logits, then argmax and softmax (off: argmax and softmax first, then upsample).",
    )
    nas_stem_output_num_conv_filters: int = setting(20, "Base filter count of NAS cells.", shapes_weights=True)
    nas_use_classification_head: bool = setting(
        False, "NAS backbones end in the 2048-channel head.", shapes_weights=True
    )
    nas_remove_os32_stride: bool = setting(False, "NAS backbones keep the stride-32 level at stride 16.")
    batch_norm_decay: float | None = setting(
        None,
        "Decay of all batch-norm averages (unset: .997 MobileNets, .9997 Xception, NAS and heads, .95 ResNets; "
        "the reference declares .9997 and reads it nowhere).",
    )
    quantize_delay_step: int = setting(
        -1, "Step at which fake quantization begins; negative = never.", shapes_weights=True
    )

    def __post_init__(self) -> None:
        if self.output_stride not in (8, 16, 32):
            raise UserError("out-of-range", f"must be 8, 16 or 32, not {self.output_stride}", field="output_stride")
        require_positive(self, "depth_multiplier", "aspp_convs_filters", "decoder_filters", "logits_kernel_size")
        require_positive(
            self,
            "atrous_rates",
            "decoder_output_stride",
            "image_pyramid",
            "multi_grid",
            "input_channels",
        )
        if list(self.decoder_output_stride) != sorted(set(self.decoder_output_stride), reverse=True):
            given = ",".join(map(str, self.decoder_output_stride))
            better = ",".join(map(str, sorted(set(self.decoder_output_stride), reverse=True)))
            raise UserError(
                "out-of-range",
                f"strides must descend, not {given}",
                f"`decoder_output_stride={better}`",
                field="decoder_output_stride",
            )
        if self.logits_kernel_size != 1 and (self.aspp_with_batch_norm or not self.atrous_rates):
            raise UserError(
                "conflicting-settings",
                f"{self.logits_kernel_size} needs logits straight from the backbone",
                "add `aspp_with_batch_norm=false` and `atrous_rates`, or leave the kernel size at 1",
                field="logits_kernel_size",
            )
