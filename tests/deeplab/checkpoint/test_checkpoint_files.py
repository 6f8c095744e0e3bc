"""Checkpoints on disk: written, read, found, refused."""

import gzip
import pathlib
import resource
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from deeplab.checkpoint import files
from deeplab.utils.errors import UserError

DATA = ".data-00000-of-00001"
TENSORS = {
    "MobilenetV2/Conv/weights": np.arange(216, dtype=np.float32).reshape(3, 3, 3, 8) / 7,
    "MobilenetV2/Conv/weights/Momentum": np.full((3, 3, 3, 8), -0.25, np.float32),
    "logits/semantic/biases": np.array([1.5, -2.0, 3e-38], np.float32),
    "global_step": 300,
}


@pytest.fixture
def prefix(tmp_path) -> str:
    """A checkpoint without a state file beside it."""
    return files.write(str(tmp_path / "logs" / "model.ckpt-300"), TENSORS)


def cut(path: str, size: int) -> None:
    """Truncates a file."""
    with open(path, "r+b") as file:
        file.truncate(size)


def flip_byte(path: str, position: int) -> None:
    """Damages a file without changing its size."""
    content = bytearray(pathlib.Path(path).read_bytes())
    content[position] ^= 0xFF
    pathlib.Path(path).write_bytes(content)


def test_arrays_come_back_bit_by_bit(prefix):
    back = files.read(prefix)
    assert set(back) == set(TENSORS)
    for name in set(TENSORS) - {"global_step"}:
        assert back[name].dtype == np.float32
        np.testing.assert_array_equal(back[name], TENSORS[name])


def test_global_step_is_an_int64_scalar(prefix):
    step = files.read(prefix)["global_step"]
    assert (step.dtype, step.shape, int(step)) == (np.int64, (), 300)


def test_eager_tensors_are_written_like_arrays(tmp_path):
    written = files.write(str(tmp_path / "t"), {"a": tf.constant([1.0, 2.0]), "b": tf.Variable([[3.0]])})
    back = files.read(written)
    assert back["a"].tolist() == [1.0, 2.0] and back["b"].tolist() == [[3.0]]


def test_only_two_files_are_left_behind(prefix):
    assert sorted(p.name for p in pathlib.Path(prefix).parent.iterdir()) == [
        f"model.ckpt-300{DATA}",
        "model.ckpt-300.index",
    ]


def test_tensorflow_itself_reads_what_is_written(prefix):
    variables = dict(tf.train.list_variables(prefix))
    assert variables["MobilenetV2/Conv/weights"] == [3, 3, 3, 8] and variables["global_step"] == []


def test_writing_again_replaces(prefix):
    files.write(prefix, {"a": np.float32([7])})
    assert list(files.read(prefix)) == ["a"]
    assert len(list(pathlib.Path(prefix).parent.iterdir())) == 2


@pytest.mark.parametrize("tensors", [{}, {"a": np.array([object()])}, {"": np.ones(1)}])
def test_what_is_no_array_is_refused(tmp_path, tensors):
    with pytest.raises(ValueError):
        files.write(str(tmp_path / "x"), tensors)


def test_reader_knows_shapes_without_reading_values(prefix):
    reader = files.open_reader(prefix)
    assert reader.shapes["MobilenetV2/Conv/weights"] == (3, 3, 3, 8)
    assert reader.dtypes["global_step"] == np.int64
    assert "logits/semantic/biases" in reader and "nothing" not in reader
    with pytest.raises(KeyError):
        reader.array("nothing")


# ---- what a person may give --------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".index", DATA, ".meta"])
def test_any_file_name_of_a_checkpoint_will_do(prefix, suffix):
    assert files.find(prefix + suffix) == prefix


def test_folder_without_state_file_but_one_checkpoint(prefix, capsys):
    folder = pathlib.Path(prefix).parent
    assert files.find(folder) == prefix
    assert "no file `checkpoint`; taking its only checkpoint, model.ckpt-300" in capsys.readouterr().err


def test_state_file_stands_for_its_folder(tmp_path):
    saved = files.save_step(tmp_path, 4, TENSORS)
    assert files.find(tmp_path / "checkpoint") == saved == str(tmp_path / "model.ckpt-4")


def test_first_version_format_of_old_image_classifiers(tmp_path):
    path = str(tmp_path / "resnet_v1_50.ckpt")
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    tf.raw_ops.Save(filename=path, tensor_names=["resnet_v1_50/conv1/weights"], data=[kernel])
    np.testing.assert_array_equal(files.read(path)["resnet_v1_50/conv1/weights"], kernel)
    assert files.find(tmp_path) == path


def test_home_folder_is_expanded(prefix, monkeypatch):
    monkeypatch.setenv("HOME", str(pathlib.Path(prefix).parent))
    assert files.step_of("~/model.ckpt-300") == 300


@pytest.mark.parametrize("folder", ["two words", "runs [old]", "a*b?{c}", "gesehen-é"])
def test_odd_folder_names(tmp_path, folder):
    files.save_step(tmp_path / folder, 3, TENSORS)
    files.save_step(tmp_path / folder, 5, TENSORS, keep=1)
    assert int(files.read(tmp_path / folder)["global_step"]) == 5
    assert len(list((tmp_path / folder).iterdir())) == 3


