"""The fraction of zeros in a model, and its size when compressed.

Used by the reports of trainings and exports. It knows only arrays and their names, and changes nothing.
"""

from __future__ import annotations

import os
import pathlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Sparsity:
    """Zeros of a model's kernels, and bytes of all its weights.

    Attributes:
      zeros, weights: of the kernels that have zeros; elements.
      kernels: their number.
      size, compressed: bytes of all float32 weights, and after gzip (0 where no kernel has zeros).
    """

    zeros: int
    weights: int
    kernels: int
    size: int
    compressed: int

    @property
    def fraction(self) -> float:
        """Zeros over weights of the kernels that have zeros; 0 where none has."""
        return self.zeros / self.weights if self.weights else 0.0

    def text(self) -> str:
        """One sentence without a full stop: "50.0 % of the 1,234 weights in 12 pruned kernels are 0; ..."."""
        return (
            f"{100 * self.fraction:.1f} % of the {self.weights:,} weights in {self.kernels} pruned kernels are 0; "
            f"all weights take {self.size / 1e6:.2f} MB, {self.compressed / 1e6:.2f} MB after gzip"
        )


def sparsity_of(arrays: Mapping[str, np.ndarray], min_fraction: float = 0.01) -> Sparsity:
    """Count the zeros of kernels.

    Args:
      arrays: weights by name; those of two and more dimensions are kernels.
      min_fraction: fraction of zeros from which a kernel counts as pruned; below it they are chance.
    """
    zeros = {name: int(np.count_nonzero(array == 0)) for name, array in arrays.items() if array.ndim > 1}
    pruned = [name for name, number in zeros.items() if number >= max(1, min_fraction * arrays[name].size)]
    return Sparsity(
        sum(zeros[name] for name in pruned),
        sum(arrays[name].size for name in pruned),
        len(pruned),
        sum(array.nbytes for array in arrays.values()),
        compressed_size(b"".join(array.tobytes() for array in arrays.values())) if pruned else 0,
    )


def compressed_size(content: bytes) -> int:
    """Bytes of a text after gzip (without its header of 18 bytes)."""
    packer = zlib.compressobj()
    blocks = range(0, len(content), _BLOCK)
    return sum(len(packer.compress(content[start : start + _BLOCK])) for start in blocks) + len(packer.flush())


def compressed_file_size(path: str) -> int:
    """Bytes of a file after gzip, or of all files in a folder."""
    files = [file for file in pathlib.Path(path).rglob("*") if file.is_file()] if os.path.isdir(path) else [path]
    return sum(compressed_size(pathlib.Path(file).read_bytes()) for file in files)
