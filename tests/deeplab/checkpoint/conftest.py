"""A small checkpoint, and ways to damage its files."""

import pathlib

import numpy as np
import pytest

from deeplab.checkpoint import writer

TENSORS = {
    "MobilenetV2/Conv/weights": np.arange(216, dtype=np.float32).reshape(3, 3, 3, 8) / 7,
    "MobilenetV2/Conv/weights/Momentum": np.full((3, 3, 3, 8), -0.25, np.float32),
    "logits/semantic/biases": np.array([1.5, -2.0, 3e-38], np.float32),
    "global_step": 300,
}


@pytest.fixture
def tensors() -> dict:
    return dict(TENSORS)


@pytest.fixture
def prefix(tmp_path) -> str:
    """A checkpoint without a state file beside it."""
    return writer.write(str(tmp_path / "logs" / "model.ckpt-300"), TENSORS)


@pytest.fixture
def damage():
    """A function that truncates a file (`size=`) or flips one byte of it (`position=`)."""

    def apply(path: str, size: int | None = None, position: int | None = None) -> None:
        content = bytearray(pathlib.Path(path).read_bytes())
        if position is not None:
            content[position] ^= 0xFF
        pathlib.Path(path).write_bytes(content[:size])

    return apply
