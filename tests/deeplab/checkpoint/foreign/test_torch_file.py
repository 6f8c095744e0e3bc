"""PyTorch files are read without PyTorch, and never run."""

import pathlib
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from support.errors import raises

from deeplab import checkpoint
from deeplab.checkpoint.foreign.torch_file import TorchFile

FILES = pathlib.Path(__file__).parents[3] / "golden" / "torch_files"
numbers = np.arange(24, dtype=np.float32)
EXPECTED = {
    "plain": numbers.reshape(2, 3, 4),
    "transposed": numbers.reshape(4, 6).T,
    "part": numbers[5:11],
    "last_channels": numbers.reshape(2, 3, 2, 2),
    "parameter": numbers[:4] / 8,
    "half": (numbers[:6] / 4).astype(np.float16),
    "bfloat16": numbers[:6] / 4,
    "double": numbers[:3].astype(np.float64) / 3,
    "counter": np.array(7),
    "bytes": numbers[:3].astype(np.uint8),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "training.pth", "legacy_training.pth.tar"])
def test_tensors_are_those_that_pytorch_saved(name):
    file = TorchFile(str(FILES / name))
    assert file.shapes == {key: value.shape for key, value in EXPECTED.items()}
    for key, value in EXPECTED.items():
        read = file.array(key)
        assert read.dtype == value.dtype or key == "counter", key
        np.testing.assert_array_equal(read, value, err_msg=key)


def test_a_whole_model_is_refused_because_its_pickle_names_code():
    with raises("unsafe-pickle", where="whole_model.pth") as info:
        TorchFile(str(FILES / "whole_model.pth"))
    assert "torch.nn" in info.value.value and "state_dict" in info.value.hint


class Attack:
    """A pickle of it calls `open`, when it is loaded."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    mark = tmp_path / "ran"
    path = tmp_path / "attack.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("attack/data.pkl", pickle.dumps({"weight": Attack(mark)}, protocol=2))
    with raises("unsafe-pickle", where="attack.pth") as info:
        checkpoint.open(path)
    assert "open" in info.value.value and not mark.exists()
    path.write_bytes(pickle.dumps(Attack(mark), protocol=2))
    with raises("unsafe-pickle"):
        checkpoint.open(path)
    assert not mark.exists()


def changed_pickle(tmp_path: pathlib.Path, old: bytes, new: bytes) -> str:
    """A copy of zip.pth with something replaced in its pickle."""
    path = tmp_path / "changed.pth"
    with zipfile.ZipFile(FILES / "zip.pth") as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert old in data
                data = data.replace(old, new, 1)
            target.writestr(entry.filename, data)
    return str(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"K\x02K\x03K\x04\x87", b"K\x02K\x03K\x7f\x87"),  # a shape larger than its storage
        (b"K\x02K\x03K\x04\x87", b"K\x02K\x03J\xff\xff\xff\xff\x87"),  # a negative length
        (b"K\x0cK\x04K\x01\x87", b"K\x00K\x00J\x00\x00\x00\x7f\x87"),  # strides
        (b"FloatStorage", b"ComplexFloatStorage"),  # an unknown kind
        (b"q\x00", b"r\xff\xff\xff\x7f"),  # memory for two billion entries, in Python's own unpickler
        (b"K\x00", b"\x8b\xff\xff\xff\x7f"),  # a number of two billion bytes
    ],
)
def test_tensors_outside_their_storage_and_hostile_pickles_are_errors(tmp_path, old, new):
    with raises("damaged-checkpoint", where="changed.pth"):
        TorchFile(changed_pickle(tmp_path, old, new))


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_truncated_files_are_errors(tmp_path, name, fraction):
    data = (FILES / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(Exception) as info:
        opened = checkpoint.open(path)
        for variable in opened.shapes:
            opened.array(variable)
    assert info.value.code in ("damaged-checkpoint", "not-a-checkpoint", "unknown-weights")


def test_a_compressed_storage_is_refused(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(FILES / "zip.pth") as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    file = TorchFile(str(path))
    with raises("damaged-checkpoint", where="bomb.pth") as info:
        file.array("plain")
    assert "compressed" in info.value.rule


def test_no_entry_is_unpacked_without_a_limit(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a/data.pkl", b"")
        target.writestr("a/byteorder", bytes(64 << 20))
    tracemalloc.start()
    try:
        with raises("damaged-checkpoint", where="bomb.pth"):
            TorchFile(str(path))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_other_zip_archives_and_pickles_are_told_apart(tmp_path):
    other = tmp_path / "other.pth"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with raises("not-a-checkpoint", where="other.pth"):
        checkpoint.open(other)
    other.write_bytes(pickle.dumps({"a": struct.pack("<f", 1.0)}, protocol=2))
    with raises("not-a-checkpoint", where="other.pth"):
        checkpoint.open(other)
