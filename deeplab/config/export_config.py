"""Settings of the export.

One dataclass per group of flags, one field per flag; see `fields.py`. No TensorFlow here.
"""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.fields import Floats, Size, require_positive, setting


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
