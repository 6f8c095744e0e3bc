"""Config of exports."""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.data_config import IMAGE_SIDE
from deeplab.config.fields import Config, Floats, Size, Texts, setting, split_words
from deeplab.config.prediction_config import ADD_FLIPPED_IMAGES, CHECKPOINT, CHECKPOINTS, SCALES, USE_AVERAGES


@dataclass(frozen=True)
class ExportConfig(Config):
    """Export of a checkpoint."""

    checkpoint_path: str = setting("", "Training folder, checkpoint prefix, zoo:NAME or hf://USER/NAME.", required=True)
    checkpoint: str = setting("latest", CHECKPOINT, choices=CHECKPOINTS)
    use_averages: bool = setting(True, USE_AVERAGES, rare=True)
    export_path: str = setting(
        "",
        "File to write (.pb or the suffix of another format), or a folder for the usual names.",
        required=True,
        writes="either",
    )
    formats: Texts = setting(
        ("frozen_graph", "saved_model"),
        "Formats to write: frozen_graph, saved_model, keras, litert, litert_float16, litert_dynamic, litert_int8, "
        "mediapipe, onnx, onnx_dynamic, onnx_int8, openvino, openvino_float16, openvino_int8, mnn, mnn_float16, "
        "mnn_int8, coreml, coreml_int8, web_page; all = every one whose libraries are installed.",
    )
    num_classes: int | None = setting(
        None,
        "Number of classes (unset: that of the checkpoint).",
        min=1,
        max=65535,
        because="labels have at most 16 bits",
        rare=True,
        shapes_weights=True,
    )
    crop_size: Size = setting((513, 513), "Height,width of the model's input.", **IMAGE_SIDE, unit="pixels")
    inference_scales: Floats = setting((1.0,), "Scales whose probabilities are averaged.", **SCALES)
    add_flipped_images: bool = setting(False, ADD_FLIPPED_IMAGES)
    fixed_size: bool = setting(
        False,
        "Whether frozen_graph and saved_model take one image of exactly `crop_size` pixels, float32, 0..255, without "
        "padding or cutting inside (off: images of any size).",
    )
    saved_model: bool = setting(True, "Write a SavedModel (off: leave saved_model out of `formats`).", rare=True)
    web_runtime: str = setting(
        "", "Folder of the npm package onnxruntime-web, for web_page (unset: fetched by npm, once).", rare=True
    )
    model_version: int | None = setting(
        None,
        "Write the SavedModel into a subfolder of this number, as TensorFlow Serving expects it; other versions are "
        "kept (unset: no subfolder).",
        min=0,
        rare=True,
    )
    fold_batch_norm: bool = setting(
        True, "Fold batch norm into the convolutions if the predictions stay the same.", rare=True
    )
    overwrite: bool = setting(False, "Replace files at the same place that are not exports.")
    parity_images: int = setting(
        4,
        "Number of images on which the exported files are compared with the model.",
        min=1,
        max=10000,
        because="all of them are kept in memory",
        unit="images",
    )
    parity_folder: str = setting("", "Folder of those images (unset: the dataset's, else generated portraits).")
    dataset: str = setting("", "Known dataset or dataset.yml for class names and colors (unset: as trained).")
    dataset_dir: str = setting(
        "", "Folder of records whose images are used for the comparison (unset: as trained).", rare=True
    )
    measure_time: bool = setting(True, "Measure how long each file takes for an image.", rare=True)
    max_miou_drop: float = setting(
        0.01,
        "Largest loss of mean IoU of a format with reduced precision on `quality_split`; if it loses more, the export "
        "fails.",
        min=0,
        max=1,
    )
    quality_split: str = setting("val", "Split of `dataset_dir` on which this loss is measured.", rare=True)
    quality_images: int = setting(
        200,
        "Number of images from that split, spread evenly over it.",
        min=1,
        max=100_000,
        because="every format predicts all of them",
        unit="images",
        rare=True,
    )
    min_label_agreement: float = setting(
        0.9,
        "Smallest fraction of pixels in which a format with reduced precision must equal the model, where no labels "
        "are known.",
        min=0,
        max=1,
        rare=True,
    )
    calibration_images: str = setting(
        "",
        "Images from which int8 formats get their ranges: a folder of images or of records (unset: the split train of "
        "`dataset_dir`).",
    )
    calibration_count: int = setting(
        100,
        "Number of calibration images; images from records are spread over the classes.",
        min=1,
        max=10_000,
        because="they are in memory at the same time",
        unit="images",
    )
    calibration_seed: int = setting(0, "Seed for choosing the calibration images.", min=0, rare=True)
    int8_input: str = setting("uint8", "Type of the image that int8 files take.", choices=("uint8", "int8"))
    int8_output: str = setting(
        "labels",
        "What litert_int8 computes: the labels, or the logits before upsampling.",
        choices=("labels", "logits"),
    )
    export_probabilities: bool = setting(
        True, "Whether onnx, openvino and mnn files compute probabilities beside the labels (off: faster)."
    )
    onnx_for: str = setting(
        "onnxruntime",
        "Program that the onnx files are for; opencv4 = OpenCV 4.5 and later, whose files other programs may refuse.",
        choices=("onnxruntime", "opencv4"),
        rare=True,
    )
    onnx_int8: str = setting(
        "u8u8",
        "Integers of onnx_int8: u8u8 suits every processor; u8s8_reduced has weights of 7 bits; u8s8 needs VNNI, or "
        "sums saturate.",
        choices=("u8u8", "u8s8_reduced", "u8s8"),
        rare=True,
    )
    float_layers: Texts = setting(
        (),
        "Layers that litert_int8 keeps in float, by the scope of their variables, such as logits.",
        rare=True,
    )
    save_inference_graph: bool = setting(
        False, "Also write the frozen graph as text, inference_graph.pbtxt.", rare=True
    )
    label_weights: Floats = setting((), "Loss weight per class.", retired="an export has no loss")

    def chosen_formats(self) -> tuple[str, ...]:
        """Return the names of the formats to write, each once; "all" is kept as a name."""
        names = split_words(self.formats)
        return tuple(dict.fromkeys(name for name in names if self.saved_model or name != "saved_model"))
