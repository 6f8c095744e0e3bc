"""What every callback is tested for. A callback gets it all by a class of a few lines:

class TestProgress(CallbackBattery):
    name = "progress"
"""

import pathlib
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab.config.training_config import TrainConfig
from deeplab.data.dataset import Dataset
from deeplab.training import callbacks
from deeplab.training.guards import UncheckedResults
from deeplab.training.state import TrainState

DATASET = Dataset("discs", ("ground", "disc", "square"))
BATCH = {
    "image": tf.reshape(tf.range(2 * 4 * 4 * 3, dtype=tf.float32), [2, 4, 4, 3]),
    "label": tf.zeros([2, 4, 4], tf.int32),
    "image_name": tf.constant([b"one", b"two"]),
}


class SmallTrainer:
    """A model of one layer, as callbacks see a trainer."""

    averages = loss_scale = rate_scale = pruning = None
    loss = types.SimpleNamespace(align_corners=True)

    @staticmethod
    def part_names():
        return ()

    def __init__(self):
        image = keras.Input((None, None, 3))
        self.model = keras.Model(image, {"merged_logits": keras.layers.Conv2D(3, 1, strides=2, name="logits")(image)})


def make_state(folder, step=0, **config) -> TrainState:
    """A training of 6 steps in a folder."""
    pathlib.Path(folder).mkdir(exist_ok=True)
    config = {"training_number_of_steps": 6, "log_steps": 2, **config}
    trainer = SmallTrainer()
    variables = {"logits/weights": trainer.model.weights[0], "logits/biases": trainer.model.weights[1]}
    unchecked = UncheckedResults(lambda step: BATCH, str(folder))
    return TrainState(TrainConfig(str(folder), **config), DATASET, trainer, variables, step, unchecked)


def step_results(loss: float) -> dict[str, tf.Tensor]:
    values = {"total_loss": loss, "task_loss": loss, "regularization_loss": 0.0, "learning_rate": 0.5}
    return {name: tf.constant(value) for name, value in {**values, "labeled_fraction": 1.0}.items()}


def run(callback, state, until=None, loss=lambda step: 1.0 / step) -> None:
    """A training as the loop runs it, up to a step after which a signal stops it."""
    callback.on_start(state)
    while state.step < (until or state.total_steps):
        state.advance(BATCH, step_results(loss(state.step + 1)))
        callback.after_step(state)
    callback.on_end(state)


class CallbackBattery:
    """All tests; see the head of this file.

    Attributes:
      name: in the registry.
      config: of the training.
    """

    name = ""
    config: dict = {}  # noqa: RUF012

    def make(self):
        return callbacks.registry.get(self.name)()

    @pytest.fixture(params=[(0, None), (0, 3), (4, None), (5, None)], ids=["whole", "stopped", "resumed", "last step"])
    def ran(self, request, tmp_path):
        """A state after a training that began and ended at various steps."""
        begin, end = request.param
        state = make_state(tmp_path, begin, **self.config)
        run(self.make(), state, end)
        return state

    def test_it_goes_through_every_kind_of_training(self, ran):
        assert ran.step in (3, 6)

    def test_it_leaves_the_weights_alone(self, tmp_path):
        state = make_state(tmp_path, **self.config)
        before = [np.asarray(variable) for variable in state.model.weights]
        run(self.make(), state)
        for old, new in zip(before, state.model.weights, strict=True):
            np.testing.assert_array_equal(old, new)

    def test_it_waits_for_the_device_only_where_it_must(self, tmp_path, monkeypatch):
        """With long intervals, results are fetched at the first and the last step at most."""
        config = {"log_steps": 1000, "save_interval_secs": 10**6, "save_summaries_secs": 10**6, **self.config}
        state = make_state(tmp_path, **{**config, "log_steps": 1000})
        fetched = []
        latest = state.unchecked.latest
        monkeypatch.setattr(state.unchecked, "latest", lambda: fetched.append(state.step) or latest())
        run(self.make(), state)
        assert set(fetched) <= {0, 1, 6}

    def test_two_trainings_share_nothing(self, tmp_path):
        first, second = self.make(), self.make()
        run(first, make_state(tmp_path / "first", **self.config))
        run(second, make_state(tmp_path / "second", **self.config))
        assert vars(first).keys() == vars(second).keys()
