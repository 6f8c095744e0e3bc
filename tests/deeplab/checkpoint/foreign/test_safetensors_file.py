"""Safetensors files are read as their format says, and damage is an error."""

import json

import numpy as np
import pytest
from support.errors import raises
from support.foreign_weights import write_safetensors

from deeplab.checkpoint.foreign.safetensors_file import SafetensorsFile


def written(path, header: dict, data: bytes) -> str:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return str(path)


def test_values_and_types(tmp_path):
    half, brain = np.array([1.5, -2], np.float16), np.array([1.5, -2], np.float32)
    data = half.tobytes() + (brain.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    header = {
        "__metadata__": {"format": "pt"},
        "half": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
        "brain": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [4, 8]},
    }
    file = SafetensorsFile(written(tmp_path / "a.safetensors", header, data))
    assert file.shapes == {"half": (2,), "brain": (2, 1)}
    np.testing.assert_array_equal(file.array("half"), half)
    np.testing.assert_array_equal(file.array("brain"), brain[:, np.newaxis])


def test_what_was_written_is_read(tmp_path):
    values = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7)}
    write_safetensors(tmp_path / "b.safetensors", values)
    file = SafetensorsFile(str(tmp_path / "b.safetensors"))
    for name, value in values.items():
        np.testing.assert_array_equal(file.array(name), value)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 16]},  # beyond the end
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]},
        {"dtype": "F4", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0]},
        {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]},
        [1, 2],
        None,
    ],
)
def test_entries_that_contradict_the_file_are_errors(tmp_path, entry):
    path = written(tmp_path / "c.safetensors", {"w": entry}, bytes(8))
    with raises("damaged-checkpoint", where="c.safetensors"):
        SafetensorsFile(path)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\xff" * 8, (4).to_bytes(8, "little") + b"[1]x", bytes(8)])
def test_files_without_a_header_are_errors(tmp_path, data):
    path = tmp_path / "d.safetensors"
    path.write_bytes(data)
    with raises("damaged-checkpoint", where="d.safetensors"):
        SafetensorsFile(str(path))


def test_deeply_nested_headers_are_errors(tmp_path):
    text = b"[" * 100_000
    path = tmp_path / "e.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with raises("damaged-checkpoint", where="e.safetensors"):
        SafetensorsFile(str(path))
