"""The names of inputs, outputs and signatures in exported files and on servers.

Used by the export formats, which write them, by the runtimes and the server's protocol, which read them. A name is
defined here alone, because files and programs of users depend on it; nothing is imported.
"""

from __future__ import annotations

IMAGE = "image"  # of files that take one prepared image
GRAPH_IMAGE = "ImageTensor"  # of frozen graphs, as in the reference
LABELS = "SemanticPredictions"
PROBABILITIES = "SemanticProbabilities"
LOGITS = "SemanticLogits"

# Further outputs of frozen graphs, at the crop size.
RAW_ARGMAX = "ArgMax"
RAW_LABELS = "RawSemanticPredictions"
RAW_PROBABILITIES = "RawSemanticProbabilities"

# Signatures of SavedModels and of TensorFlow Serving, and the tensors that only they have.
DEFAULT_SIGNATURE, BYTES_SIGNATURE, PNG_SIGNATURE = "serving_default", "serving_bytes", "serving_png"
IMAGES, IMAGE_BYTES, MASK_BYTES = "images", "image_bytes", "mask_png_bytes"

# Signatures of LiteRT files, each with its output.
LITERT_OUTPUTS = {"labels": LABELS, "probabilities": PROBABILITIES, "logits": LOGITS}
