"""Predicts an image with an ONNX export; needs onnxruntime, NumPy and Pillow, nothing of TensorFlow.

python examples/run_onnx.py model.onnx photo.jpg mask.png
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, photo, mask = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
described = json.loads(session.get_modelmeta().custom_metadata_map["deeplab"])
height, width = described["input"]["size"]
image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
image.thumbnail((width, height))  # a larger image is shrunk to fit
pixels = np.full((1, height, width, 3), described["padding_color"], np.float32)
pixels[0, : image.height, : image.width] = image
labels = session.run(["SemanticPredictions"], {"image": pixels})[0][0, : image.height, : image.width]
Image.fromarray(labels.astype(np.uint8 if len(described["classes"]) <= 256 else np.uint16)).save(mask)
print({described["classes"][label]: int(np.sum(labels == label)) for label in np.unique(labels)})
