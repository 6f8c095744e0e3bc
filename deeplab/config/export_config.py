"""Settings of the export.

One dataclass per group of flags, one field per flag; see `fields.py`. No TensorFlow here.
"""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.fields import Floats, Size, Texts, require_positive, setting


@dataclass(frozen=True)
class ExportConfig:
    """One export of a checkpoint."""

    checkpoint_path: str = setting("", "Checkpoint prefix, training folder, or zoo:NAME.", required=True)
    export_path: str = setting(
        "", "File to write (.pb or the suffix of another format), or a folder for the usual names.", required=True
    )
    formats: Texts = setting(("frozen_graph", "saved_model"), "Formats to write: frozen_graph, saved_model.")
    num_classes: int | None = setting(None, "Number of classes (unset: as trained, else 21).", shapes_weights=True)
    crop_size: Size = setting((513, 513), "Height and width of the model's input.")
    inference_scales: Floats = setting((1.0,), "Scales whose probabilities are averaged.")
    add_flipped_images: bool = setting(False, "Also average with the mirrored image's probabilities.")
    saved_model: bool = setting(True, "false leaves saved_model out of `formats`.")
    fold_batch_norm: bool = setting(True, "Fold batch norm into the convolutions where predictions stay the same.")
    overwrite: bool = setting(False, "Replace files at the same place that are not exports.")
    parity_images: int = setting(4, "Number of images on which the export is checked against the model.")
    parity_folder: str = setting("", "Folder of those images (unset: the dataset's, else generated portraits).")
    dataset: str = setting("", "Known dataset or dataset.yml for class names (unset: as trained).")
    dataset_dir: str = setting("", "Folder of records whose images are used for that check (unset: as trained).")
    save_inference_graph: bool = setting(False, "Also write the frozen graph as text, inference_graph.pbtxt.")
    label_weights: Floats = setting((), "Loss weight of each class.", retired="an export has no loss")

    def __post_init__(self) -> None:
        require_positive(self, "num_classes", "crop_size", "inference_scales", "parity_images")

    def chosen_formats(self) -> tuple[str, ...]:
        """Return the names of the formats to write, each once."""
        names = [name.strip() for text in self.formats for name in text.split(",")]
        return tuple(dict.fromkeys(name for name in names if name and (self.saved_model or name != "saved_model")))
