"""The settings, as typed dataclasses: one class a group, one field a flag. No TensorFlow here.

Names, meanings and defaults are those of the research DeepLab's flags; where a default differs, its help
says so. `deeplab/flags.py` makes command-line flags of these fields; `deeplab/run_config.py` saves them
beside a checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.errors import UserError
from deeplab.settings import Floats, Ints, Size, Texts, require_positive, setting


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
            raise UserError("--output_stride", f"must be 8, 16 or 32, not {self.output_stride}")
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
                "--decoder_output_stride",
                f"strides must descend, not {given}",
                f"--decoder_output_stride={better}",
            )
        if self.logits_kernel_size != 1 and (self.aspp_with_batch_norm or not self.atrous_rates):
            raise UserError(
                "--logits_kernel_size",
                f"{self.logits_kernel_size} needs logits straight from the backbone",
                "add --aspp_with_batch_norm=false and --atrous_rates, or leave the kernel size at 1",
            )


@dataclass(frozen=True)
class ResizeConfig:
    """How images are resized before they are cropped or padded; off unless min_resize_value is set."""

    min_resize_value: int | None = setting(None, "Wanted length of the shorter image side, in pixels.")
    max_resize_value: int | None = setting(None, "Upper limit of the longer image side, in pixels.")
    resize_factor: int | None = setting(None, "Sides become multiples of this, plus one.")
    keep_aspect_ratio: bool = setting(
        True,
        "Images keep their aspect ratio.",
        retired="images always keep their aspect ratio, as in the reference",
    )

    def __post_init__(self) -> None:
        require_positive(self, "min_resize_value", "max_resize_value", "resize_factor")
        if self.max_resize_value and not self.min_resize_value:
            raise UserError(
                "--max_resize_value",
                "needs --min_resize_value as well",
                f"add --min_resize_value={self.max_resize_value} to bound the longer side alone",
            )


@dataclass(frozen=True)
class DatasetConfig:
    """Which dataset, and where its records lie."""

    dataset: str = setting(
        "",
        "A known dataset (pascal_voc_seg, cityscapes, ade20k ...) or a dataset.yml "
        "(unset: the dataset.yml in --dataset_dir, else pascal_voc_seg).",
    )
    dataset_dir: str = setting("", "Folder of the TFRecord shards.", required=True)


@dataclass(frozen=True)
class LossConfig:
    """What the training minimizes."""

    label_weights: Floats = setting((), "Loss weight of each class; none = 1 for all.")
    upsample_logits: bool = setting(True, "Loss at label size (off: at logits size, with subsampled labels).")
    top_k_percent_pixels: float = setting(1.0, "Fraction of hardest pixels kept in the loss, 0 to 1.")
    hard_example_mining_step: int = setting(
        0, "Steps over which that fraction shrinks from 1 to its value; 0 = at once."
    )
    weight_decay: float = setting(4e-5, "L2 coefficient of convolution kernels.")

    def __post_init__(self) -> None:
        if not 0 < self.top_k_percent_pixels <= 1:
            raise UserError(
                "--top_k_percent_pixels",
                f"is a fraction above 0 and at most 1, not {self.top_k_percent_pixels}",
                f"--top_k_percent_pixels={self.top_k_percent_pixels / 100:g} if you meant percent",
            )
        if any(weight < 0 for weight in self.label_weights):
            raise UserError("--label_weights", f"must not be negative: {list(self.label_weights)}")


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights move: optimizer, learning rate, gradient multipliers."""

    optimizer: str = setting("momentum", "Optimizer.", choices=("momentum", "adam"))
    momentum: float = setting(0.9, "Momentum coefficient.")
    adam_learning_rate: float = setting(0.001, "Adam's constant learning rate (the schedule is not used).")
    adam_epsilon: float = setting(1e-8, "Adam's epsilon.")
    learning_policy: str = setting("poly", "Learning-rate schedule.", choices=("poly", "step"))
    base_learning_rate: float = setting(1e-4, "Learning rate at the start of the schedule.")
    learning_power: float = setting(0.9, "Exponent of the poly schedule.")
    decay_steps: float = setting(0.0, "Steps of the poly schedule; 0 = all steps after the slow start.")
    end_learning_rate: float = setting(0.0, "Learning rate at the end of the poly schedule.")
    learning_rate_decay_factor: float = setting(0.1, "Factor of the step schedule.")
    learning_rate_decay_step: int = setting(2000, "Period of the step schedule, in steps.")
    slow_start_step: int = setting(0, "Steps at the slow-start learning rate.")
    slow_start_learning_rate: float = setting(1e-4, "Learning rate of the slow start.")
    last_layer_gradient_multiplier: float = setting(1.0, "Gradient multiplier of the head's variables.")
    last_layers_contain_logits_only: bool = setting(False, "The head is the logits layer alone.")

    def __post_init__(self) -> None:
        require_positive(self, "learning_rate_decay_step")


