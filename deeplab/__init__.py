"""DeepLab v3 and v3+ for semantic segmentation on today's TensorFlow.

Three doors: tensors (`deeplab.model.build_model`, a `keras.Model`), pictures (`deeplab.Segmenter`) and
folders (the commands: `python deeplab/train.py ...`, `python -m deeplab.train ...`, `deeplab train ...`).
"""

import os

# TensorFlow's own notes at start (oneDNN, CPU features) hide what our commands have to say.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

__version__ = "0.1.0"
__all__ = ["Segmenter", "__version__"]


def __getattr__(name: str):
    """Loads `Segmenter` on first use: `import deeplab` alone stays fast and free of TensorFlow."""
    if name == "Segmenter":
        from deeplab.inference.segmenter import Segmenter

        return Segmenter
    raise AttributeError(f"module 'deeplab' has no attribute {name!r}")
