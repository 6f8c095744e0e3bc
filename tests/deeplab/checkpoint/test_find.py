"""What a person may give as a checkpoint, and what is refused."""

import gzip
import pathlib
import shlex
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises

from deeplab import checkpoint
from deeplab.checkpoint import manager, writer
from deeplab.utils.errors import UserError

DATA = ".data-00000-of-00001"


@pytest.mark.parametrize("suffix", ["", ".index", DATA, ".meta"])
def test_any_file_name_of_a_checkpoint_is_accepted(prefix, suffix):
    assert checkpoint.open(prefix + suffix).prefix == prefix


def test_folder_without_state_file_but_one_checkpoint(prefix, capsys):
    folder = pathlib.Path(prefix).parent
    assert checkpoint.open(folder).prefix == prefix
    assert "no file 'checkpoint'; taking its only checkpoint, model.ckpt-300" in capsys.readouterr().err


def test_state_file_means_its_folder(tmp_path, tensors):
    saved = manager.save_step(tmp_path, 4, tensors)
    assert checkpoint.open(tmp_path / "checkpoint").prefix == saved == str(tmp_path / "model.ckpt-4")


def test_first_version_format_of_old_image_classifiers(tmp_path):
    path = str(tmp_path / "resnet_v1_50.ckpt")
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    tf.raw_ops.Save(filename=path, tensor_names=["resnet_v1_50/conv1/weights"], data=[kernel])
    np.testing.assert_array_equal(checkpoint.open(path).array("resnet_v1_50/conv1/weights"), kernel)
    assert checkpoint.open(tmp_path).prefix == path


def test_home_folder_is_expanded(prefix, monkeypatch):
    monkeypatch.setenv("HOME", str(pathlib.Path(prefix).parent))
    assert checkpoint.open("~/model.ckpt-300").step == 300


@pytest.mark.parametrize("folder", ["two words", "runs [old]", "a*b?{c}", "gesehen-é"])
def test_odd_folder_names(tmp_path, tensors, folder):
    manager.save_step(tmp_path / folder, 3, tensors)
    manager.save_step(tmp_path / folder, 5, tensors, keep=1)
    assert int(checkpoint.open(tmp_path / folder).array("global_step")) == 5
    assert len(list((tmp_path / folder).iterdir())) == 3


def test_copied_folder_is_read_where_it_is(tmp_path):
    manager.save_step(tmp_path / "old", 1, {"a": np.float32([1])})
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    manager.save_step(tmp_path / "old", 1, {"a": np.float32([2])})
    assert checkpoint.open(tmp_path / "new").array("a") == 1


# ---- what is refused ---------------------------------------------------------------------------------


def refusal(path, code) -> UserError:
    """The error of a certain code that opening gives."""
    with raises(code) as caught:
        checkpoint.open(path)
    return caught.value


def test_misspelled_name_gets_the_nearest(prefix):
    error = refusal(prefix.replace("model.ckpt-300", "model.ckpt-30000"), "checkpoint-not-found")
    assert error.hint == f"did you mean {prefix}?"


def test_folder_above_names_the_checkpoint_below(prefix):
    error = refusal(pathlib.Path(prefix).parent.parent, "checkpoint-not-found")
    assert (error.rule, error.hint) == ("holds no checkpoint itself", f"did you mean {prefix}?")


def test_empty_folder_and_missing_folder(tmp_path):
    assert "it is empty" in refusal(tmp_path, "checkpoint-not-found").rule
    missing = refusal(tmp_path / "none" / "model.ckpt-3", "checkpoint-not-found")
    assert f"the folder {tmp_path}/none does not exist" in missing.rule
    assert "path is empty" in refusal("", "checkpoint-not-found").rule


def test_several_checkpoints_without_a_state_file(prefix, tensors):
    writer.write(prefix.replace("model.ckpt-300", "best"), tensors)
    error = refusal(pathlib.Path(prefix).parent, "ambiguous-checkpoint")
    assert "(best, model.ckpt-300)" in error.rule and error.where == str(pathlib.Path(prefix).parent)


