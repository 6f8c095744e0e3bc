"""The battery of all operations that mix the images of a batch."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from deeplab.data.augmentation import MIXTURES

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (4, 12, 18, 3)).astype(np.float32)
LABELS = np.kron(RNG.integers(0, 5, (4, 3, 3)), np.ones((4, 6), int)).astype(np.int32)
LABELS[:, 0, 0] = 255


@pytest.fixture(params=list(MIXTURES))
def mixture(request):
    further = {"rare_classes": (3, 4)} if request.param == "copy_paste" else {}
    return MIXTURES.get(request.param)(1.0, **further)


def test_image_and_label_come_from_the_same_place(mixture):
    """Images whose red channel shows the label still do."""
    images = np.repeat(LABELS[..., np.newaxis], 3, -1).astype(np.float32)
    changed = 0
    for position in range(20):
        mixed, labels = mixture.mixed(images, LABELS, (1, position))
        np.testing.assert_array_equal(mixed[..., 0], labels)
        changed += not np.array_equal(labels, LABELS)
    assert changed > 15


def test_the_position_of_the_image_decides(mixture):
    """A batch that begins elsewhere mixes the image at the same position in the same way."""
    first, again = (mixture.mixed(IMAGES, LABELS, (3, 8)) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    other, _ = mixture.mixed(IMAGES, LABELS, (3, 12))
    assert not np.array_equal(first[0], other)


def test_the_input_stays_and_no_probability_changes_nothing(mixture):
    images, labels = IMAGES.copy(), LABELS.copy()
    mixture.mixed(images, labels, (1, 0))
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    mixed, _ = dataclasses.replace(mixture, amount=0.0).mixed(images, labels, (1, 0))
    np.testing.assert_array_equal(mixed, IMAGES)


def test_eager_and_inside_tf_data_agree(mixture):
    eager = mixture(IMAGES, LABELS, tf.constant([1, 4], tf.int64))
    dataset = tf.data.Dataset.from_tensors((IMAGES, LABELS, np.array([1, 4])))
    (inside,) = dataset.map(mixture)
    for one, other in zip(eager, inside, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_batch_of_one_image(mixture):
    mixed, labels = mixture.mixed(IMAGES[:1], LABELS[:1], (1, 0))
    assert mixed.shape == IMAGES[:1].shape and set(np.unique(labels)) <= set(np.unique(LABELS[:1]))
