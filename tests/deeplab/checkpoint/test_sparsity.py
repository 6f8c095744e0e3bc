"""Counting zeros, and sizes after gzip beside those of the module gzip."""

import gzip

import numpy as np
import pytest

from deeplab.checkpoint.sparsity import compressed_file_size, compressed_size, sparsity_of


def test_zeros_are_those_of_pruned_kernels_alone():
    draw = np.random.default_rng(0)
    pruned, chance = (draw.normal(size=(1, 1, 40, 50)).astype(np.float32) for _ in range(2))
    pruned.ravel()[:1500] = 0
    chance.ravel()[:3] = 0
    found = sparsity_of({"a/weights": pruned, "b/weights": chance, "a/biases": np.zeros(50, np.float32)})
    assert (found.zeros, found.weights, found.kernels, found.size) == (1500, 2000, 1, 2 * 8000 + 200)
    assert found.fraction == 0.75 and "75.0 % of the 2,000 weights in 1 pruned kernels" in found.text()
    assert 8000 < found.compressed < 12000


def test_a_dense_model_has_none():
    found = sparsity_of({"a/weights": np.ones((2, 2), np.float32)})
    assert (found.zeros, found.kernels, found.fraction, found.compressed) == (0, 0, 0, 0)


@pytest.mark.parametrize("content", [b"", b"abc" * 1000, bytes(range(256)) * 9000])
def test_sizes_are_those_of_gzip(content, tmp_path):
    assert abs(compressed_size(content) - len(gzip.compress(content, 6))) <= 18
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(content)
    assert compressed_file_size(str(tmp_path)) == compressed_size(content)
    assert compressed_file_size(str(tmp_path / "deep" / "file")) == compressed_size(content)
