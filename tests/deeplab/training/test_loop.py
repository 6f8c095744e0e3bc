"""Whole trainings through the command, on tiny records: start, stop, go on, refuse, fail."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import yaml
from support import tiny_backbone

from deeplab import checkpoint, train
from deeplab.checkpoint import manager, writer
from deeplab.data import pipeline
from deeplab.training import guards, start

pytestmark = pytest.mark.xdist_group("training")  # one training serves many tests, so they stay in one process

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(train.__file__)))


MOBILENET = {"model_variant": "mobilenet_v2", "depth_multiplier": 0.25}


def flags_for(records, logdir, steps=3, **more):
    settings = {
        "dataset_dir": records,
        "train_logdir": logdir,
        "model_variant": "tiny",
        "train_crop_size": "33,33",
        "train_batch_size": 2,
        "training_number_of_steps": steps,
        "base_learning_rate": 0.01,
        "random_seed": 1,
        "batch_norm_calibration_batches": 2,
        "log_steps": 1,
        **more,
    }
    return [f"--{name}={value}" for name, value in settings.items()]


def train_with(*args, **more):
    return train.COMMAND.main(flags_for(*args, **more))


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """A backbone for trainings of which only the loop matters."""
    with tiny_backbone.registered():
        yield


@pytest.fixture(scope="module")
def trained(disc_records, tmp_path_factory):
    """A finished training of four steps that saved every two."""
    folder = tmp_path_factory.mktemp("trained")
    assert train_with(disc_records, folder, 4, save_interval_steps=2, **MOBILENET) == 0
    return folder


@pytest.fixture(scope="module")
def trained_tiny(disc_records, tmp_path_factory):
    """The same of the tiny network."""
    folder = tmp_path_factory.mktemp("trained_tiny")
    assert train_with(disc_records, folder, 4, save_interval_steps=2) == 0
    return folder


@pytest.fixture
def copy_of_trained(trained_tiny, tmp_path):
    return shutil.copytree(trained_tiny, tmp_path / "copy")


def test_checkpoints_stand_at_the_start_the_intervals_and_the_end(trained):
    steps = [checkpoint.open(prefix).step for prefix in manager.all_checkpoints(trained)]
    assert steps == [0, 2, 4]
    tensors = checkpoint.open(trained).arrays()
    assert tensors["global_step"] == 4 and tensors["global_step"].dtype == np.int64
    assert tensors["logits/semantic/weights"].shape == (1, 1, 256, 3)
    assert np.abs(tensors["logits/semantic/weights/Momentum"]).max() > 0


def test_settings_and_classes_are_saved_beside_the_checkpoint(trained):
    saved = yaml.safe_load((trained / "config.yml").read_text())
    assert saved["model"]["depth_multiplier"] == 0.25
    assert saved["dataset_facts"]["class_names"] == ["ground", "disc", "square"]
    assert saved["train"]["train_crop_size"] == [33, 33]


def test_tensorboard_has_the_references_tags(trained):
    tags = {
        value.tag
        for path in trained.glob("events.out*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert {"total_loss_1", "learning_rate", "Losses/clone_loss", "Losses/regularization_loss"} <= tags
    assert "MobilenetV2/Conv/weights_1" in tags


def test_statistics_are_measured_anew_only_before_the_last_checkpoint(trained):
    name = "image_pooling/BatchNorm/moving_variance"  # starts at 1 and moves by .0003 a step
    assert np.abs(checkpoint.open(trained / "model.ckpt-2").arrays()[name] - 1).max() < 0.01
    assert np.abs(checkpoint.open(trained / "model.ckpt-4").arrays()[name] - 1).max() > 0.1


def test_the_same_seed_gives_the_same_weights(disc_records, trained_tiny, tmp_path):
    assert train_with(disc_records, tmp_path / "again", 4, save_interval_steps=2) == 0
    runs = trained_tiny, tmp_path / "again"
    first, second = (checkpoint.open(run / "model.ckpt-2").arrays() for run in runs)
    np.testing.assert_allclose(first["logits/semantic/weights"], second["logits/semantic/weights"], atol=1e-5)


def test_going_on_starts_at_the_last_step(disc_records, copy_of_trained, capsys):
    assert train_with(disc_records, copy_of_trained, 6) == 0
    said = capsys.readouterr().err
    assert "going on from" in said and "step 4" in said and "step 5/6" in said and "step 4/6" not in said
    assert checkpoint.open(copy_of_trained).step == 6


def test_a_finished_training_says_so(disc_records, copy_of_trained, capsys):
    assert train_with(disc_records, copy_of_trained, 4) == 0
    assert "--training_number_of_steps=4 is reached; raise it" in capsys.readouterr().err


def test_other_settings_are_refused_with_the_difference(disc_records, copy_of_trained, capsys):
    before = sorted(os.listdir(copy_of_trained))
    assert train_with(disc_records, copy_of_trained, 6, base_learning_rate=0.5) == 1
    assert "--base_learning_rate: was 0.01, is 0.5" in capsys.readouterr().err
    assert sorted(os.listdir(copy_of_trained)) == before


def test_an_initial_checkpoint_sets_weights_and_shows_the_table(disc_records, trained_tiny, tmp_path, capsys):
    source = trained_tiny / "model.ckpt-4"
    assert (
        train_with(disc_records, tmp_path / "new", 1, tf_initial_checkpoint=source, initialize_last_layer="false") == 0
    )
    said = capsys.readouterr().err
    assert "restored" in said and "excluded" in said
    first, start = (checkpoint.open(path).arrays() for path in (source, tmp_path / "new" / "model.ckpt-0"))
    np.testing.assert_array_equal(first["Tiny/conv0/weights"], start["Tiny/conv0/weights"])
    assert np.abs(first["logits/semantic/weights"] - start["logits/semantic/weights"]).max() > 0
    assert start["global_step"] == 0


def test_imagenet_weights_are_keras_own(disc_records, tmp_path, capsys, monkeypatch):
    def offline(name):
        raise OSError(f"the ImageNet weights of keras:{name} cannot be fetched")

    monkeypatch.setattr(start.keras_applications, "imagenet_weights", offline)
    assert train_with(disc_records, tmp_path / "a", 1, tf_initial_checkpoint="imagenet", **MOBILENET) == 1
    assert "not for mobilenet_v2" in capsys.readouterr().err
    given = {"tf_initial_checkpoint": "imagenet", "model_variant": "keras:MobileNetV2"}
    assert train_with(disc_records, tmp_path / "b", 1, **given) == 1
    assert "the ImageNet weights of keras:MobileNetV2 cannot be fetched" in capsys.readouterr().err


def test_a_checkpoint_of_another_architecture_is_refused(disc_records, tmp_path, capsys):
    writer.write(str(tmp_path / "other" / "model.ckpt-1"), {"resnet_v1_50/conv1/weights": np.zeros((7, 7, 3, 64))})
    given = {"tf_initial_checkpoint": tmp_path / "other" / "model.ckpt-1"}
    assert train_with(disc_records, tmp_path / "new", 1, **given) == 1
    assert "resnet_v1_50" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"train_split": "trian"}, "train"),
        ({"label_weights": "1,2"}, "--label_weights"),
        ({"dataset": "pascal_voc_seg"}, "21 classes"),
        ({"model_variant": "mobilnet_v2"}, "mobilenet_v2"),
        ({"quantize_delay_step": 0}, "--quantize_delay_step"),
        ({"num_replicas": 2}, "--num_replicas"),
        ({"tf_initial_checkpoint": "nowhere/model.ckpt"}, "nowhere"),
    ],
)
def test_bad_settings_stop_before_the_first_step(disc_records, tmp_path, capsys, more, word):
    assert train_with(disc_records, tmp_path / "new", 1, **more) == 1
    said = capsys.readouterr().err
    assert "error:" in said and word in said
    assert not list(tmp_path.glob("new/model.ckpt*"))


def test_a_loss_that_is_not_finite_stops_and_saves_the_batch(disc_records, tmp_path, capsys):
    assert train_with(disc_records, tmp_path / "new", 20, base_learning_rate=1e30) == 1
    said = capsys.readouterr().err
    assert "the loss is" in said and "pair_" in said and "lower --base_learning_rate" in said
    (saved,) = tmp_path.glob("new/bad_batch_step_*.npz")
    with np.load(saved) as batch:
        assert batch["image"].shape == (2, 33, 33, 3) and batch["label"].shape == (2, 33, 33)
    assert np.isfinite(checkpoint.open(tmp_path / "new").arrays()["Tiny/conv0/weights"]).all()


def test_a_damaged_record_is_named(disc_records, tmp_path, capsys):
    records = shutil.copytree(disc_records, tmp_path / "records")
    shard = records / "train-00000-of-00001.tfrecord"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(bytes(content))
    assert train_with(records, tmp_path / "new", 30) == 1
    assert "train-00000-of-00001.tfrecord" in capsys.readouterr().err


def test_two_trainings_in_one_folder_are_refused(disc_records, tmp_path):
    command = [sys.executable, os.path.join(ROOT, "deeplab", "train.py")]
    command += flags_for(disc_records, tmp_path / "run", 100000, **MOBILENET)
    # A shell's background jobs ignore Ctrl-C, and so would their children.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    try:
        wait_for(lambda: (tmp_path / "run" / "model.ckpt-0.index").exists())
        second = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        assert second.returncode == 1 and "another process is training in this folder" in second.stderr
    finally:
        first.send_signal(signal.SIGINT)
        said = first.communicate(timeout=120)[1]
    assert first.returncode == 130 and "is saved; the same command goes on" in said
    assert checkpoint.open(tmp_path / "run").step > 0


@pytest.mark.slow
def test_a_kill_leaves_a_training_that_goes_on(disc_records, tmp_path, capsys):
    command = [sys.executable, os.path.join(ROOT, "deeplab", "train.py")]
    command += flags_for(disc_records, tmp_path / "run", 100000, save_interval_steps=1, **MOBILENET)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(manager.all_checkpoints(tmp_path / "run")) > 2)
    process.kill()
    process.wait()
    reached = checkpoint.open(tmp_path / "run").step
    assert train_with(disc_records, tmp_path / "run", reached + 2, save_interval_steps=1, **MOBILENET) == 0
    assert f"step {reached + 1}/" in capsys.readouterr().err


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def test_a_profile_is_written_when_asked_for(disc_records, tmp_path):
    assert train_with(disc_records, tmp_path / "run", 12, profile_logdir=tmp_path / "profile") == 0
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_labels_that_are_no_classes_stop_the_step(tmp_path):
    def refuse(*_):
        raise tf.errors.InvalidArgumentError(None, None, "labels must lie in 0..2")

    batch = {name: tf.zeros([1, 2, 2]) for name in ("image", "label")} | {"image_name": tf.constant([b"seven"])}
    with pytest.raises(Exception, match=r"step 5: labels must lie in 0..2; images: seven"):
        guards.run_step(refuse, batch, 4, str(tmp_path))
    assert (tmp_path / "bad_batch_step_5.npz").exists()


def test_too_little_memory_says_what_to_lower(tmp_path):
    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    batch = {"image": tf.zeros([1]), "label": tf.zeros([1])}
    with pytest.raises(Exception, match="lower `train_batch_size`"):
        guards.run_step(exhausted, batch, 0, str(tmp_path))


def test_input_faults_are_explained(disc_records):
    shards = [str(disc_records / "train-00000-of-00001.tfrecord")]
    batches = pipeline.train_batches(
        shards, crop_size=(33, 33), batch_size=2, padding_color=(127.5,) * 3, ignore_label=255, num_classes=2, seed=0
    )
    iterator = iter(batches)
    with pytest.raises(Exception, match="pair_"):
        for step in range(6):
            guards.next_batch(iterator, shards, step)
