"""Batches that are filled in place hold what was written, in order, and are not overwritten while somebody has them."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab.data import in_place_batches
from deeplab.data.in_place_batches import batches_in_place


def numbers(size, count=None, fail_at=None):
    """Batches whose image number n is full of n, with the label n % 7 and the name `n`; one of them may fail."""

    def write(number, target):
        if fail_at is not None and number == fail_at:
            raise ValueError("no such image")
        target[0].fill(number)
        target[1].fill(number % 7)

    def make(slots, numbers, twice):
        assert numbers.shape == slots.indices.shape
        pairs = zip(tf.unstack(slots.indices), tf.unstack(numbers), strict=True)
        return tf.stack([slots.at(index).fill(write, [number]) for index, number in pairs]), {
            "name": tf.strings.as_string(numbers),
            "twice": twice["twice"],
        }

    elements = tf.data.Dataset.range(count or 1000).map(lambda number: (number, {"twice": 2 * number}))
    return batches_in_place(elements, make, size, (3, 5, 2))


@pytest.mark.parametrize("cores", [1, 2, 3, 16])
@pytest.mark.parametrize("size", [1, 6])
def test_batches_hold_all_images_in_order(size, cores, monkeypatch):
    """However many images are made by one call."""
    monkeypatch.setattr(in_place_batches, "worker_count", lambda: cores)
    dataset = numbers(size)
    assert dataset.element_spec["image"].shape == (size, 3, 5, 2) and dataset.element_spec["image"].dtype == tf.float32
    assert dataset.element_spec["label"].shape == (size, 3, 5) and dataset.element_spec["label"].dtype == tf.int32
    for index, batch in enumerate(dataset.take(20)):
        wanted = np.arange(index * size, (index + 1) * size)
        assert np.array_equal(batch["image"], np.broadcast_to(wanted[:, None, None, None], (size, 3, 5, 2)))
        assert np.array_equal(batch["label"], np.broadcast_to(wanted[:, None, None] % 7, (size, 3, 5)))
        assert batch["name"].numpy().tolist() == [str(number).encode() for number in wanted]
        assert batch["twice"].numpy().tolist() == (2 * wanted).tolist()


def test_a_batch_keeps_its_values_for_as_long_as_it_is_referred_to():
    iterators = [iter(numbers(3)) for _ in range(2)]
    kept = [[next(iterator)["image"] for _ in range(12)] for iterator in iterators]
    for batches in kept:
        assert [int(batch[0, 0, 0, 0]) for batch in batches] == list(range(0, 36, 3))
        assert all(len(np.unique(batch[2])) == 1 for batch in batches)


def test_an_incomplete_batch_is_left_out_and_an_error_arrives():
    assert sum(1 for _ in numbers(4, count=10)) == 2
    stream = iter(numbers(4, fail_at=6))
    assert int(next(stream)["twice"][3]) == 6
    with pytest.raises(tf.errors.InvalidArgumentError, match="no such image"):
        next(stream)


def test_a_finished_image_is_copied(monkeypatch):
    monkeypatch.setattr(in_place_batches, "worker_count", lambda: 2)

    def make(slots, numbers):
        (number,), (index,) = tf.unstack(numbers), tf.unstack(slots.indices)
        image = tf.fill([3, 5, 2], tf.cast(number, tf.float32))
        return slots.at(index).store(image, tf.fill([3, 5], tf.cast(number, tf.uint16))), {"number": numbers}

    dataset = batches_in_place(tf.data.Dataset.range(6).map(lambda number: (number,)), make, 2, (3, 5, 2))
    assert [batch["label"][:, 1, 1].numpy().tolist() for batch in dataset] == [[0, 1], [2, 3], [4, 5]]
    assert [batch["image"][:, 1, 1, 1].numpy().tolist() for batch in dataset] == [[0, 1], [2, 3], [4, 5]]
