"""Whether XLA compiles the training step; `test_step.py` runs a compiled one."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import yaml
from support import tiny_backbone

from deeplab import checkpoint, train
from deeplab.config.training_config import TrainConfig
from deeplab.training import compilation, loop
from deeplab.training.distribution import ALONE
from deeplab.training.step import make_train_step

CONFIG = TrainConfig(train_logdir="unused")
BATCH = {"image": tf.zeros([1, 2, 2, 3]), "label": tf.zeros([1, 2, 2], tf.int32)}


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with tiny_backbone.registered():
        yield


@pytest.fixture
def gpu(monkeypatch):
    """Makes compiling look worth a measurement, as on a GPU."""
    monkeypatch.setattr(compilation, "may_pay", lambda devices: devices.replicas == 1)


def train_with(records, folder, steps, **more):
    settings = {
        "dataset_dir": records,
        "train_logdir": folder,
        "model_variant": "tiny",
        "train_crop_size": "33,33",
        "train_batch_size": 2,
        "training_number_of_steps": steps,
        "base_learning_rate": 0.01,
        "random_seed": 1,
        "batch_norm_calibration_batches": 0,
        **more,
    }
    return train.COMMAND.main([f"--{name}={value}" for name, value in settings.items()])


def noted(folder):
    return yaml.safe_load((folder / "config.yml").read_text())["train"]["jit_compile"]


class TestDecision:
    def decide(self, jit_compile="auto", devices=ALONE, folder="unused", resumed_step=0):
        config = dataclasses.replace(CONFIG, jit_compile=jit_compile, train_logdir=str(folder))

        def unwanted(*_):
            raise AssertionError("measured")

        return compilation.decide(config, devices, unwanted, unwanted, {}, resumed_step)

    def test_what_is_asked_for_is_not_measured(self, gpu):
        assert (self.decide("true"), self.decide("false")) == ("true", "false")

    def test_a_cpu_is_not_measured(self):
        assert self.decide() == "auto"

    def test_several_devices_are_not_measured(self, gpu):
        assert self.decide(devices=SimpleNamespace(replicas=2)) == "auto"

    @pytest.mark.parametrize("chosen", ["true", "false"])
    def test_a_resumed_training_keeps_what_was_measured(self, gpu, tmp_path, chosen):
        (tmp_path / "config.yml").write_text(f"train: {{jit_compile: '{chosen}'}}")
        assert self.decide(folder=tmp_path, resumed_step=3) == chosen
        with pytest.raises(AssertionError, match="measured"):
            self.decide(folder=tmp_path, resumed_step=0)


class TestMeasurement:
    @pytest.mark.parametrize(
        ("plain", "compiled", "expected"), [(2.0, 1.0, True), (1.0, 0.99, False), (1.0, 2.0, False)]
    )
    def test_the_faster_one_is_taken(self, monkeypatch, plain, compiled, expected):
        """Seconds pass only in steps, and tracing takes a thousand."""
        clock = [0.0]
        monkeypatch.setattr(compilation.time, "perf_counter", lambda: clock[0])

        def make_step(is_compiled):
            calls = []

            def step(batch, number):
                calls.append(number)
                clock[0] += 1000.0 if len(calls) == 1 else compiled if is_compiled else plain
                return {"total_loss": tf.constant(0.0)}

            return step

        assert compilation.is_faster(make_step, BATCH, 0, {}) is expected

    @pytest.mark.parametrize("problem", [tf.errors.UnimplementedError(None, None, "no kernel"), ValueError("no shape")])
    def test_a_step_that_cannot_be_compiled_is_not(self, problem, capsys):
        variable = tf.Variable(1.0)

        def make_step(is_compiled):
            def step(batch, number):
                variable.assign_add(1.0)
                if is_compiled:
                    raise problem
                return {"total_loss": tf.constant(0.0)}

            return step

        assert not compilation.is_faster(make_step, BATCH, 0, {"variable": variable})
        assert variable.numpy() == 1.0
        assert "are not compiled by XLA: no " in capsys.readouterr().err


@pytest.fixture
def steps_made(monkeypatch):
    """For each step function that a training makes, whether XLA was to compile it; none is, which takes long."""
    made = []

    def make(trainer, strategy, frozen, is_compiled):
        made.append(is_compiled)
        return make_train_step(trainer, strategy, frozen)

    monkeypatch.setattr(loop, "make_train_step", make)
    return made


@pytest.mark.slow
def test_measuring_changes_nothing(gpu, steps_made, monkeypatch, disc_records, tmp_path):
    """The weights, slots, averages and loss scale of a training that has measured are those of one that has not."""
    monkeypatch.setattr(compilation, "MIN_GAIN", 0.0)
    flags = {"optimizer": "adamw", "ema_decay": 0.9, "precision": "mixed_float16"}
    assert train_with(disc_records, tmp_path / "measured", 3, **flags) == 0
    assert steps_made == [False, True, False] and noted(tmp_path / "measured") == "false"
    assert train_with(disc_records, tmp_path / "plain", 3, jit_compile="false", **flags) == 0
    measured, plain = (checkpoint.open(tmp_path / name).arrays() for name in ("measured", "plain"))
    assert measured.keys() == plain.keys()
    for name, values in plain.items():
        np.testing.assert_array_equal(measured[name], values, name)


@pytest.mark.slow
def test_what_was_measured_is_noted_and_kept(gpu, steps_made, monkeypatch, disc_records, tmp_path):
    monkeypatch.setattr(compilation, "MIN_GAIN", 1e9)
    assert train_with(disc_records, tmp_path, 1) == 0
    assert steps_made == [False, True, True] and noted(tmp_path) == "true"
    steps_made.clear()
    assert train_with(disc_records, tmp_path, 2) == 0
    assert steps_made == [True] and noted(tmp_path) == "true"


@pytest.mark.slow
def test_a_compiled_step_still_refuses_labels_that_are_no_classes(disc_records, tmp_path, capsys):
    """XLA leaves assertions out, so they stand before the compiled step."""
    from deeplab.data import dataset

    for path in disc_records.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / dataset.FILE_NAME).unlink()
    dataset.save(
        dataset.Dataset("discs", ("ground", "disc"), splits={"train": 12, "val": 4}), tmp_path / dataset.FILE_NAME
    )
    assert train_with(tmp_path, tmp_path / "run", 2, jit_compile="true") != 0
    assert "label-out-of-range" in capsys.readouterr().err
