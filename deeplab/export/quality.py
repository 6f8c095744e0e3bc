"""Measures the loss of formats with reduced precision: their mean IoU and the model's, on the same labeled images.

Owns the choice of these images and the two rules that such a format must keep: the largest loss of mean IoU, or where
no labels are known, the smallest fraction of pixels equal to the model's. Used by the exporter. It does not compare
probabilities; formats with full precision are compared by `parity`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.config.export_config import ExportConfig
from deeplab.config.fields import Size
from deeplab.data import dataset as datasets
from deeplab.data import records, transforms
from deeplab.data.bands import ImageBands
from deeplab.evaluation import ConfusionMatrix
from deeplab.evaluation.metrics import mean_iou
from deeplab.evaluation.split_images import SplitImages
from deeplab.export.parity_images import can_shrink, fitting, with_channels
from deeplab.inference.predictor import Prediction
from deeplab.utils import console
from deeplab.utils.errors import UserError

Predict = Callable[[np.ndarray], Prediction]  # uint8 [H, W, C] -> labels int32 [H, W]


@dataclass(frozen=True)
class LabeledImages:
    """Some images of a split, at most as large as the crop.

    Attributes:
      split: its name.
      num_classes, ignore_label: of the labels.
      pairs: image uint8 [H, W, C], label int32 [H, W].
    """

    split: str
    num_classes: int
    ignore_label: int
    pairs: Sequence[tuple[np.ndarray, np.ndarray]]

    def mean_iou(self, predict: Predict, what: str) -> float:
        """Mean IoU of the classes that occur in the labels, 0..1.

        Args:
          predict: the model or a file.
          what: what is measured, for the progress.
        """
        matrix = ConfusionMatrix(self.num_classes, self.ignore_label)
        for image, label in console.progress(self.pairs, what=f"measuring {what}", unit="image"):
            matrix.add(label, predict(image).labels, what)
        return mean_iou(matrix.counts)


def labeled_images(config: ExportConfig, num_classes: int, crop: Size, bands: ImageBands) -> LabeledImages | None:
    """Return images of `quality_split`, spread evenly over it; None, with a note, where the dataset has none.

    Args:
      config: `dataset_dir`, `dataset`, `quality_split`, `quality_images`.
      num_classes: of the model.
      crop: height, width; larger images and their labels are shrunk to fit.
      bands: what the model takes.

    Raises:
      UserError: damaged records, or label values outside the classes.
    """
    folder = config.dataset_dir
    if not folder or not os.path.isdir(folder) or config.quality_split not in records.shards_by_split(folder):
        where = f"{folder} has no split {config.quality_split}" if folder else "`dataset_dir` is not given"
        console.note(f"{where}: formats with reduced precision are compared with the model, not with labels")
        return None
    described = datasets.load_dataset(folder, config.dataset)
    if described.num_classes != num_classes:
        rule = f"{folder} has {described.num_classes} classes, the model {num_classes}"
        raise UserError("class-count-mismatch", rule, "give the model's dataset", field="dataset_dir", value=folder)
    images = SplitImages(described, folder, config.quality_split)
    wanted = set(np.linspace(0, len(images) - 1, min(len(images), config.quality_images)).round().astype(int).tolist())
    pairs = []
    for number, batch in enumerate(images.batches()):
        if number in wanted and batch.labels:
            image = with_channels(fitting(batch.images[0], crop), bands)
            label = batch.labels[0]
            if can_shrink(batch.images[0]):
                label = np.asarray(transforms.resize_nearest(label, image.shape[:2]))
            pairs.append((image, label[: image.shape[0], : image.shape[1]]))
    return LabeledImages(config.quality_split, num_classes, described.ignore_label, pairs) if pairs else None


def require_enough(file: str, loss: float | None, agreement: float, config: ExportConfig) -> None:
    """Stop if a format with reduced precision is too far from the model.

    Args:
      file: its name.
      loss: the model's mean IoU minus the file's; None where no labels are known.
      agreement: fraction of pixels equal to the model's, 0..1, on the images of the parity check.
      config: the two bounds.

    Raises:
      UserError: with the loss or the agreement, and the bound.
    """
    hint = "export with more or better calibration images, or another format; or allow more"
    if loss is not None and not loss <= config.max_miou_drop:
        rule = f"loses {loss:.4f} of mean IoU on {config.quality_split}, more than {config.max_miou_drop:g}"
        raise UserError("export-loses-quality", rule, hint, field="max_miou_drop", where=file, value=round(loss, 4))
    if loss is None and agreement < config.min_label_agreement:
        rule = f"equals the model in {agreement:.4f} of the pixels, less than {config.min_label_agreement:g}"
        hint += "; a labeled split (`dataset_dir`) tells how much is really lost"
        field, value = "min_label_agreement", round(agreement, 4)
        raise UserError("export-loses-quality", rule, hint, field=field, where=file, value=value)
