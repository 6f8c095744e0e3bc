"""The battery that every augmentation passes, and the registry.

A new operation adds one line to `OPERATIONS`.
"""

import dataclasses

import cv2
import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises

from deeplab.config import augmentation_config
from deeplab.config.augmentation_config import AugmentationConfig
from deeplab.data.augmentation import AUGMENTATIONS, MIXTURES, in_order, make

OPERATIONS = {
    "scale_crop_flip": {"crop_size": (17, 25), "padding_color": (127.5, 127.5, 127.5)},
    "vertical_flip": {"amount": 0.5},
    "rot90": {"amount": 0.9},
    "rotation": {"amount": 30.0},
    "shear": {"amount": 15.0},
    "translation": {"amount": 0.2},
    "perspective": {"amount": 0.1},
    "elastic": {"amount": 1.5},
    "gamma": {"amount": 0.5},
    "brightness": {"amount": 0.5},
    "contrast": {"amount": 0.5},
    "saturation": {"amount": 0.5},
    "hue": {"amount": 40.0},
    "gray": {"amount": 0.5},
    "channel_shuffle": {"amount": 0.9},
    "equalize": {"amount": 0.5},
    "clahe": {"amount": 0.5},
    "gaussian_blur": {"amount": 2.0},
    "noise": {"amount": 20.0},
    "jpeg_quality": {"amount": 20.0},
    "cutout": {"amount": 0.4},
    "grid_mask": {"amount": 0.9},
}
"""Arguments of each operation, by its name."""

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(0, 255, (20, 31, 3)).astype(np.float32)
LABEL = RNG.integers(0, 4, (20, 31), np.uint8)
SEEDS = [(0, 0), (0, 1), (7, 3), (2**31 - 1, 2**40)]


@pytest.fixture(params=list(AUGMENTATIONS))
def operation(request):
    assert request.param in OPERATIONS, "add the arguments of the new operation to OPERATIONS"
    return AUGMENTATIONS.get(request.param)(**OPERATIONS[request.param])


def results(operation, image=IMAGE, label=LABEL):
    """Image and label for each seed, computed eagerly."""
    return [
        tuple(part.numpy() for part in operation(tf.constant(image), tf.constant(label), tf.constant(seed, tf.int64)))
        for seed in SEEDS
    ]


def test_eager_and_inside_tf_data_agree(operation):
    """In a pipeline sizes are unknown and operations are fused."""
    signature = (tf.TensorSpec([None, None, 3], tf.float32), tf.TensorSpec([None, None], tf.uint8))
    signature = (*signature, tf.TensorSpec([2], tf.int64))
    rows = [(IMAGE, LABEL, np.array(seed, np.int64)) for seed in SEEDS]
    dataset = tf.data.Dataset.from_generator(lambda: iter(rows), output_signature=signature)
    inside = [tuple(part.numpy() for part in pair) for pair in dataset.map(operation)]
    for eager, fused in zip(results(operation), inside, strict=True):
        np.testing.assert_allclose(fused[0], eager[0], rtol=1e-6, atol=1e-4)
        np.testing.assert_array_equal(fused[1], eager[1])


def test_the_seed_decides(operation):
    first, again = results(operation), results(operation)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    assert len({image.tobytes() for image, _ in first}) > 1


def test_types_and_sizes(operation):
    for image, label in results(operation):
        assert (image.dtype, label.dtype) == (np.float32, np.uint8)
        assert image.shape == (*label.shape, 3)
        assert np.isfinite(image).all()


def test_labels_stay_labels(operation):
    """No class appears that was not there: labels are never interpolated."""
    for _, label in results(operation):
        assert set(np.unique(label)) <= {0, 1, 2, 3, 255}


def test_label_and_image_move_alike(operation):
    """An image that shows its label in every channel still does, where it is no padding; else the label stays."""
    blocks = np.kron(RNG.integers(0, 2, (4, 5)), np.ones((8, 8))).astype(np.uint8)
    image = np.repeat(blocks[..., np.newaxis] * 200.0, 3, axis=2).astype(np.float32)
    for moved, label in results(operation, image, blocks):
        if not operation.geometric:
            np.testing.assert_array_equal(label, blocks)
            continue
        inside = label != 255
        inside &= _around_inside(inside)  # beside padding, images are mixed with its color
        agree = (moved[..., 0] > 100) == (label == 1)
        assert agree[inside].mean() > 0.9  # at the borders of blocks images are interpolated, labels are not


