"""Scenes of four bands of 16 bits, as satellites see them: field, water and roof, told apart by all bands together."""

from __future__ import annotations

import pathlib

import cv2
import numpy as np
from PIL import Image

CLASSES = ("field", "water", "roof")
MEANS = np.array([[800, 900, 700, 3600], [1000, 1500, 900, 600], [3000, 2800, 2600, 2500]], float)


def scene(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint16 [H, W, 4] and label uint8 [H, W] with discs of classes 1 and 2."""
    random = np.random.default_rng(seed)
    label = np.zeros((height, width), np.uint8)
    for number in range(max(6, height * width // 2500)):
        center = int(random.integers(0, width)), int(random.integers(0, height))
        cv2.circle(label, center, int(random.integers(6, 16)), 1 + number % 2, -1)
    image = MEANS[label] + random.normal(0, 120, (height, width, 4))
    return image.clip(0, 65535).astype(np.uint16), label


def write_arrays(folder: pathlib.Path, number: int, height: int = 48, width: int = 56) -> tuple[str, str]:
    """Scenes as `.npy` with masks as PNG; the folders of images and masks."""
    images, masks = folder / "images", folder / "masks"
    for place in (images, masks):
        place.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        image, label = scene(height, width, index)
        np.save(images / f"s{index:02d}.npy", image)
        Image.fromarray(label).save(masks / f"s{index:02d}.png")
    return str(images), str(masks)
