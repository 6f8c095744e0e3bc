"""A training step over a model of three layers: traced in a tenth of a second."""

import keras
import numpy as np
import tensorflow as tf

from deeplab.config.training_config import OptimizerConfig
from deeplab.losses.segmentation_loss import SegmentationLoss
from deeplab.training import optimizers
from deeplab.training.averages import Averages
from deeplab.training.loss_scale import LossScale
from deeplab.training.randomness import StepClock
from deeplab.training.step import Trainer
from slim.layers import TRUNCATED_NORMAL, Convolution, Norm, conv_unit, variables_by_name

IGNORED = 255


def make_model(train_batch_norm=True, dropout=0.0) -> keras.Model:
    """Backbone `Tiny`, branch `aspp0`, `logits/semantic` of three classes, at the size of the image."""
    norm, given = Norm(0.9, 1e-3, train_batch_norm), {"initializer": TRUNCATED_NORMAL(stddev=0.3, seed=3)}
    image = keras.Input((None, None, 3), name="image")
    net = conv_unit(image / 128.0, "Tiny/conv0", 6, 3, norm=norm, **given)
    net = conv_unit(net, "aspp0", 5, 1, norm=norm, **given)
    net = keras.layers.Dropout(dropout, name="drop")(net) if dropout else net
    logits = Convolution(3, 1, use_bias=True, name="logits.semantic", dtype="float32", **given)(net)
    return keras.Model(image, {"merged_logits": logits})


def make_trainer(*, train_batch_norm=True, dropout=0.0, ema_decay=0.0, loss="cross_entropy", scaled=False, **more):
    """A Trainer; `schedule` holds the settings of the optimizer."""
    schedule = OptimizerConfig(**{"learning_policy": "constant", "base_learning_rate": 0.1, **more.pop("schedule", {})})
    model, clock = make_model(train_batch_norm, dropout), StepClock(100)
    clock.control(model, 1)
    weights = variables_by_name(model)
    optimizer = optimizers.make(schedule, {name: v for name, v in weights.items() if v.trainable})
    averages = Averages(weights, ema_decay) if ema_decay else None
    given = {"weight_decay": 4e-5, "averages": averages, "loss_scale": LossScale() if scaled else None, **more}
    return Trainer(model, optimizer, SegmentationLoss(loss), schedule=schedule, total_steps=100, clock=clock, **given)


def make_batch(images=4, seed=0, ignored=0.2) -> dict[str, tf.Tensor]:
    """Random images, and labels of which unequal parts are ignored in each image."""
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 3, (images, 9, 9))
    for number in range(images):
        label[number][draw.random((9, 9)) < ignored * number] = IGNORED
    return {
        "image": tf.constant(draw.uniform(0, 255, (images, 9, 9, 3)), tf.float32),
        "label": tf.constant(label, tf.int32),
    }


def values(trainer: Trainer) -> dict[str, np.ndarray]:
    """All weights, slots and averages by name."""
    return {name: np.array(variable.numpy()) for name, variable in trainer.variables().items()}
