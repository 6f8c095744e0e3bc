"""Which variables are frozen, and what that means for gradients, statistics and slots."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises
from support.small_trainer import make_batch, make_trainer, values

from deeplab.training import freezing
from deeplab.training.step import make_train_step

NAMES = ["MobilenetV2/Conv/weights", "MobilenetV2/Conv/BatchNorm/gamma", "aspp0/weights", "logits/semantic/weights"]


@pytest.mark.parametrize(
    ("freeze", "expected"),
    [
        ("none", []),
        ("", []),
        ("0", []),
        ("backbone", NAMES[:2]),
        ("1", NAMES[:2]),
        ("all_but_logits", NAMES[:3]),
        ("2", NAMES[:3]),
        ("BatchNorm", NAMES[1:2]),
        ("^(aspp|Mobile.*Conv/w)", [NAMES[0], NAMES[2]]),
    ],
)
def test_names(freeze, expected):
    assert freezing.frozen_names(freeze, NAMES) == frozenset(expected)


@pytest.mark.parametrize(("freeze", "code"), [("resnet", "unknown-name"), (".", "nothing-to-train")])
def test_what_freezes_nothing_or_everything_is_refused(freeze, code):
    with raises(code, "freeze") as caught:
        freezing.frozen_names(freeze, NAMES)
    assert caught.value.value == freeze


def test_frozen_variables_slots_and_statistics_stay_and_the_rest_moves():
    trainer = make_trainer(schedule={"optimizer": "adamw"}, weight_decay=0.1)
    frozen = freezing.frozen_names("backbone", trainer.trainable())
    freezing.hold_statistics(trainer.model, frozen, train_batch_norm=True)
    before = values(trainer)
    step = make_train_step(trainer, tf.distribute.get_strategy(), frozen)
    step(make_batch(), tf.constant(0, tf.int64))
    after = values(trainer)
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert same == {name for name in before if name.startswith("Tiny/")}
    freezing.hold_statistics(trainer.model, (), train_batch_norm=True)
    make_train_step(trainer, tf.distribute.get_strategy())(make_batch(), tf.constant(1, tf.int64))
    assert not any(np.array_equal(after[name], value) for name, value in values(trainer).items())


def test_a_frozen_backbone_has_no_backward_pass():
    """The gradient of its convolution is in the graph of the whole training, not in that of the frozen one."""

    def gradients_of_filters(frozen):
        trainer = make_trainer()
        step = make_train_step(trainer, tf.distribute.get_strategy(), frozen)
        graph = step.get_concrete_function(make_batch(), tf.constant(0, tf.int64)).graph
        return sum(node.op == "Conv2DBackpropFilter" for node in graph.as_graph_def().node)

    names = make_trainer().trainable()
    assert gradients_of_filters(()) == 3
    assert gradients_of_filters(freezing.frozen_names("backbone", names)) == 2
    assert gradients_of_filters(freezing.frozen_names("all_but_logits", names)) == 1


def test_counts():
    variables = {"a": np.zeros((2, 3)), "b": np.zeros(1000), "c": np.zeros(())}
    assert freezing.counts_text(variables, (), 0) == "1,007 parameters are trained"
    assert freezing.counts_text(variables, ("b",), 0) == "7 parameters are trained, 1,000 are frozen"
    assert freezing.counts_text(variables, ("b",), 20).endswith("are frozen until step 20")


def test_batch_norm_of_keras_keeps_its_statistics_while_it_is_frozen():
    image = keras.Input((None, None, 3))
    layer = keras.layers.BatchNormalization(name="Some.bn")
    model = keras.Model(image, layer(image))
    for frozen, moves in ((("Some/bn/gamma", "Some/bn/beta"), False), ((), True)):
        freezing.hold_statistics(model, frozen, train_batch_norm=True)
        before = np.array(layer.moving_mean)
        model(np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32), training=True)
        assert np.array_equal(before, layer.moving_mean) is not moves
        assert len(model.trainable_weights) == (2 if moves else 0)
