"""Predicts an image with an ONNX export by OpenCV alone; needs OpenCV 5, or a file of --onnx_for=opencv4.

python examples/run_opencv.py model.onnx metadata.json photo.jpg mask.png
"""

import json
import sys

import cv2
import numpy as np

model, metadata, photo, mask = sys.argv[1:]
with open(metadata, encoding="utf-8") as file:
    described = json.load(file)
height, width = described["input"]["padded_to"].values()
image = cv2.imread(photo)
if image is None:
    sys.exit(f"error: cannot read {photo}")
image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
scale = min(1, height / image.shape[0], width / image.shape[1])  # a larger image is shrunk to fit
rows, columns = (max(1, round(scale * side)) for side in image.shape[:2])
image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA) if scale < 1 else image
pixels = np.full((1, height, width, 3), described["input"]["padding_color"], np.float32)
pixels[0, :rows, :columns] = image
runner = cv2.dnn.readNetFromONNX(model)
runner.setInput(pixels, "image")
labels = runner.forward(["SemanticPredictions"])[0][0, :rows, :columns]
cv2.imwrite(mask, labels.astype(np.uint8 if len(described["classes"]) <= 256 else np.uint16))
print({described["classes"][label]: int(np.sum(labels == label)) for label in np.unique(labels).astype(int)})
