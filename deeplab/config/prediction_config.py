"""Config of evaluation, drawing and prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deeplab.config.data_config import IMAGE_SIDE
from deeplab.config.fields import Config, Floats, Size, Texts, setting
from deeplab.utils.errors import UserError

SCALES: dict[str, Any] = {"above": 0, "max": 16, "because": "memory grows with its square"}
_SHRINK_FOR_FILE = (
    "For exported files of a fixed size: shrink larger images, and enlarge the predicted masks again; metrics are "
    "computed at the original size."
)
ADD_FLIPPED_IMAGES = "Average with the probabilities of the mirrored image."
_MODEL = (
    "Training folder, checkpoint prefix, zoo:NAME, hf://USER/NAME, or an exported file: frozen graph (.pb), "
    "SavedModel folder, .keras, .tflite, .onnx, .mnn, OpenVINO folder."
)
_SAME = "The same as `model`."
_POSTPROCESS = (
    "Steps after prediction, in this order: crf (fully connected CRF), guided_filter, min_area:PIXELS, fill_holes, "
    "largest_component; e.g. crf,min_area:200,fill_holes."
)
_TRUST_MODEL = (
    "Run a model file although its operations may write files, run programs or use the network; no time limit."
)
_CROP = "Height,width to which each image is padded (unset: each image keeps its size; the reference has 513,513)."
_BATCH: dict[str, Any] = {"min": 1, "max": 65536, "because": "such a batch does not fit into memory", "unit": "images"}
_INTERVAL = "Minimum time between two rounds while waiting for checkpoints."
_ROUNDS = "Number of checkpoints after which the command ends; 0 = it waits for more (the reference's default)."
CHECKPOINT = "Checkpoint of a training folder: latest, best (by `best_metric`), averaged (`average_checkpoints`)."
CHECKPOINTS = ("latest", "best", "averaged")
USE_AVERAGES = "Take the running averages of the weights where a checkpoint has them (`ema_decay`; off: the weights)."
OVERLAY_BACKGROUND = "Color class 0 (the background) in overlays as well, and draw no outlines."
_EXTRA_METRICS = (
    "Metrics to add that take more time, separated by commas: boundary_iou, trimap_iou (near outlines), calibration "
    "(do probabilities match accuracies?), object_size (small, medium and large objects)."
)
_NO_LOSS = "weights only count in training"
_NO_SESSION = "there are no sessions; devices are found automatically"


@dataclass(frozen=True)
class InferenceConfig(Config):
    """Prediction passes."""

    eval_scales: Floats = setting((1.0,), "Scales whose probabilities are averaged.", **SCALES)
    add_flipped_images: bool = setting(False, ADD_FLIPPED_IMAGES)
    postprocess: str = setting("", _POSTPROCESS)
    checkpoint: str = setting("latest", CHECKPOINT, choices=CHECKPOINTS)
    use_averages: bool = setting(True, USE_AVERAGES, rare=True)
    trust_model: bool = setting(False, _TRUST_MODEL, rare=True)


@dataclass(frozen=True)
class EvalConfig(Config):
    """Evaluation."""

    model: str = setting("", _MODEL)
    checkpoint_dir: str = setting("", _SAME)
    eval_logdir: str = setting("", "Folder for metrics, plots and summaries.", required=True, writes="folder")
    eval_split: str = setting("val", "Split to evaluate (unset: that of the training, else val).")
    eval_crop_size: Size | None = setting(None, _CROP, **IMAGE_SIDE, unit="pixels")
    eval_batch_size: int = setting(
        1, "Images per step; without `eval_crop_size`, images of equal padded size form batches.", **_BATCH
    )
    eval_processes: int = setting(
        1,
        "Processes that share the images, each with its own model and GPU; the result is the same.",
        min=1,
        max=256,
        because="each loads the model",
    )
    shrink_large_images: bool = setting(False, _SHRINK_FOR_FILE)
    eval_interval_secs: int = setting(300, _INTERVAL, min=0, unit="seconds")
    max_number_of_evaluations: int = setting(1, _ROUNDS, min=0, unit="checkpoints", rare=True)
    watch: bool = setting(False, "Wait for further checkpoints; the same as `max_number_of_evaluations=0`.")
    metrics: Texts = setting(
        (), "Metrics to report, separated by commas (unset: all that are read from the confusion matrix)."
    )
    extra_metrics: Texts = setting((), _EXTRA_METRICS)
    exclude_classes: Texts = setting((), "Names or numbers of classes that are left out of additional means.")
    group_by: str = setting(
        "",
        "Regular expression over the image names: with ^([a-z]+)_, for example, cat_1 and cat_2 are a group.",
    )
    precision: str = setting(
        "float32",
        "Arithmetic of the evaluation: float32 = the model's own; int8 = 8-bit integers, simulated with ranges from "
        "`calibration_images`, to estimate what the export format litert_int8 would predict.",
        choices=("float32", "int8"),
    )
    calibration_images: str = setting(
        "", "For `precision=int8`: a folder of images or of records (unset: split train of `dataset_dir`).", rare=True
    )
    calibration_count: int = setting(
        100,
        "Number of calibration images; images from records are spread over the classes.",
        min=1,
        max=10_000,
        because="they are in memory at the same time",
        unit="images",
        rare=True,
    )
    calibration_seed: int = setting(0, "Seed of the choice of calibration images.", min=0, rare=True)
    compare: str = setting("", "A second model: evaluate both, and write how they differ into comparison.html.")
    report: bool = setting(True, "Write report.html: one page with tables, confusion matrix and example images.")
    label_weights: Floats = setting((), "Loss weight per class.", retired=_NO_LOSS)
    master: str = setting("", "Session target.", retired=_NO_SESSION)

    def validate(self) -> None:
        if self.compare and (self.watch or self.max_number_of_evaluations != 1):
            rule, hint = "compares two models once", "leave out `watch` and `max_number_of_evaluations`"
            raise UserError("conflicting-settings", rule, hint, field="compare", value=self.compare)
        if self.precision == "int8" and (self.compare or self.eval_processes > 1):
            rule, hint = "int8 is simulated in one process, for one model", "leave out `compare` and `eval_processes`"
            raise UserError("conflicting-settings", rule, hint, field="precision", value=self.precision)


@dataclass(frozen=True)
class VisConfig(Config):
    """Drawing."""

    model: str = setting("", _MODEL)
    checkpoint_dir: str = setting("", _SAME)
    vis_logdir: str = setting("", "Folder for the images.", required=True, writes="folder")
    vis_split: str = setting("val", "Split to draw.")
    vis_crop_size: Size | None = setting(None, _CROP, **IMAGE_SIDE, unit="pixels")
    vis_batch_size: int = setting(1, "Images per step; more than 1 needs `vis_crop_size`.", **_BATCH)
    colormap_type: str = setting(
        "",
        "Colors of the predictions (unset: the dataset's own, else pascal).",
        choices=("", "pascal", "cityscapes", "ade20k", "mapillary_vistas", "distinct"),
    )
    overlay_opacity: float = setting(0.5, "Opacity of the class colors over the image, 0 to 1.", min=0, max=1)
    overlay_background: bool = setting(False, OVERLAY_BACKGROUND)
    sheet_images: int = setting(
        12,
        "Number of images in the image grid; 0 = no grid.",
        min=0,
        max=1000,
        because="the grid is one image in memory",
        unit="images",
    )
    also_save_raw_predictions: bool = setting(False, "Also write PNGs of class numbers under the images' names.")
    raw_save_dir: str = setting(
        "", "Folder of those PNGs (unset: VIS_LOGDIR/raw_segmentation_results).", rare=True, writes="folder"
    )
    shrink_large_images: bool = setting(False, _SHRINK_FOR_FILE)
    eval_interval_secs: int = setting(300, _INTERVAL, min=0, unit="seconds")
    max_number_of_iterations: int = setting(1, _ROUNDS, min=0, unit="checkpoints", rare=True)
    watch: bool = setting(False, "Wait for further checkpoints; the same as `max_number_of_iterations=0`.")
    label_weights: Floats = setting((), "Loss weight per class.", retired=_NO_LOSS)
    master: str = setting("", "Session target.", retired=_NO_SESSION)

    def validate(self) -> None:
        _require_crop_for_batch(self.vis_batch_size, self.vis_crop_size, "vis")


@dataclass(frozen=True)
class PredictConfig(Config):
    """Prediction on image files."""

    input: Texts = setting(
        (),
        "Image, folder, pattern such as 'photos/*.jpg', http(s) address, video, number of a camera, or - for standard "
        "input; repeatable.",
        required=True,
    )
    output_dir: str = setting(
        "", "Folder for the results; created if it does not exist.", required=True, writes="folder"
    )
    model: str = setting("", _MODEL)
    checkpoint_dir: str = setting("", _SAME, rare=True)
    checkpoint_path: str = setting("", _SAME, rare=True)
    export_path: str = setting("", _SAME, rare=True)
    recursive: bool = setting(False, "Include the subfolders of input folders.")
    all_pages: bool = setting(False, "Predict every page of a TIFF and every frame of a GIF, not only the first.")
    max_frames: int | None = setting(
        None,
        "Number of frames after which a video or camera ends (unset: at its end, or at Ctrl-C).",
        min=1,
        unit="frames",
    )
    temporal_smoothing: float = setting(
        0.0,
        "Weight of the previous frames of a video, 0 to below 1: labels flicker less, but lag behind motion.",
        min=0,
        max=0.99,
        because="at 1, every frame would repeat the first one",
    )
    overwrite: bool = setting(False, "Replace the results of an earlier run.")
    save_mask: bool = setting(True, "Write mask/NAME.png: class numbers as pixels, with a palette.")
    save_color: bool = setting(True, "Write color/NAME.png: each pixel in the color of its class.")
    save_overlay: bool = setting(True, "Write overlay/NAME.png: those colors over the image.")
    save_probabilities: str = setting(
        "",
        "Write probabilities: npz = NAME.npz, float16 [H, W, classes]; png = one gray PNG per class, 255 = 1.0.",
        choices=("", "npz", "png"),
    )
    save_cutouts: bool = setting(
        False, "Write cutout/NAME.png: the image with a transparent background (RGBA, soft edges)."
    )
    cutout_classes: Texts = setting((), "Names or numbers of the classes that cut-outs keep (unset: all but class 0).")
    save_areas: bool = setting(False, "Write areas.csv: the area of each class in each image, in pixels.")
    save_polygons: Texts = setting(
        (), "Write annotations to open in a tool, separated by commas: coco, labelme, cvat, yolo, geojson."
    )
    polygon_tolerance: float = setting(
        1.0, "Distance by which polygons may differ from the mask, for fewer points; 0 = exact.", min=0, unit="pixels"
    )
    overlay_opacity: float = setting(0.5, "Opacity of the class colors over the image, 0 to 1.", min=0, max=1)
    overlay_background: bool = setting(False, OVERLAY_BACKGROUND)
    overlay_legend: bool = setting(
        False, "Print the class names of an image, with their colors, below its overlay; not in videos."
    )
    dataset: str = setting("", "Known dataset or dataset.yml for class names and colors (unset: as trained).")
    crop_size: Size | None = setting(
        None, "Height,width to which images are padded (unset: each keeps its size).", **IMAGE_SIDE, unit="pixels"
    )
    tile_size: int | None = setting(
        None,
        "Predict larger images in overlapping tiles of this height and width (unset: as a whole).",
        **IMAGE_SIDE,
        unit="pixels",
    )
    tile_overlap: int = setting(64, "Minimum overlap of tiles, at most half a tile.", min=0, unit="pixels")
    shrink_large_images: bool = setting(
        False, "Shrink images that are larger than the crop, and enlarge their masks again."
    )
    beam: bool = setting(
        False,
        "Predict in an Apache Beam pipeline (extra beam), for more images than one machine can predict; resumes after "
        "a stop.",
        rare=True,
    )
    beam_options: str = setting(
        "", "Options of the pipeline, e.g. `runner=FlinkRunner` `flink_master=host:8081`.", rare=True
    )
    beam_output: str = setting(
        "files",
        "What the pipeline writes: files = the same as without it; tfrecord = TFRecord shards that hold these files.",
        choices=("files", "tfrecord"),
        rare=True,
    )
    images_per_shard: int = setting(
        100, "Images per shard, the unit of work of the pipeline.", min=1, unit="images", rare=True
    )

    def validate(self) -> None:
        if not self.beam:
            return
        for name in ("max_frames", "temporal_smoothing"):
            if getattr(self, name):
                raise UserError("conflicting-settings", "is for videos, which `beam` does not support", field=name)


def _require_crop_for_batch(batch_size: int, crop_size: Size | None, command: str) -> None:
    if batch_size > 1 and not crop_size:
        rule, hint = "images of different sizes cannot form a batch", f"add `{command}_crop_size=HEIGHT,WIDTH`"
        raise UserError("missing-setting", rule, hint, field=f"{command}_batch_size")


def model_source(config: EvalConfig | VisConfig | PredictConfig) -> str:
    """The model, under whichever of its names it was given.

    Raises:
      UserError: none was given, or several that differ.
    """
    names = ("model", "checkpoint_dir", "checkpoint_path", "export_path")
    given = {name: getattr(config, name) for name in names if getattr(config, name, "")}
    if not given:
        from deeplab.config.command_line import UsageError  # here: it imports what the library does without

        hint = "give a training folder, a checkpoint or an exported file"
        raise UsageError("missing-setting", "must be given", hint, field="model")
    if len(set(given.values())) != 1:
        rule = f"{' and '.join(f'`{name}`' for name in given)} name different models"
        raise UserError("conflicting-settings", rule, "give one of them", field="model")
    return next(iter(given.values()))
