"""MATLAB's files: what SciPy writes is read with the same values, other content is skipped, damage is an error."""

import io
import random
import struct
import zlib

import numpy as np
import pytest

from deeplab.data.matlab_files import read_matrices

matlab = pytest.importorskip("scipy.io", reason="writes the files")


def saved(compressed=False, **content):
    buffer = io.BytesIO()
    matlab.savemat(buffer, content, do_compression=compressed)
    return buffer.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "?"])
def test_matrices_of_any_type(dtype, compressed):
    values = (np.arange(15).reshape(3, 5) * 7 % 5).astype(dtype)
    found = read_matrices(saved(compressed, mask=values))["mask"]
    assert found.shape == (3, 5)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("values", [np.zeros((0, 4)), np.array([[3]], np.uint8), np.arange(24.0).reshape(2, 3, 4)])
def test_sizes(values):
    np.testing.assert_array_equal(read_matrices(saved(a=values))["a"], values)


def test_structs_and_what_is_skipped():
    inner = {"deep": np.eye(2), "text": "x"}
    content = {"s": {"a_long_name": np.ones((2, 2), np.uint8), "more": inner}, "word": "hair", "c": np.array([[1j, 2]])}
    found = read_matrices(saved(**content, cell=np.array([[1, "a"]], object), m=np.array([[1, 2]], np.uint8)))
    assert found["s"]["a_long_name"].tolist() == [[1, 1]] * 2 and found["s"]["more"]["deep"].tolist() == [
        [1, 0],
        [0, 1],
    ]
    assert found["s"]["more"]["text"] is found["word"] is found["c"] is found["cell"] is None
    assert found["m"].tolist() == [[1, 2]]


def test_big_endian():
    def element(kind, data):
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    parts = element(6, struct.pack(">II", 11, 0)) + element(5, struct.pack(">ii", 1, 2)) + element(1, b"mask")
    data = (
        b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI" + element(14, parts + element(4, struct.pack(">HH", 1, 300)))
    )
    assert read_matrices(data)["mask"].tolist() == [[1, 300]]


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_is_an_error_or_harmless(compressed):
    whole = saved(compressed, GTcls={"Segmentation": np.eye(9, dtype=np.uint8)}, mask=np.eye(7))
    rng = random.Random(0)
    refused = 0
    for place in range(0, len(whole), 1 if compressed else 3):
        for broken in (whole[:place], whole[:place] + rng.randbytes(1) + whole[place + 1 :]):
            try:
                read_matrices(broken)
            except ValueError as error:
                refused += bool(str(error))
    assert refused > len(whole) / 4


def test_files_of_other_versions():
    for data in (b"", b"\x00" * 200, b"MATLAB 7.3 MAT-file".ljust(126) + b"IM", b"MATLAB 5.0 MAT-file".ljust(300)):
        with pytest.raises(ValueError, match="version"):
            read_matrices(data)


def test_nesting_without_end():
    def nested(data):
        parts = [
            (6, struct.pack("<II", 2, 0)),
            (5, struct.pack("<ii", 1, 1)),
            (1, b""),
            (5, struct.pack("<i", 8)),
            (1, b"a".ljust(8, b"\0")),
            (14, data),
        ]
        return b"".join(struct.pack("<II", kind, len(part)) + part + bytes(-len(part) % 8) for kind, part in parts)

    data = b""
    for _ in range(50):
        data = nested(data)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    with pytest.raises(ValueError, match="nested too deeply"):
        read_matrices(head + struct.pack("<II", 14, len(data)) + data)


def test_a_small_file_that_would_fill_the_memory(monkeypatch):
    monkeypatch.setattr("deeplab.data.matlab_files._MAX_BYTES", 2**20)
    packed = zlib.compress(bytes(2**24))
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    with pytest.raises(ValueError, match="too large"):
        read_matrices(head + struct.pack("<II", 15, len(packed)) + packed)


def test_many_variables_that_would_fill_the_memory_together(monkeypatch):
    data = saved(compressed=True, **{f"v{number}": np.zeros(100_000, np.uint8) for number in range(20)})
    assert len(read_matrices(data)) == 20
    monkeypatch.setattr("deeplab.data.matlab_files._MAX_BYTES", 2**20)
    with pytest.raises(ValueError, match="too large"):
        read_matrices(data)
