"""The mean of the last checkpoints."""

import shutil

import numpy as np
import pytest
from support import tiny_backbone
from support.callback_battery import CallbackBattery, make_state

from deeplab import checkpoint, train
from deeplab.checkpoint import manager
from deeplab.training.callbacks import weight_averaging

pytestmark = pytest.mark.xdist_group("training")


class TestWeightAveraging(CallbackBattery):
    name = "weight_averaging"


def test_checkpoints_that_a_stop_has_left_do_not_count(tmp_path):
    state = make_state(tmp_path, step=6, save_interval_steps=2, average_checkpoints=3)
    for step in (0, 2, 3, 4, 5, 6):
        manager.save_step(tmp_path, step, {"w": np.full(2, step, np.float32)}, keep=0)
    prefixes = weight_averaging.regular_checkpoints(state)
    assert [checkpoint.open(prefix).step for prefix in prefixes] == [2, 4, 6]
    np.testing.assert_array_equal(weight_averaging.mean_of(prefixes, ["w"])["w"], [4, 4])


def test_running_averages_are_averaged_where_there_are_some(tmp_path):
    for step, value in ((1, 10.0), (2, 30.0)):
        tensors = {"w": np.zeros(1, np.float32), "w/ExponentialMovingAverage": np.full(1, value, np.float32)}
        manager.save_step(tmp_path, step, tensors)
    assert weight_averaging.mean_of(manager.all_checkpoints(tmp_path), ["w"])["w"] == [20.0]


def test_the_mean_is_a_model_with_statistics_of_its_own(disc_records, tmp_path, capsys):
    given = {
        "dataset_dir": disc_records,
        "train_logdir": tmp_path,
        "model_variant": "tiny",
        "train_crop_size": "33,33",
        "train_batch_size": 4,
        "training_number_of_steps": 4,
        "random_seed": 1,
        "batch_norm_calibration_batches": 1,
        "save_interval_steps": 2,
        "average_checkpoints": 2,
        "eval_every": 4,
    }
    with tiny_backbone.registered():
        assert train.COMMAND.main([f"--{name}={value}" for name, value in given.items()]) == 0
    assert "mean of 2 checkpoints" in capsys.readouterr().err
    first, last, mean = (
        checkpoint.open(tmp_path / name).arrays() for name in ("model.ckpt-2", "model.ckpt-4", "averaged")
    )
    assert mean["global_step"] == 4 and not any(name.endswith("Momentum") for name in mean)
    kernel, statistics = "logits/semantic/weights", "concat_projection/BatchNorm/moving_mean"
    np.testing.assert_allclose(mean[kernel], (first[kernel] + last[kernel]) / 2, rtol=1e-6)
    assert not np.allclose(mean[statistics], (first[statistics] + last[statistics]) / 2, rtol=1e-3)
    assert (tmp_path / "averaged" / "config.yml").read_bytes() == (tmp_path / "config.yml").read_bytes()
    shutil.rmtree(tmp_path / "averaged")  # as a kill after the last checkpoint leaves it
    with tiny_backbone.registered():
        assert train.COMMAND.main([f"--{name}={value}" for name, value in given.items()]) == 0
    again = checkpoint.open(tmp_path / "averaged").arrays()
    assert again.keys() == mean.keys() and all(np.array_equal(again[name], mean[name]) for name in mean)
