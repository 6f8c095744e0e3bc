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


def large_scene(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint16 [96, 112, 4] and label uint8 [96, 112] of four scenes side by side; a corner has no value."""
    parts = [scene(48, 56, 50 + 4 * index + part) for part in range(4)]
    image, label = (
        np.concatenate([np.concatenate(side[:2], axis=1), np.concatenate(side[2:], axis=1)])
        for side in zip(*parts, strict=True)
    )
    image[:6, :9] = 0
    return image, label


def write_geotiffs(folder: pathlib.Path, number: int) -> tuple[str, str]:
    """Large scenes as GeoTIFF in tiles, and their masks; the folders of both.

    Raises:
      ImportError: rasterio is not installed.
    """
    import rasterio

    places = folder / "scenes", folder / "labels"
    for place in places:
        place.mkdir(parents=True)
    for index in range(number):
        image, label = large_scene(index)
        north = rasterio.transform.from_origin(500_000 + 1000 * index, 5_200_000, 10, 10)
        usual = {"driver": "GTiff", "crs": "EPSG:32632", "transform": north, "height": 96, "width": 112}
        tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}
        name = f"scene{index // 2}_{index % 2}.tif"
        with rasterio.open(places[0] / name, "w", count=4, dtype="uint16", nodata=0, **usual, **tiles) as file:
            file.write(image.transpose(2, 0, 1))
        with rasterio.open(places[1] / name, "w", count=1, dtype="uint8", **usual) as file:
            file.write(label, 1)
    return str(places[0]), str(places[1])
