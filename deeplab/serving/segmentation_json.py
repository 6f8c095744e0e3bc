"""The JSON of `/segment`: classes with their areas, labels and confidence as PNG, outlines as polygons.

Used by the server for the page and for programs. Pure functions.
"""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np

from deeplab.data import mask_files
from deeplab.data.images import encode_png
from deeplab.data.label_bits import as_label
from deeplab.inference.predictor import Prediction, Predictor

MIN_POLYGON_AREA = 4.0  # pixels; smaller specks are no use as polygons


def content(name: str, predictor: Predictor, prediction: Prediction, polygons: bool) -> dict[str, Any]:
    """Describe a prediction.

    Args:
      name: of the model.
      predictor: gives names and colors of the classes.
      prediction: labels, and probabilities if the model has them.
      polygons: add the outlines of every class but the background.

    Returns:
      model, height, width; classes: index, name, color "#rrggbb", fraction of the image; labels_png: gray PNG of class
      numbers, base64, of 16 bits beyond 256 classes, where labels_rgb_png has their low and high bytes as red and
      green; confidence_png: gray PNG of the probability of the predicted class, 255 = 1.0, base64, or null;
      polygons: see `polygons_of`.
    """
    labels, scores = prediction
    count = max(predictor.num_classes or 0, int(labels.max()) + 1)
    fractions = np.bincount(labels.ravel(), minlength=count) / labels.size
    names = [*predictor.class_names, *(f"class_{index}" for index in range(len(predictor.class_names), count))]
    classes = [
        {
            "index": index,
            "name": names[index],
            "color": "#{:02x}{:02x}{:02x}".format(*predictor.colors[index].tolist()),
            "fraction": float(fractions[index]),
        }
        for index in range(count)
    ]
    confidence = None if scores is None else (scores.max(-1) * 255).round().clip(0, 255).astype(np.uint8)
    label = as_label(labels, predictor.num_classes)
    found: dict[str, Any] = {
        "model": name,
        "height": labels.shape[0],
        "width": labels.shape[1],
        "classes": classes,
        "labels_png": _base64(mask_files.encode_label(label)),
        "confidence_png": None if confidence is None else _base64(mask_files.encode_label(confidence)),
    }
    if label.dtype == np.uint16:  # browsers decode no more than 8 bits of a channel
        planes = np.dstack([label & 255, label >> 8, 0 * label]).astype(np.uint8)
        found["labels_rgb_png"] = _base64(encode_png(planes).data)
    if polygons:
        found["polygons"] = polygons_of(labels, names)
    return found


def polygons_of(labels: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    """Outlines of the regions of every class but 0.

    Args:
      labels: integers [H, W].
      names: one per class.

    Returns:
      One entry per region: class (its name), index, points [[x, y], ...] at pixel centers, and holes, lists of points.
    """
    found = []
    for index in np.unique(labels)[np.unique(labels) > 0].tolist():
        region = (labels == index).astype(np.uint8)
        outlines, tree = cv2.findContours(region, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        for place, outline in enumerate(outlines):
            if tree[0][place][3] >= 0 or cv2.contourArea(outline) < MIN_POLYGON_AREA:
                continue
            holes, hole = [], tree[0][place][2]
            while hole >= 0:
                if cv2.contourArea(outlines[hole]) >= MIN_POLYGON_AREA:
                    holes.append(outlines[hole][:, 0].tolist())
                hole = tree[0][hole][0]
            found.append({"class": names[index], "index": index, "points": outline[:, 0].tolist(), "holes": holes})
    return found


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
