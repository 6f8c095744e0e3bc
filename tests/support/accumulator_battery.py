"""What every accumulator must do, and labels to try it on."""

import json

import numpy as np
import pytest

from deeplab.evaluation.metrics import ACCUMULATORS

IGNORE = 255


def pair(seed: int, height: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A label of blocks and discs, and a prediction that is shifted and has one pixel in a hundred changed."""
    draw = np.random.default_rng(seed)
    label = np.kron(draw.integers(0, classes, (-(-height // 16), -(-width // 16))), np.ones((16, 16), int))
    label = label[:height, :width]
    rows, columns = np.mgrid[:height, :width]
    for index in range(1, classes):
        row, column = draw.integers(0, height), draw.integers(0, width)
        radius = draw.integers(5, max(6, min(height, width) // 3))
        label[np.hypot(rows - row, columns - column) < radius] = index
    prediction = np.roll(label, (int(draw.integers(-4, 5)), int(draw.integers(-4, 5))), (0, 1))
    changed = draw.random((height, width)) < 0.01
    return label, np.where(changed, draw.integers(0, classes, (height, width)), prediction)


def with_ignored(label: np.ndarray) -> np.ndarray:
    """The label with a ring of ignored pixels and an ignored corner."""
    label = label.copy()
    label[10:14, 5:40] = label[:6, :9] = IGNORE
    return label


class AccumulatorBattery:
    """Checks of one accumulator; a subclass sets `name`."""

    name = ""

    def made(self):
        return ACCUMULATORS.get(self.name)(3, IGNORE)

    def filled(self, *pairs):
        metric = self.made()
        for number, (label, prediction) in enumerate(pairs):
            metric.add(label, prediction, np.random.default_rng(number).random(label.shape, np.float32))
        return metric

    def test_images_add_up(self):
        pairs = [pair(seed, 40, 60, 3) for seed in range(3)]
        metric = self.filled(*pairs)
        np.testing.assert_allclose(metric.total(), sum(metric.statistics), rtol=1e-12)
        part = self.filled(*pairs[:2])
        np.testing.assert_equal(part.overall(), metric.overall(sum(metric.statistics[:2])))
        assert len({one.shape for one in metric.statistics}) == 1

    def test_ignored_pixels_count_nowhere(self):
        label, prediction = pair(1, 40, 60, 3)
        label = with_ignored(label)
        found = []
        for value in (0, 1, 2):
            changed = np.where(label == IGNORE, value, prediction)
            found.append(self.filled((label, changed)).total())
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])

    def test_nothing_counted(self):
        for metric in (self.made(), self.filled((np.full((9, 9), IGNORE), np.zeros((9, 9), int)))):
            assert all(np.isnan(value) for value in metric.overall().values())
            assert all(np.isnan(row).all() and row.shape == (3,) for row in metric.per_class().values())
            json.dumps(metric.details(), allow_nan=True)

    def test_values_are_from_0_to_1(self):
        metric = self.filled(*[pair(seed, 50, 70, 3) for seed in range(4)])
        values = [*metric.overall().values(), *np.concatenate([[], *metric.per_class().values()])]
        assert values and all(0 <= value <= 1 for value in values if not np.isnan(value))

    @pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1)])
    def test_tiny_images(self, size):
        assert self.filled((np.ones(size, int), np.ones(size, int))).total().shape == self.made().total().shape
