"""Weights made by a formula, so that a model of another project can be given the same ones here and there.

A value depends on the name and shape of the tensor alone. Batch norm keeps the maps at a spread of about 1: rounding is
not amplified from layer to layer.
"""

import gzip
import json
import math
import pathlib
import zlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "foreign_logits.json.gz"


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of that name, as PyTorch (`layer.weight`) or Keras (`layer/kernel`) calls it: float32."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.replace("/", ".").rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.array(7, np.int64)
    if leaf in ("running_var", "moving_variance"):
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    if leaf in ("running_mean", "moving_mean", "bias", "beta"):
        return random.normal(0, 0.1, shape).astype(np.float32)
    if leaf == "gamma" or len(shape) == 1:
        return random.uniform(0.5, 1.0, shape).astype(np.float32)
    inputs = {"kernel": shape[:3], "depthwise_kernel": shape[:2]}.get(leaf, shape[1:])
    return random.standard_normal(shape, np.float32) * np.float32(math.sqrt(1.5 / math.prod(inputs)))


def image(height: int, width: int) -> np.ndarray:
    """A uint8 image [height, width, 3]: colored blobs."""
    random = np.random.default_rng(5)
    rows, columns = np.mgrid[:height, :width] / 16.0
    waves = random.uniform(-1, 1, (3, 6, 3))
    values = [sum(np.sin(a * rows + b * columns + 3 * c) for a, b, c in channel) for channel in waves]
    return np.clip(127.5 + 40 * np.stack(values, -1), 0, 255).astype(np.uint8)


def pixels(logits: np.ndarray) -> np.ndarray:
    """The logits at nine pixels of a map [height, width, classes]: its corners, edges and middle."""
    height, width, _ = logits.shape
    return logits[np.ix_([0, height // 2, height - 1], [0, width // 2, width - 1])]


def goldens() -> dict:
    """Name -> shapes of the tensors, size of the image, and the original's logits at `pixels`."""
    return json.loads(gzip.decompress(GOLDEN.read_bytes()))


def tensors(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """All tensors of a model."""
    return {name: value(name, tuple(shape)) for name, shape in shapes.items()}


def write_safetensors(path: pathlib.Path, values: dict[str, np.ndarray]) -> None:
    """Writes float32 and int64 tensors as the safetensors format describes."""
    header, position = {}, 0
    for name, array in values.items():
        kind = {"f": "F32", "i": "I64"}[array.dtype.kind]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [position, position + array.nbytes]}
        position += array.nbytes
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in values.values():
            file.write(np.ascontiguousarray(array).tobytes())