@dataclass(frozen=True)
class TrainConfig:
    """One training: data, length, augmentation, starting point, what is written when."""

    train_logdir: str = setting("", "Folder of checkpoints and summaries.", required=True)
    train_split: str = setting("train", "Split to train on.")
    train_crop_size: Size = setting((513, 513), "Training crop, height,width in pixels.")
    train_batch_size: int = setting(8, "Images a step, over all devices.")
    training_number_of_steps: int = setting(30000, "Global step at which training ends.")
    min_scale_factor: float = setting(0.5, "Smallest augmentation scale.")
    max_scale_factor: float = setting(2.0, "Largest augmentation scale.")
    scale_factor_step_size: float = setting(0.25, "Grid step of augmentation scales; 0 = continuous.")
    tf_initial_checkpoint: str = setting(
        "", "Checkpoint to start from when train_logdir has none: a path, zoo:NAME or imagenet."
    )
    initialize_last_layer: bool = setting(True, "Restore the head too (off: start it anew).")
    fine_tune_batch_norm: bool = setting(True, "Train batch norm (off: frozen statistics).")
    batch_norm_calibration_batches: int | None = setting(
        None,
        "Training batches over which batch-norm statistics are measured anew before the last checkpoint; 0 = "
        "never (unset: 60 where the training was too short for the averages to settle).",
    )
    drop_path_keep_prob: float = setting(1.0, "Keep probability of paths in NAS backbones.")
    random_seed: int | None = setting(
        None, "Seed of initial weights, shuffling and augmentation (unset: a new one each time)."
    )
    num_clones: int = setting(1, "Devices on this machine that share each batch.")
    log_steps: int = setting(10, "Steps between two progress lines.")
    save_interval_secs: int = setting(1200, "Seconds between two checkpoints.")
    save_interval_steps: int = setting(0, "Steps between two checkpoints; 0 = by seconds alone.")
    max_checkpoints_to_keep: int = setting(5, "Older checkpoints are removed beyond this number.")
    save_summaries_secs: int = setting(600, "Seconds between two summaries.")
    save_summaries_images: bool = setting(False, "Summaries show images, labels and predictions.")
    profile_logdir: str = setting("", "Folder for a profile of a few steps; empty = none.")
    num_replicas: int = setting(1, "Worker machines.")
    master: str = setting("", "Session target.", retired="there are no sessions; devices are found by themselves")
    clone_on_cpu: bool = setting(
        False,
        "Clones on CPU.",
        retired="devices are found by themselves; hide GPUs with CUDA_VISIBLE_DEVICES=-1",
    )
    startup_delay_steps: int = setting(15, "Delay of worker starts.", retired="workers start together")
    num_ps_tasks: int = setting(
        0,
        "Parameter servers.",
        retired="variables are mirrored on every device; there are no parameter servers",
    )
    task: int = setting(0, "Index of this worker.", retired="the worker's index is read from TF_CONFIG")

    def __post_init__(self) -> None:
        require_positive(
            self,
            "train_crop_size",
            "train_batch_size",
            "training_number_of_steps",
            "min_scale_factor",
            "num_clones",
            "max_scale_factor",
            "log_steps",
            "save_interval_secs",
            "max_checkpoints_to_keep",
            "save_summaries_secs",
        )
        if self.min_scale_factor > self.max_scale_factor:
            raise UserError(
                "--min_scale_factor",
                f"{self.min_scale_factor} is above --max_scale_factor={self.max_scale_factor}",
            )
        if self.train_batch_size % self.num_clones:
            better = -(-self.train_batch_size // self.num_clones) * self.num_clones
            raise UserError(
                "--train_batch_size",
                f"{self.train_batch_size} cannot be shared by --num_clones={self.num_clones}",
                f"--train_batch_size={better}",
            )
        if self.num_replicas > 1:
            raise UserError("--num_replicas", "training over several machines is not there yet", "leave it at 1")


@dataclass(frozen=True)
class InferenceConfig:
    """How predictions are made at evaluation, drawing and prediction."""

    eval_scales: Floats = setting((1.0,), "Scales whose probabilities are averaged.")
    add_flipped_images: bool = setting(False, "Average with the mirrored image's probabilities, too.")

    def __post_init__(self) -> None:
        require_positive(self, "eval_scales")


@dataclass(frozen=True)
class EvalConfig:
    """One evaluation of a split."""

    checkpoint_dir: str = setting("", "Training folder, one checkpoint's prefix, or zoo:NAME.", required=True)
    eval_logdir: str = setting("", "Folder for metrics, plots and summaries.", required=True)
    eval_split: str = setting("val", "Split to evaluate.")
    eval_crop_size: Size | None = setting(
        None,
        "Height,width to which every image is padded (unset: each image at its own size; the reference has 513,513).",
    )
    eval_batch_size: int = setting(1, "Images a step; more than 1 needs a crop size.")
    eval_interval_secs: int = setting(300, "Least seconds between two evaluations when waiting for checkpoints.")
    max_number_of_evaluations: int = setting(
        1,
        "End after so many checkpoints; 0 = wait for further ones for ever (the reference's default).",
    )
    watch: bool = setting(False, "Wait for further checkpoints; the same as max_number_of_evaluations=0.")
    exclude_classes: Texts = setting((), "Names or numbers of classes that a further mean IoU leaves out.")
    label_weights: Floats = setting((), "Loss weight of each class.", retired="weights count in training alone")
    master: str = setting("", "Session target.", retired="there are no sessions; devices are found by themselves")

    def __post_init__(self) -> None:
        require_positive(self, "eval_crop_size", "eval_batch_size")
        if self.eval_batch_size > 1 and not self.eval_crop_size:
            raise UserError(
                "--eval_batch_size",
                "images of different sizes make no batch",
                "add --eval_crop_size",
            )


@dataclass(frozen=True)
class VisConfig:
    """Pictures of a split's predictions."""

    checkpoint_dir: str = setting("", "Training folder, one checkpoint's prefix, or zoo:NAME.", required=True)
    vis_logdir: str = setting("", "Folder for the pictures.", required=True)
    vis_split: str = setting("val", "Split to draw.")
    vis_crop_size: Size | None = setting(
        None,
        "Height,width to which every image is padded (unset: each image at its own size; the reference has 513,513).",
    )
    vis_batch_size: int = setting(1, "Images a step.")
    colormap_type: str = setting(
        "",
        "Colors of the predictions (unset: the dataset's own, else pascal).",
        choices=("", "pascal", "cityscapes", "ade20k", "mapillary_vistas", "distinct"),
    )
    overlay_opacity: float = setting(0.5, "Opacity of the class colors over the image, 0 to 1.")
    sheet_images: int = setting(12, "Images on the contact sheet; 0 = no sheet.")
    also_save_raw_predictions: bool = setting(False, "Write class-index PNGs under the images' names as well.")
    raw_save_dir: str = setting("", "Folder of those PNGs (unset: vis_logdir/raw_segmentation_results).")
    eval_interval_secs: int = setting(300, "Least seconds between two rounds when waiting for checkpoints.")
    max_number_of_iterations: int = setting(
        1,
        "End after so many checkpoints; 0 = wait for further ones for ever (the reference's default).",
    )
    watch: bool = setting(False, "Wait for further checkpoints; the same as max_number_of_iterations=0.")
    label_weights: Floats = setting((), "Loss weight of each class.", retired="weights count in training alone")
    master: str = setting("", "Session target.", retired="there are no sessions; devices are found by themselves")

    def __post_init__(self) -> None:
        require_positive(self, "vis_crop_size", "vis_batch_size")
        _require_opacity(self.overlay_opacity)
        if self.vis_batch_size > 1 and not self.vis_crop_size:
            raise UserError("--vis_batch_size", "images of different sizes make no batch", "add --vis_crop_size")


@dataclass(frozen=True)
class PredictConfig:
    """Masks for one's own pictures."""

    input: Texts = setting((), "Picture, folder, or pattern such as 'photos/*.jpg'; repeatable.", required=True)
    model: str = setting(
        "",
        "Training folder, checkpoint prefix, frozen graph (.pb), SavedModel folder or zoo:NAME; also as the next 3.",
    )
    checkpoint_dir: str = setting("", "The same as --model.")
    checkpoint_path: str = setting("", "The same as --model.")
    export_path: str = setting("", "The same as --model.")
    output_dir: str = setting("", "Folder of the results; made when missing.", required=True)
    recursive: bool = setting(False, "Take the folders inside folders, too.")
    overwrite: bool = setting(False, "Replace results of an earlier run.")
    save_mask: bool = setting(True, "Write mask/NAME.png: class numbers as pixels, with a palette.")
    save_color: bool = setting(True, "Write color/NAME.png: each pixel in its class's color.")
    save_overlay: bool = setting(True, "Write overlay/NAME.png: those colors over the picture.")
    save_probabilities: str = setting(
        "",
        "Write probabilities: npz = NAME.npz, float16 [H, W, classes]; png = one gray PNG a class, 255 = 1.0.",
        choices=("", "npz", "png"),
    )
    overlay_opacity: float = setting(0.5, "Opacity of the class colors over the picture, 0 to 1.")
    dataset: str = setting("", "Known dataset or dataset.yml for class names and colors (unset: as trained).")
    crop_size: Size | None = setting(None, "Height,width to which pictures are padded (unset: each at its own size).")
    shrink_large_images: bool = setting(False, "Shrink pictures beyond the crop, and enlarge their masks again.")

    def __post_init__(self) -> None:
        require_positive(self, "crop_size")
        _require_opacity(self.overlay_opacity)


def _require_opacity(opacity: float) -> None:
    if not 0 <= opacity <= 1:
        raise UserError("--overlay_opacity", f"is from 0 to 1, not {opacity}")


@dataclass(frozen=True)
class ExportConfig:
    """One export of a checkpoint."""

    checkpoint_path: str = setting("", "Checkpoint prefix, training folder, or zoo:NAME.", required=True)
    export_path: str = setting("", "The .pb file to write.", required=True)
    num_classes: int | None = setting(None, "Number of classes (unset: as trained, else 21).", shapes_weights=True)
    crop_size: Size = setting((513, 513), "Height and width of the network's input.")
    inference_scales: Floats = setting((1.0,), "Scales whose probabilities are averaged.")
    add_flipped_images: bool = setting(False, "Average with the mirrored image's probabilities, too.")
    saved_model: bool = setting(True, "Write a SavedModel beside the frozen graph, too.")
    fold_batch_norm: bool = setting(True, "Fold batch norm into the convolutions where the answers stay the same.")
    parity_images: int = setting(4, "Images on which the export is checked against the model.")
    parity_folder: str = setting("", "Folder of those images (unset: the dataset's, else generated portraits).")
    dataset: str = setting("", "Known dataset or dataset.yml for class names (unset: as trained).")
    dataset_dir: str = setting("", "Folder of records whose images are used for that check (unset: as trained).")
    save_inference_graph: bool = setting(False, "Write inference_graph.pbtxt, too.")
    label_weights: Floats = setting((), "Loss weight of each class.", retired="an export has no loss")

    def __post_init__(self) -> None:
        require_positive(self, "num_classes", "crop_size", "inference_scales", "parity_images")