def test_step_as_stored_then_as_named_then_zero(tmp_path, prefix):
    assert files.step_of(prefix) == 300
    assert files.step_of({"global_step": np.int64(12)}) == 12
    named = files.write(str(tmp_path / "model.ckpt-77"), {"a": np.ones(1, np.float32)})
    assert files.step_of(named) == 77
    assert files.step_of({"a": np.ones(1)}) == 0


# ---- what is refused ---------------------------------------------------------------------------------


def refusal(path) -> str:
    """The text of the error that reading gives."""
    with pytest.raises(UserError) as caught:
        files.read(path)
    return str(caught.value)


def test_truncated_data_are_named(prefix):
    cut(prefix + DATA, 1000)
    assert f"{prefix}{DATA}: is truncated: 1000 of 1748 bytes" in refusal(prefix)


def test_truncated_index_is_named(prefix):
    cut(prefix + ".index", 60)
    assert f"{prefix}.index: is truncated or damaged: 60 bytes" in refusal(prefix)


def test_flipped_bit_in_the_data_names_file_and_variable(prefix):
    flip_byte(prefix + DATA, 5)
    text = refusal(prefix)
    assert f"{prefix}{DATA}: is truncated or damaged (at MobilenetV2/Conv/weights)" in text


def test_flipped_bit_in_the_index(prefix):
    flip_byte(prefix + ".index", 20)
    assert f"{prefix}.index: is truncated or damaged" in refusal(prefix)


def test_one_of_two_files_missing(prefix):
    pathlib.Path(prefix + ".index").rename(prefix + ".away")
    assert f"{prefix}.index: is missing, though model.ckpt-300{DATA} is there" in refusal(prefix)
    pathlib.Path(prefix + ".away").rename(prefix + ".index")
    pathlib.Path(prefix + DATA).unlink()
    assert f"{prefix}{DATA}: is missing, though model.ckpt-300.index is there" in refusal(prefix)


def test_misspelled_name_gets_the_nearest(prefix):
    text = refusal(prefix.replace("model.ckpt-300", "model.ckpt-30000"))
    assert f"did you mean {prefix}?" in text


def test_folder_above_names_the_checkpoint_below(prefix):
    text = refusal(pathlib.Path(prefix).parent.parent)
    assert f"holds no checkpoint itself\n  hint: did you mean {prefix}?" in text


def test_empty_folder_and_missing_folder(tmp_path):
    assert "holds no checkpoint: it is empty" in refusal(tmp_path)
    assert f"the folder {tmp_path}/none does not exist" in refusal(tmp_path / "none" / "model.ckpt-3")
    assert "its path is empty" in refusal("")


def test_several_checkpoints_without_a_state_file(prefix):
    files.write(prefix.replace("model.ckpt-300", "best"), TENSORS)
    assert "holds several checkpoints (best, model.ckpt-300) and no file `checkpoint`" in refusal(
        pathlib.Path(prefix).parent
    )


def test_frozen_graph_in_place_of_a_checkpoint(prefix):
    graph = pathlib.Path(prefix).parent / "frozen_inference_graph.pb"
    graph.write_bytes(b"\x0a\x10" * 100)
    text = refusal(graph)
    assert "is a frozen graph or SavedModel, not a checkpoint" in text
    assert f"a checkpoint lies beside it: {prefix}" in text


def test_archive_of_the_model_zoo(tmp_path, prefix):
    archive = tmp_path / "zoo.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(prefix + ".index", "deeplabv3_zoo/model.ckpt-300.index")
    text = refusal(archive)
    assert f"unpack it: tar xf {archive} -C {tmp_path}; then give {tmp_path}/deeplabv3_zoo/model.ckpt-300" in text


def test_truncated_archive_still_says_what_to_do(tmp_path):
    archive = tmp_path / "zoo.tar.gz"
    archive.write_bytes(gzip.compress(bytes(5000))[:20])
    assert f"is an archive, not a checkpoint\n  hint: unpack it: tar xf {archive}" in refusal(archive)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("weights.pth", b"PK\x03\x04" + bytes(30), "a PyTorch file"),
        ("model.keras", b"PK\x03\x04" + bytes(30), "a Keras file"),
        ("weights.h5", b"\x89HDF\r\n" + bytes(30), "a Keras HDF5 file"),
        ("model.tflite", b"\x1c\x00\x00\x00TFL3" + bytes(30), "a TensorFlow Lite file"),
        ("resnet.ckpt", bytes(30), "not a TensorFlow checkpoint, or a truncated one (30 bytes)"),
    ],
)
def test_other_files_are_called_by_their_name(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    assert f"is {kind}" in refusal(tmp_path / name)


def test_full_disk_leaves_what_was_there(tmp_path):
    before = files.save_step(tmp_path, 1, TENSORS)
    listing = sorted(tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"model\.ckpt-2: the checkpoint could not be written: .*\n.*needs 0\.4 MB"):
            files.save_step(tmp_path, 2, {"big": np.ones(100_000, np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(tmp_path.iterdir()) == listing
    assert files.latest(tmp_path, checksums=True) == before


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "logs").write_text("")
    with pytest.raises(UserError, match="could not be written"):
        files.save_step(tmp_path / "logs", 1, TENSORS)


def test_copied_folder_is_read_where_it_lies(tmp_path):
    files.save_step(tmp_path / "old", 1, {"a": np.float32([1])})
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    files.save_step(tmp_path / "old", 1, {"a": np.float32([2])})
    assert files.read(tmp_path / "new")["a"] == 1