def _around_inside(inside):
    return cv2.erode(np.pad(inside, 1, mode="edge").astype(np.uint8), np.ones((3, 3)))[1:-1, 1:-1] > 0


def test_the_input_is_not_changed(operation):
    image, label = IMAGE.copy(), LABEL.copy()
    results(operation, image, label)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(label, LABEL)


def test_values_stay_in_range(operation):
    extreme = np.where(RNG.random((20, 31, 1)) < 0.5, 0.0, 255.0).astype(np.float32).repeat(3, axis=2)
    for image, _ in results(operation, extreme):
        assert image.min() >= -1e-3 and image.max() <= 255.001


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 7])
def test_any_number_of_channels(operation, channels):
    """Each channel is treated alike, or the operation says that it needs red, green and blue."""
    if getattr(operation, "rgb_only", False):
        return
    color = tuple(float(10 * index) for index in range(channels))
    operation = dataclasses.replace(operation, padding_color=color)
    image = RNG.uniform(0, 255, (20, 31, channels)).astype(np.float32)
    for changed, label in results(operation, image):
        assert changed.shape == (*label.shape, channels) and np.isfinite(changed).all()
        if operation.geometric and (label == 255).all(1).any():
            np.testing.assert_allclose(changed[(label == 255).all(1)][-1, 0], color, atol=60)


def test_the_probability_decides_how_often(operation):
    if not hasattr(operation, "probability"):
        return
    never = dataclasses.replace(operation, probability=0.0, amount=0.0)
    for image, label in results(never):
        np.testing.assert_array_equal(image, IMAGE)
        np.testing.assert_array_equal(label, LABEL)
    often = dataclasses.replace(operation, **{"amount" if operation.amount_is_probability else "probability": 0.3})
    acting = sum(often.generator(5, position) is not None for position in range(400))
    assert 80 < acting < 160


def test_each_operation_has_its_own_random_numbers():
    first = {AUGMENTATIONS.get(name)(1.0).generator(3, 4).random() for name in OPERATIONS if name != "scale_crop_flip"}
    assert len(first) == len(OPERATIONS) - 1


def test_every_setting_has_an_operation():
    assert {*AUGMENTATIONS, *MIXTURES} == {"scale_crop_flip", *augmentation_config.OPERATIONS}
    for name in augmentation_config.OPERATIONS:
        registry = MIXTURES if name in MIXTURES else AUGMENTATIONS
        assert registry.get(name).name == name


def test_make_gives_what_is_on_and_leaves_out_colors_of_other_images(capsys):
    config = AugmentationConfig("light", rotation=5, contrast=0, cutmix=0.5)
    made = make(config, (127.5,) * 3, 255)
    assert {operation.name: operation.amount for operation in made} == {
        "rotation": 5,
        "brightness": 0.2,
        "saturation": 0.2,
        "cutmix": 0.5,
    }
    assert [type(operation).__name__ for operation in make(AugmentationConfig(noise=3), (0,) * 5, 255)] == ["Noise"]
    names = [operation.name for operation in make(AugmentationConfig("light"), (0,) * 5, 255)]
    assert "saturation" not in names and "brightness" in names
    assert "saturation" in capsys.readouterr().err


def test_operations_that_move_pixels_come_first():
    class Color:
        geometric = False

    class Move:
        geometric = True

    first, second, moving = Color(), Color(), Move()
    assert in_order([first, moving, second]) == [moving, first, second]


def test_an_unknown_name():
    with raises("unknown-name") as caught:
        AUGMENTATIONS.get("scale_crop_flop")
    assert caught.value.hint == "did you mean 'scale_crop_flip'?"


def test_operations_on_red_green_and_blue_are_left_out_of_other_images_with_a_note(capsys):
    config = AugmentationConfig(hue=20.0, brightness=0.2)
    assert [type(one).__name__ for one in make(config, (1.0,) * 3, 255)] == ["Brightness", "Hue"]
    assert not capsys.readouterr().err
    assert [type(one).__name__ for one in make(config, (1.0,) * 4, 255)] == ["Brightness"]
    assert "hue" in capsys.readouterr().err
