"""The rule behind the golden numbers: weights and images made from names and shapes alone; how labels compare.

The reference was run with these very arrays, so nothing large needs storing. Every array is drawn from
NumPy's default generator, seeded with the CRC-32 of its name.
"""

import zlib

import numpy as np

KERNEL_GAIN = 1.4  # keeps the logits of the deepest networks finite without calibrated batch norm


def generator(text: str) -> np.random.Generator:
    """The random generator that belongs to a name."""
    return np.random.default_rng(zlib.crc32(text.encode()))


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 array of a variable, from its TensorFlow-1 name (without `:0`) and shape."""
    draw = generator(name)
    leaf = name.rsplit("/", 1)[-1]
    if leaf in ("gamma", "moving_variance"):
        return draw.uniform(0.8, 1.2, size=shape).astype(np.float32)
    if leaf in ("beta", "biases", "moving_mean"):
        return (draw.standard_normal(size=shape) * 0.05).astype(np.float32)
    fan_in = np.prod(shape[:2]) if leaf == "depthwise_weights" else np.prod(shape[:-1])
    values = draw.standard_normal(size=shape) * np.sqrt(KERNEL_GAIN / fan_in)
    if tuple(shape[:3]) == (7, 7, 3):  # this ResNet stem sees 0..255 rather than -1..1
        values = values / 128.0
    return values.astype(np.float32)


def image(height: int, width: int, tag: str = "image", batch: int = 1) -> np.ndarray:
    """uint8 [batch, height, width, 3] image of 16-pixel blocks, a gradient and noise."""
    draw = generator(f"{tag}_{batch}_{height}_{width}")
    rows, columns = np.mgrid[0:height, 0:width]
    gradient = np.stack([rows / height, columns / width, (rows + columns) / (height + width)], -1) * 255.0
    images = []
    for _ in range(batch):
        blocks = draw.uniform(0, 255, size=(height // 16 + 1, width // 16 + 1, 3))[rows // 16, columns // 16]
        pixels = 0.6 * blocks + 0.25 * gradient
        images.append(pixels + draw.uniform(-30, 30, size=pixels.shape))
    return np.clip(np.rint(np.stack(images)), 0, 255).astype(np.uint8)


def require_same_labels(labels, expected, probabilities, tolerance: float) -> None:
    """Fails unless labels are equal wherever the probabilities decide.

    Where two classes are equally probable but for rounding, either is right: which one wins depends on the processor.

    Args:
      labels, expected: class indices [..., H, W].
      probabilities: those by which the labels were decided, [..., H, W, classes].
      tolerance: how far the probabilities behind `labels` and `expected` may lie apart.
    """
    labels, expected, probabilities = (np.asarray(part) for part in (labels, expected, probabilities))
    assert labels.shape == expected.shape == probabilities.shape[:-1]
    undecided = np.diff(np.sort(probabilities)[..., -2:])[..., 0] <= 2 * tolerance
    np.testing.assert_array_equal(labels[~undecided], expected[~undecided])
    assert undecided.mean() < 0.01, "hardly anything was compared"
    for either in (labels, expected):
        lead = probabilities.max(-1) - np.take_along_axis(probabilities, either[..., np.newaxis], -1)[..., 0]
        assert lead.max() <= 2 * tolerance
