"""Random logits and labels for tests of losses; without TensorFlow, for tests/golden/make_loss_values.py."""

import numpy as np

IGNORE, CLASSES = 255, 3


def batch(number: int = 0, size: tuple = (2, 9, 13), scale: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """float32 logits [B, H, W, CLASSES] and int32 labels [B, H, W] in blobs, a few of them ignored."""
    draw = np.random.default_rng(number)
    logits = draw.normal(0, scale, (*tuple(size), CLASSES)).astype(np.float32)
    labels = np.repeat(np.repeat(draw.integers(0, CLASSES, tuple(size)), 2, axis=1), 3, axis=2)
    labels = labels[:, : size[1], : size[2]].astype(np.int32)
    labels[draw.uniform(size=labels.shape) < 0.1] = IGNORE
    return logits, labels
