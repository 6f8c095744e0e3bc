"""Predicts an image with an OpenVINO export; needs openvino, NumPy and Pillow, nothing of TensorFlow.

python examples/run_openvino.py model_openvino/model.xml photo.jpg mask.png
"""

import json
import sys

import numpy as np
import openvino
from PIL import Image, ImageOps

file, photo, mask = sys.argv[1:]
model = openvino.Core().read_model(file)
described = json.loads(model.get_rt_info("deeplab").astype(str))
height, width = described["input"]["size"]
image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
image.thumbnail((width, height))  # a larger image is shrunk to fit
pixels = np.full((1, height, width, 3), described["padding_color"], np.float32)
pixels[0, : image.height, : image.width] = image
predict = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
labels = predict({"image": pixels})["SemanticPredictions"][0, : image.height, : image.width]
Image.fromarray(labels.astype(np.uint8 if len(described["classes"]) <= 256 else np.uint16)).save(mask)
print({described["classes"][label]: int(np.sum(labels == label)) for label in np.unique(labels)})
