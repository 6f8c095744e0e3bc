"""Writing checkpoints: what other programs read, full disks, and savers killed at every moment."""

import os
import pathlib
import resource
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises

from deeplab import checkpoint
from deeplab.checkpoint import manager, writer

DATA = ".data-00000-of-00001"
ROOT = pathlib.Path(__file__).parents[3]


def test_eager_tensors_are_written_like_arrays(tmp_path):
    written = writer.write(str(tmp_path / "t"), {"a": tf.constant([1.0, 2.0]), "b": tf.Variable([[3.0]])})
    back = checkpoint.open(written).arrays()
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
    writer.write(prefix, {"a": np.float32([7])})
    assert list(checkpoint.open(prefix).shapes) == ["a"]
    assert len(list(pathlib.Path(prefix).parent.iterdir())) == 2


@pytest.mark.parametrize("tensors", [{}, {"a": np.array([object()])}, {"": np.ones(1)}])
def test_what_is_no_array_is_refused(tmp_path, tensors):
    with pytest.raises(ValueError):
        writer.write(str(tmp_path / "x"), tensors)


def test_a_checkpoint_that_does_not_fit_on_the_disk_is_not_begun(tmp_path, tensors, monkeypatch):
    manager.save_step(tmp_path, 1, tensors)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(writer, "free_space", lambda folder: 4_000)
    monkeypatch.setattr(writer, "_save", lambda *_: pytest.fail("it was begun"))
    with raises("disk-full", where="model.ckpt-2") as caught:
        manager.save_step(tmp_path, 2, {"big": np.ones(1_001, np.float32)})
    assert "0.0 MB are free" in caught.value.rule
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_full_disk_leaves_what_was_there(tmp_path, tensors):
    before = manager.save_step(tmp_path, 1, tensors)
    listing = sorted(tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with raises("unwritable-file", where="model.ckpt-2") as caught:
            manager.save_step(tmp_path, 2, {"big": np.ones(100_000, np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "needs 0.4 MB" in caught.value.hint
    assert sorted(tmp_path.iterdir()) == listing
    assert manager.latest(tmp_path, checksums=True).prefix == before


def test_folder_that_is_a_file(tmp_path, tensors):
    (tmp_path / "logs").write_text("")
    with raises("unwritable-file", where=tmp_path / "logs"):
        manager.save_step(tmp_path / "logs", 1, tensors)


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_usable_checkpoint(tmp_path):
    script = ROOT / "tests" / "support" / "killed_saver.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "8"], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    survived = done.stdout.count("survived")
    assert survived > 30, done.stdout
