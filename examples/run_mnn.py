"""Predicts an image with an MNN export; needs MNN, NumPy and Pillow, nothing of TensorFlow.

python examples/run_mnn.py model.mnn photo.jpg mask.png
"""

import json
import sys
import zipfile

import MNN
import numpy as np
from PIL import Image, ImageOps

model, photo, mask = sys.argv[1:]
described = json.loads(zipfile.ZipFile(model).read("deeplab.json"))
height, width = described["input"]["size"]
image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
image.thumbnail((width, height))  # a larger image is shrunk to fit
pixels = np.full((1, height, width, 3), described["padding_color"], np.float32)
pixels[0, : image.height, : image.width] = image
module = MNN.nn.load_module_from_file(model, ["image"], ["SemanticPredictions"])
given = MNN.expr.const(pixels, list(pixels.shape), MNN.expr.data_format.NCHW)  # keeps the shape as it is
labels = np.array(module.forward([given])[0].read()).reshape(height, width)[: image.height, : image.width]
Image.fromarray(labels.astype(np.uint8 if len(described["classes"]) <= 256 else np.uint16)).save(mask)
print({described["classes"][label]: int(np.sum(labels == label)) for label in np.unique(labels)})
