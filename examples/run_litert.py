"""Predicts an image with a LiteRT export; needs ai-edge-litert, NumPy and Pillow, nothing of TensorFlow.

python examples/run_litert.py model.tflite photo.jpg mask.png
"""

import json
import sys
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

model, photo, mask = sys.argv[1:]
described = json.loads(zipfile.ZipFile(model).read("deeplab.json"))
height, width = described["input"]["size"]
image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
image.thumbnail((width, height))  # a larger image is shrunk to fit
pixels = np.full((1, height, width, 3), described["padding_color"], np.float32)
pixels[0, : image.height, : image.width] = image
dtype = described["input"]["dtype"]
if dtype != "float32":  # uint8 is 0..255, int8 is 0..255 minus 128
    pixels = (pixels.round() - (128 if dtype == "int8" else 0)).astype(dtype)
predict = Interpreter(model).get_signature_runner("labels")
labels = predict(image=pixels)["SemanticPredictions"]
labels = labels[0, : image.height, : image.width]
Image.fromarray(labels.astype(np.uint8 if len(described["classes"]) <= 256 else np.uint16)).save(mask)
print({described["classes"][label]: int(np.sum(labels == label)) for label in np.unique(labels)})