def test_frozen_graph_in_place_of_a_checkpoint(prefix):
    graph = pathlib.Path(prefix).parent / "frozen_inference_graph.pb"
    graph.write_bytes(b"\x0a\x10" * 100)
    error = refusal(graph, "not-a-checkpoint")
    assert "is a frozen graph or SavedModel" in error.rule and prefix in error.hint


def test_archive_of_the_model_zoo(tmp_path, prefix):
    archive = tmp_path / "zoo.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(prefix + ".index", "deeplabv3_zoo/model.ckpt-300.index")
    error = refusal(archive, "not-a-checkpoint")
    assert error.hint == (
        f"unpack it: tar xf {archive} -C {tmp_path}; then give {tmp_path}/deeplabv3_zoo/model.ckpt-300"
    )


@pytest.mark.parametrize("folder", ["a", "a b"])
def test_zip_archive_of_a_checkpoint(tmp_path, prefix, folder):
    archive = tmp_path / folder / "zoo.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        file.write(prefix + ".index", "mine/model.ckpt-300.index")
    quoted = shlex.quote(str(archive)), shlex.quote(str(archive.parent))
    assert refusal(archive, "not-a-checkpoint").hint == (
        f"unpack it: unzip {quoted[0]} -d {quoted[1]}; then give {archive.parent}/mine/model.ckpt-300"
    )


def test_zip_archive_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as file:
        file.writestr("a.jpg", b"x")
    assert "is a zip archive" in refusal(tmp_path / "images.zip", "not-a-checkpoint").rule


def test_parts_of_a_saved_model(tmp_path, prefix):
    (tmp_path / "saved_model" / "variables").mkdir(parents=True)
    (tmp_path / "saved_model" / "saved_model.pb").touch()
    for part in (".index", ".data-00000-of-00001"):
        shutil.copy(prefix + part, tmp_path / "saved_model" / "variables" / f"variables{part}")
    assert "is a SavedModel" in refusal(tmp_path / "saved_model", "not-a-checkpoint").rule
    error = refusal(tmp_path / "saved_model" / "variables", "not-a-checkpoint")
    assert "is a part of a SavedModel" in error.rule and f"predict with {tmp_path}/saved_model;" in error.hint
    for part in (".index", ".data-00000-of-00001"):
        shutil.copy(prefix + part, tmp_path / "saved_model" / f"model.ckpt-300{part}")
    assert checkpoint.open(tmp_path / "saved_model").step == 300  # both in one folder


def test_truncated_archive_still_says_what_to_do(tmp_path):
    archive = tmp_path / "zoo.tar.gz"
    archive.write_bytes(gzip.compress(bytes(5000))[:20])
    error = refusal(archive, "not-a-checkpoint")
    assert "is an archive" in error.rule and error.hint.startswith(f"unpack it: tar xf {archive}")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("model.keras", b"PK\x03\x04" + bytes(30), "a Keras file"),
        ("model.tflite", b"\x1c\x00\x00\x00TFL3" + bytes(30), "a TensorFlow Lite file"),
        ("model.ckpt-9.meta", b"\x0a\x10", "the graph of a TensorFlow 1 checkpoint, without its weights"),
        ("config.yml", b"a: 1", "a YAML file"),
        ("photo.JPG", b"\xff\xd8", "an image"),
        ("events.out.tfevents.17.host.1.0.v2", bytes(9), "a TensorBoard file"),
        ("short.ckpt", b"x", "not a TensorFlow checkpoint, or a truncated one (1 byte)"),
        ("resnet.ckpt", bytes(30), "not a TensorFlow checkpoint, or a truncated one (30 bytes)"),
    ],
)
def test_other_files_are_called_by_their_name(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    error = refusal(tmp_path / name, "not-a-checkpoint")
    assert f"is {kind}" in error.rule and error.where == str(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"), [("weights.pth", b"PK\x03\x04" + bytes(30)), ("weights.h5", b"\x89HDF\r\n" + bytes(30))]
)
def test_damaged_files_of_other_projects_are_called_damaged(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    error = refusal(tmp_path / name, "damaged-checkpoint")
    assert "truncated" in error.rule and error.where == str(tmp_path / name)
