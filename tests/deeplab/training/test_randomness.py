"""Random layers by seed and step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab.config.model_config import ModelConfig
from deeplab.model import build_model
from deeplab.training.randomness import StepClock
from slim import nas


def dropout_model(seed=3, total_steps=10):
    """Two dropout layers side by side, under a clock."""
    image = keras.Input((50,))
    sides = [keras.layers.Dropout(0.5, name=name)(image) for name in ("left", "right")]
    model = keras.Model(image, sides)
    clock = StepClock(total_steps)
    clock.control(model, seed)

    @tf.function
    def masks(step):
        with clock.at(step):
            return model(tf.ones([4, 50]), training=True)

    return lambda step: [np.asarray(mask) > 0 for mask in masks(tf.constant(step, tf.int64))]


def test_a_new_process_draws_the_same_at_the_same_step():
    first, again = dropout_model(), dropout_model()
    for step in (0, 1, 7):
        first(step)
    for one, other in zip(first(8), again(8), strict=True):
        np.testing.assert_array_equal(one, other)


def test_steps_layers_and_seeds_differ():
    left, right = dropout_model()(5)
    others = [right, *dropout_model()(6), *dropout_model(seed=4)(5)]
    assert all(0.3 < (left != other).mean() < 0.7 for other in others)


def test_two_calls_of_one_layer_in_one_step_differ():
    layer = keras.layers.Dropout(0.5, name="shared")
    image = keras.Input((200,))
    model = keras.Model(image, [layer(image), layer(image)])
    clock = StepClock(10)
    clock.control(model, 1)
    with clock.at(2):
        one, two = model(tf.ones([1, 200]), training=True)
    assert 0.3 < ((np.asarray(one) > 0) != (np.asarray(two) > 0)).mean() < 0.7


def test_replicas_differ():
    clock = StepClock(10)

    class Context:
        def __init__(self, number):
            self.replica_id_in_sync_group = tf.constant(number)

    with pytest.MonkeyPatch.context() as patch:
        seeds = []
        for number in (0, 1):
            patch.setattr(tf.distribute, "get_replica_context", lambda number=number: Context(number))
            with clock.at(2):
                seeds.append(clock._draw("3/dropout").numpy().tolist())
    assert seeds[0] != seeds[1] and seeds[0][1] == seeds[1][1] == 2


def test_dropped_paths_grow_with_the_step():
    clock = StepClock(total_steps=10)
    layer = nas.DropPath(0.5, clock.fraction, name="path")
    image = keras.Input((1, 1, 1))
    model = keras.Model(image, layer(image))
    clock.control(model, 1)
    for step, values in ((0, [1.0]), (5, [0.0, 1 / 0.75]), (10, [0.0, 2.0])):
        with clock.at(step):
            found = np.unique(np.asarray(model(np.ones((100, 1, 1, 1), np.float32), training=True)))
        assert found.tolist() == pytest.approx(values)


@pytest.mark.parametrize("variant", ["mobilenet_v2", "keras:EfficientNetV2B0"])
def test_every_random_layer_of_a_model_is_under_control(variant):
    """A whole model in training mode gives one result per step, whatever was drawn before."""
    outputs = []
    for warm_up in (0, 3):
        config = ModelConfig(model_variant=variant, aspp_convs_filters=16, output_stride=16, depth_multiplier=0.25)
        keras.utils.set_random_seed(warm_up)
        model = build_model(config, 2, train_batch_norm=False)
        for variable in model.weights:
            variable.assign(np.random.default_rng(0).normal(0.1, 0.1, variable.shape) ** 2)
        clock = StepClock(10)
        clock.control(model, 5)
        for step in [*range(warm_up), 4]:
            with clock.at(step):
                result = model(np.full((1, 33, 33, 3), 90.0, np.float32), training=True)
        outputs.append(np.asarray(result["merged_logits"]))
    np.testing.assert_array_equal(*outputs)
