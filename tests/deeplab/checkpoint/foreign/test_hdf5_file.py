"""Keras HDF5 files are read as data; links and values elsewhere are refused."""

import h5py
import numpy as np
import pytest
from support.errors import raises

from deeplab.checkpoint.foreign.hdf5_file import Hdf5File


@pytest.mark.parametrize("root", ["", "model_weights/"])
def test_weights_by_layer(tmp_path, root):
    path = str(tmp_path / "a.h5")
    kernel = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    with h5py.File(path, "w") as file:
        file[f"{root}aspp0/aspp0/kernel:0"] = kernel
        file[f"{root}Conv_BN/Conv_BN/moving_mean:0"] = np.ones(3, np.float32)
        file["optimizer_weights/Adam/iter:0"] = 3
    read = Hdf5File(path)
    assert read.shapes == {"aspp0/kernel": (1, 1, 2, 3), "Conv_BN/moving_mean": (3,)}
    np.testing.assert_array_equal(read.array("aspp0/kernel"), kernel)


def test_layers_whose_names_have_several_parts(tmp_path):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        for layer in ("Conv", "Conv/BatchNorm", "expanded_conv/depthwise/Conv"):
            file[f"model_weights/{layer}/{layer}/kernel:0"] = np.zeros(1, np.float32)
    read = Hdf5File(path)
    assert list(read.shapes) == ["Conv/BatchNorm/kernel", "Conv/kernel", "expanded_conv/depthwise/Conv/kernel"]


@pytest.mark.parametrize(
    ("description", "rates"),
    [
        (
            '{"config": {"layers": [{"config": {"name": "a", "dilation_rate": [4, 4]}}, {"config": {"name": "b"}}]}}',
            {"a": 4},
        ),
        ('{"config": {"layers": [{"config": {"name": "a", "dilation_rate": []}}]}}', {}),
        ('{"config": []}', {}),
        ("[" * 100_000, {}),
        ("no JSON", {}),
    ],
    ids=["layers", "no rate", "no layers", "deep", "no JSON"],
)
def test_dilation_rates_are_read_from_the_description(tmp_path, description, rates):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w", libver="latest") as file:
        file["layer/kernel:0"] = np.ones(1, np.float32)
        file.attrs["model_config"] = description
    assert Hdf5File(path).dilation_rates == rates


def test_links_to_other_files_are_refused(tmp_path):
    path = str(tmp_path / "b.h5")
    with h5py.File(path, "w") as file:
        file["layer/kernel:0"] = h5py.ExternalLink("/etc/hostname", "/")
    with raises("damaged-checkpoint", where="b.h5"):
        Hdf5File(path)


def test_values_in_other_files_are_refused(tmp_path):
    path = str(tmp_path / "c.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("layer/kernel:0", (4,), "u1", external=[("/etc/hostname", 0, 4)])
    with raises("damaged-checkpoint", where="c.h5"):
        Hdf5File(path)


def test_far_more_values_than_bytes_are_refused(tmp_path):
    path = str(tmp_path / "d.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("layer/kernel:0", (30000, 30000), "f4", chunks=(1000, 1000), fillvalue=1.0)
    with raises("damaged-checkpoint", where="d.h5"):
        Hdf5File(path)


def test_texts_are_no_weights(tmp_path):
    path = str(tmp_path / "e.h5")
    with h5py.File(path, "w") as file:
        file["layer/kernel:0"] = "text"
    with raises("damaged-checkpoint", where="e.h5"):
        Hdf5File(path)


def test_truncated_files_are_errors(tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file["layer/kernel:0"] = np.ones((64, 64), np.float32)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with raises("damaged-checkpoint", where="f.h5"):
        Hdf5File(str(path)).array("layer/kernel")
