"""Config of the model: everything that determines its variables and its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deeplab.config.data_config import IMAGE_SIDE
from deeplab.config.fields import Config, Floats, Ints, Size, setting
from deeplab.utils.errors import UserError

_RATES: dict[str, Any] = {"min": 1, "max": 1024, "because": "no feature map is that large"}
_WIDE: dict[str, Any] = {
    "min": 1,
    "max": 16384,
    "because": "a convolution would have billions of weights",
}


@dataclass(frozen=True)
class ModelConfig(Config):
    """Model: backbone, ASPP, decoder."""

    model_variant: str = setting("mobilenet_v2", "Backbone.", shapes_weights=True)
    depth_multiplier: float = setting(
        1.0,
        "Width multiplier of the MobileNet channels.",
        above=0,
        max=16,
        because="the weights grow with its square",
        shapes_weights=True,
    )
    divisible_by: int | None = setting(
        None,
        "MobileNetV2 channel counts are rounded to multiples of this (unset: 8 at depth multiplier 1, else 1).",
        min=1,
        max=1024,
        because="channel counts are rounded up to it",
        rare=True,
        shapes_weights=True,
    )
    expansion_channels: Ints = setting(
        (),
        "Expanded channels of each block of MobileNetV2, from the second on; `prune_channels` sets them (unset: six "
        "times the block's input).",
        **_WIDE,
        rare=True,
        shapes_weights=True,
    )
    input_channels: int = setting(
        3,
        "Channels of the input image (unset: those of the records).",
        min=1,
        max=1024,
        because="images have few channels",
        rare=True,
        shapes_weights=True,
    )
    input_dtype: str = setting(
        "uint8",
        "Type of the image values (unset: that of the records).",
        choices=("uint8", "uint16", "float32"),
        rare=True,
    )
    input_bands: Ints = setting(
        (),
        "Bands of an image file that are the channels, counted from 1 (unset: those of the records, else all).",
        min=1,
        max=65535,
        because="no file has more",
        rare=True,
    )
    input_range: Floats = setting(
        (),
        "Values that become 0 and 255: LOW,HIGH, or that of each channel in turn (unset: as in the records).",
        rare=True,
    )
    input_mean: Floats = setting((), "Mean of each channel, on the scale 0..255 (unset: as in the records).", rare=True)
    input_std: Floats = setting(
        (), "Standard deviation of each channel, on the scale 0..255 (unset: as in the records).", above=0, rare=True
    )
    output_stride: int = setting(
        16, "Ratio of the input size to the size of the backbone's features.", choices=(8, 16, 32)
    )
    align_corners: bool = setting(
        True,
        "Align the corner pixels when feature maps are resized, for images of k * stride + 1 pixels (off: align pixel "
        "edges, pad symmetrically and take any size, as most PyTorch models do).",
        rare=True,
    )
    dilation: str = setting(
        "after",
        "Which layers are dilated where a stride is replaced by dilation: after = those after the strided layer; with "
        "= that layer as well; next_stage = only those of later stages. Published PyTorch weights differ in this.",
        choices=("after", "with", "next_stage"),
        rare=True,
    )
    multi_grid: Ints = setting(
        (), "Rate multipliers of the units in the last backbone block (unset: none).", **_RATES, rare=True
    )
    atrous_rates: Ints = setting(
        (), "Atrous rates of the 3x3 branches of ASPP, e.g. 6,12,18 (unset: no such branches).", **_RATES
    )
    add_image_level_feature: bool = setting(True, "Add the image pooling branch to ASPP.", shapes_weights=True)
    image_pooling_crop_size: Size | None = setting(
        None, "Height,width of the image pooling window (unset: the crop).", **IMAGE_SIDE, unit="pixels", rare=True
    )
    image_pooling_stride: Size = setting(
        (1, 1), "Height,width stride of image pooling.", **_RATES, unit="feature cells", rare=True
    )
    aspp_with_batch_norm: bool = setting(
        True,
        "ASPP with batch norm (off: no ASPP; the logits come from the backbone, summed over the atrous rates).",
        rare=True,
        shapes_weights=True,
    )
    aspp_with_separable_conv: bool = setting(
        True, "Depthwise separable 3x3 convolutions in ASPP.", rare=True, shapes_weights=True
    )
    aspp_with_concat_projection: bool = setting(
        True, "Project the concatenated ASPP branches with a 1x1 convolution.", rare=True, shapes_weights=True
    )
    aspp_with_final_conv: bool = setting(
        False,
        "Add a 3x3 convolution after the projection of ASPP, as in torchvision's DeepLab v3.",
        rare=True,
        shapes_weights=True,
    )
    aspp_with_squeeze_and_excitation: bool = setting(
        False,
        "Let the image pooling branch gate the ASPP output instead of concatenating it.",
        rare=True,
        shapes_weights=True,
    )
    image_se_uses_qsigmoid: bool = setting(False, "Compute that gate as relu6(x+3)/6, not as a sigmoid.", rare=True)
    aspp_convs_filters: int = setting(
        256, "Channels of each ASPP convolution.", **_WIDE, rare=True, shapes_weights=True
    )
    decoder_output_stride: Ints = setting(
        (),
        "Output strides of the decoder stages, in descending order, e.g. 4 (unset: no decoder).",
        min=1,
        max=32,
        because="no backbone has coarser features",
        shapes_weights=True,
    )
    decoder_use_separable_conv: bool = setting(
        True, "Depthwise separable convolutions in the decoder.", rare=True, shapes_weights=True
    )
    decoder_use_sum_merge: bool = setting(
        False,
        "Add low-level and high-level features in the decoder instead of concatenating them.",
        rare=True,
        shapes_weights=True,
    )
    decoder_filters: int = setting(
        256, "Channels of each decoder convolution.", **_WIDE, rare=True, shapes_weights=True
    )
    decoder_convolutions: int = setting(
        2,
        "Number of 3x3 convolutions in a decoder that concatenates features.",
        min=1,
        max=2,
        because="published decoders have one or two",
        rare=True,
        shapes_weights=True,
    )
    decoder_output_is_logits: bool = setting(
        False,
        "Use the decoder output as logits; `decoder_filters` must then be the number of classes.",
        rare=True,
        shapes_weights=True,
    )
    logits_kernel_size: int = setting(
        1,
        "Kernel size of the convolution that computes the logits.",
        min=1,
        max=64,
        because="feature maps are small",
        unit="feature cells",
        rare=True,
        shapes_weights=True,
    )
    logits_upsampling: str = setting(
        "bilinear",
        "How logits become larger than the features: bilinear = they are resized; subpixel = a convolution computes "
        "logits that are `subpixel_factor` times finer, which are then resized to the image.",
        choices=("bilinear", "subpixel"),
        shapes_weights=True,
    )
    subpixel_factor: int = setting(
        4,
        "How many times finer subpixel logits are than the features; at most the stride of the features.",
        choices=(2, 4, 8, 16),
        rare=True,
        shapes_weights=True,
    )
    use_bounded_activation: bool = setting(
        False, "Use ReLU6 and clipping instead of ReLU, for later quantization.", rare=True
    )
    dense_prediction_cell_json: str = setting(
        "", "JSON file of a dense prediction cell that replaces ASPP (unset: none).", rare=True, shapes_weights=True
    )
    image_pyramid: Floats = setting(
        (),
        "Scales at which the model runs within one forward pass (unset: 1.0).",
        above=0,
        max=16,
        because="memory grows with its square",
        rare=True,
    )
    merge_method: str = setting("max", "How the logits of the pyramid are merged.", choices=("max", "avg"), rare=True)
    prediction_with_upsampled_logits: bool = setting(
        True,
        "Upsample the logits before softmax and argmax (off: upsample probabilities and labels).",
        rare=True,
    )
    nas_stem_output_num_conv_filters: int = setting(
        20, "Base number of channels of NAS cells.", **_WIDE, rare=True, shapes_weights=True
    )
    nas_use_classification_head: bool = setting(
        False, "End NAS backbones in the 2048-channel classification head.", rare=True, shapes_weights=True
    )
    nas_remove_os32_stride: bool = setting(False, "Keep the stride-32 level of NAS backbones at stride 16.", rare=True)
    normalization: str = setting(
        "batch",
        "Normalization in backbone and head: batch, or group, which does not depend on the size of the batch.",
        choices=("batch", "group"),
        rare=True,
        shapes_weights=True,
    )
    batch_norm_decay: float | None = setting(
        None,
        "Decay of the batch-norm averages (unset: .997 MobileNets, .9997 Xception, NAS and heads, .95 ResNets; "
        "the reference declares .9997 but does not use it).",
        min=0,
        max=1,
        rare=True,
    )
    batch_norm_epsilon: float | None = setting(
        None,
        "Constant added to the variance in batch norm (unset: 0.001 for MobileNets, Xception and NAS, 1e-5 for ResNets "
        "and heads).",
        above=0,
        max=1,
        because="it only guards against a division by zero",
        rare=True,
    )
    quantize_delay_step: int = setting(
        -1,
        "Train for 8-bit integers: step from which weights and activations are rounded as in integer arithmetic; "
        "before it, only their ranges are learned; 0 = from the first step; negative = never.",
        unit="steps",
        rare=True,
    )
    quantize_freeze_bn_step: int = setting(
        -1,
        "With `quantize_delay_step`: step from which batch norm keeps its statistics, as in the exported model; "
        "negative = never.",
        unit="steps",
        rare=True,
    )
    quantize_weights: str = setting(
        "per_tensor",
        "With `quantize_delay_step`: per_tensor = one range for the weights of a layer, as in the research DeepLab; "
        "per_channel = one for each output channel, as in litert_int8.",
        choices=("per_tensor", "per_channel"),
        rare=True,
    )

    @property
    def has_image_pyramid(self) -> bool:
        """Whether the model merges the logits of several scales, or of one scale other than 1."""
        return self.image_pyramid not in ((), (1.0,))

    @property
    def pooling_window(self) -> Size | None:
        """`image_pooling_crop_size` where the head pools by it; None where it is unset or has no effect."""
        pools = self.aspp_with_batch_norm and (self.add_image_level_feature or self.dense_prediction_cell_json)
        return self.image_pooling_crop_size if pools else None

    def validate(self) -> None:
        descending = tuple(sorted(set(self.decoder_output_stride), reverse=True))
        if self.decoder_output_stride != descending:
            given = ",".join(map(str, self.decoder_output_stride))
            hint = f"`decoder_output_stride={','.join(map(str, descending))}`"
            raise UserError("out-of-range", f"must descend, not {given}", hint, field="decoder_output_stride")
        if self.logits_kernel_size != 1 and (self.aspp_with_batch_norm or not self.atrous_rates):
            rule = f"{self.logits_kernel_size} needs logits straight from the backbone"
            hint = "add `aspp_with_batch_norm=false` and `atrous_rates=...`, or leave the kernel size at 1"
            raise UserError("conflicting-settings", rule, hint, field="logits_kernel_size")
        if self.logits_upsampling == "subpixel":
            self._check_subpixel()
        self._check_gate()
        self._check_input()

    def _check_subpixel(self) -> None:
        stride = self.decoder_output_stride[-1] if self.decoder_output_stride else self.output_stride
        if self.subpixel_factor > stride:
            rule = f"{self.subpixel_factor} is more than {stride}, the stride of the features"
            raise UserError("out-of-range", rule, f"`subpixel_factor={stride}`", field="subpixel_factor")
        sums = not self.aspp_with_batch_norm and len(self.atrous_rates) > 1
        if self.decoder_output_is_logits or sums:
            rule = "subpixel needs one layer that computes the logits"
            hint = f"leave out `{'aspp_with_batch_norm=false' if sums else 'decoder_output_is_logits'}`"
            raise UserError("conflicting-settings", rule, hint, field="logits_upsampling", value="subpixel")

    def _check_gate(self) -> None:
        is_gated = self.add_image_level_feature and self.aspp_with_squeeze_and_excitation
        is_projected = self.aspp_with_concat_projection or self.aspp_with_final_conv or not self.atrous_rates
        has_aspp = self.aspp_with_batch_norm and not self.dense_prediction_cell_json
        if has_aspp and is_gated and not is_projected:
            rule = f"off leaves {1 + len(self.atrous_rates)} branches, of more channels than the gate has"
            hint = "leave it on, or leave out `aspp_with_squeeze_and_excitation` or `atrous_rates`"
            raise UserError("conflicting-settings", rule, hint, field="aspp_with_concat_projection", value=False)

    def _check_input(self) -> None:
        channels, ranges = self.input_channels, self.input_range
        if len(ranges) not in (0, 2, 2 * channels):
            rule = f"has {len(ranges)} numbers, where 2 or {2 * channels} belong"
            hint = "LOW,HIGH, or LOW,HIGH of each channel"
            raise UserError("out-of-range", rule, hint, field="input_range", value=ranges)
        if any(low >= high for low, high in zip(ranges[::2], ranges[1::2], strict=True)):
            raise UserError("out-of-range", "every LOW must be below its HIGH", field="input_range", value=ranges)
        if self.input_dtype != "uint8" and not ranges:
            rule = f"{self.input_dtype} needs the values that become 0 and 255"
            hint = "add `input_range=LOW,HIGH`; records of `deeplab build-data` bring theirs"
            raise UserError("missing-setting", rule, hint, field="input_dtype")
        for name in ("input_bands", "input_mean", "input_std"):
            if len(getattr(self, name)) not in (0, channels):
                rule = f"has {len(getattr(self, name))} numbers for {channels} channels"
                raise UserError("out-of-range", rule, "give one per channel", field=name)
        if bool(self.input_mean) != bool(self.input_std):
            raise UserError("missing-setting", "needs `input_std` as well, or neither", field="input_mean")
