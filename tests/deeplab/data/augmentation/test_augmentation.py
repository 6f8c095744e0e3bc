"""The battery that every augmentation passes, and the registry.

A new operation adds one line to `OPERATIONS`.
"""

import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises

from deeplab.data.augmentation import AUGMENTATIONS, in_order

OPERATIONS = {
    "scale_crop_flip": {"crop_size": (17, 25), "padding_color": (127.5, 127.5, 127.5)},
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
        agree = (moved[..., 0] > 100) == (label == 1)
        assert agree[inside].mean() > 0.9  # at the borders of blocks images are interpolated, labels are not


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
