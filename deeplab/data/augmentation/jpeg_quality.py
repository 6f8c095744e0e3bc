"""Adds the artifacts of JPEG compression to images. RGB images only."""

from __future__ import annotations

import cv2
import numpy as np

from deeplab.data.augmentation import AUGMENTATIONS
from deeplab.data.augmentation.operation import Photometric, as_bytes


@AUGMENTATIONS.register("jpeg_quality")
class JpegQuality(Photometric):
    """The image as a JPEG of a quality between `amount` and 100 shows it."""

    name = "jpeg_quality"
    rgb_only = True

    def recolored(self, image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        quality = int(self.amount + (101 - self.amount) * draw.random())
        blue_first = np.ascontiguousarray(as_bytes(image)[..., ::-1])
        _, encoded = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]
