"""Settings of evaluation, drawing and prediction.

One dataclass per group of flags, one field per flag; see `fields.py`. No TensorFlow here.
"""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.fields import Floats, Size, Texts, require_positive, setting
from deeplab.utils.errors import UserError


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
                "missing-setting",
                "images of different sizes make no batch",
                "add `eval_crop_size`",
                field="eval_batch_size",
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
            raise UserError(
                "missing-setting",
                "images of different sizes make no batch",
                "add `vis_crop_size`",
                field="vis_batch_size",
            )


@dataclass(frozen=True)
class PredictConfig:
    """Masks for one's own pictures."""

    input: Texts = setting((), "Picture, folder, or pattern such as 'photos/*.jpg'; repeatable.", required=True)
    model: str = setting(
        "",
        "Training folder, checkpoint prefix, frozen graph (.pb), SavedModel folder or zoo:NAME; also as the next 3.",
    )
    checkpoint_dir: str = setting("", "The same as `model`.")
    checkpoint_path: str = setting("", "The same as `model`.")
    export_path: str = setting("", "The same as `model`.")
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
        raise UserError("out-of-range", f"is from 0 to 1, not {opacity}", field="overlay_opacity")
