"""Predicts an image with a LiteRT export; needs ai-edge-litert, NumPy and Pillow, nothing of TensorFlow.

python examples/run_litert.py model.tflite photo.jpg mask.png
"""

import json
import sys
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

model, photo, mask = sys.argv[1:]
described = json.loads(zipfile.ZipFile(model).read("deeplab.json"))
height, width = described["input"]["size"]
image = Image.open(photo).convert("RGB")
image.thumbnail((width, height))  # a larger image is shrunk to fit
pixels = np.full((1, height, width, 3), described["padding_color"], np.float32)
pixels[0, : image.height, : image.width] = image
if described["input"]["dtype"] == "int8":
    pixels -= 128
predict = Interpreter(model).get_signature_runner("labels")
labels = predict(image=pixels.astype(described["input"]["dtype"]))["SemanticPredictions"]
labels = labels[0, : image.height, : image.width]
Image.fromarray(labels.astype(np.uint8)).save(mask)
print({described["classes"][label]: int(np.sum(labels == label)) for label in np.unique(labels)})
