"""The estimate of a step's memory, and what lowering a setting saves."""

import dataclasses

import keras
import pytest
from support.small_trainer import make_trainer

from deeplab.config.training_config import TrainConfig
from deeplab.losses.segmentation_loss import SegmentationLoss
from deeplab.training import memory
from deeplab.training.memory import MemoryNeed

CONFIG = TrainConfig("run", train_crop_size=(9, 9), train_batch_size=4)


def test_activations_are_the_outputs_of_all_layers():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(5, 1, strides=2)(keras.layers.Conv2D(7, 3, padding="same")(image)))
    assert memory.activations(model, (9, 11)) == 4 * (7 * 9 * 11 + 5 * 5 * 6)
    assert memory.activations(model, (18, 22)) == pytest.approx(4 * (7 * 18 * 22 + 5 * 9 * 11))


def test_half_precision_counts_half():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        image = keras.Input((None, None, 3))
        model = keras.Model(image, keras.layers.Conv2D(7, 3, padding="same")(image))
    finally:
        keras.config.set_dtype_policy(policy)
    assert memory.activations(model, (9, 9)) == 2 * 7 * 81


def test_a_step_needs_images_and_weights():
    trainer = make_trainer()
    need = memory.estimate(trainer, CONFIG, 3)
    assert need.images == 4 and need.total == 4 * need.image + need.weights
    in_parts = memory.estimate(trainer, dataclasses.replace(CONFIG, accumulate_steps=2), 3)
    assert in_parts.images == 2 and in_parts.image == need.image
    averaged = memory.estimate(make_trainer(ema_decay=0.9), CONFIG, 3)
    parameters = sum(4 * variable.numpy().size for variable in trainer.model.weights)
    assert averaged.weights - need.weights == parameters


def test_advice_names_settings_with_what_they_save():
    need = MemoryNeed(image=10**9, images=4, weights=10**8)
    text = memory.advice(need, CONFIG)
    assert "`accumulate_steps=2` saves about 2.0 GB" in text and "`train_batch_size=2` saves 2.0 GB" in text
    assert "`precision=mixed_bfloat16`" in text and "`train_crop_size=6,6`" in text
    assert memory.need_text(need).startswith("a step needs about 4.1 GB: 1.0 GB for each of 4 images, 100 MB")
    single = dataclasses.replace(CONFIG, train_batch_size=1, precision="mixed_bfloat16")
    assert memory.advice(MemoryNeed(10**9, 1, 0), single).startswith("`train_crop_size=6,6` saves 556 MB")


def test_enlarged_logits_of_many_classes():
    """Three copies of 900 classes, at 9x9 pixels instead of the 5x5 of the model's logits."""
    image = keras.Input((None, None, 3))
    model = keras.Model(image, {"logits": keras.layers.Conv2D(7, 1, strides=2)(image)})
    trainer = dataclasses.replace(make_trainer(), model=model)
    need = memory.estimate(trainer, CONFIG, 900)
    loss = SegmentationLoss("cross_entropy", upsample_logits=False)
    small = memory.estimate(dataclasses.replace(trainer, loss=loss), CONFIG, 900)
    assert small.enlarged == 0 and need.image - small.image == need.enlarged == 3 * 4 * 900 * (9 * 9 - 5 * 5)
    assert small.image == 4 * 7 * 5 * 5 + 3 * 4 * 900 * 5 * 5
    text = memory.advice(need, CONFIG)
    assert text.startswith("`upsample_logits=false` saves about 2 MB; ") and "`accumulate_steps=2`" in text
    few = memory.estimate(trainer, CONFIG, 3)
    assert "upsample" not in memory.advice(dataclasses.replace(few, enlarged=few.image // 5), CONFIG)
    assert "upsample" not in memory.advice(small, CONFIG)
