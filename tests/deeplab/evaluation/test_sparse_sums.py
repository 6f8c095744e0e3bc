"""Statistics of many classes: equal to whole arrays to the bit, and as small as what occurs."""

import numpy as np
import pytest
from support.accumulator_battery import pair

from deeplab.evaluation import bootstrap, metrics, sparse_sums
from deeplab.evaluation.confusion import ConfusionMatrix
from deeplab.evaluation.image_counts import ImageCounts
from deeplab.evaluation.sparse_sums import SparseSums

CLASSES, IGNORED, IMAGES = 300, 65535, 60
NAMES = ("boundary_iou", "trimap_iou", "object_size", "calibration")


def test_it_can_be_used_as_an_array():
    values = np.array([[0, 4, 0], [2**40, 0, -1]])
    part = SparseSums.of(values)
    assert part.shape == (2, 3) and part.cells.tolist() == [1, 3, 5] and part.numbers.tolist() == [4, 2**40, -1]
    np.testing.assert_array_equal(part, values)
    assert (part + 1).tolist() == (values + 1).tolist() and sum([part, part]).tolist() == (2 * values).tolist()
    assert np.asarray(part, np.float64).dtype == np.float64
    total = np.ones((2, 3), np.int64)
    assert sparse_sums.added(total, [part.part, part.part]).tolist() == (1 + 2 * values).tolist() and total.sum() == 6


@pytest.fixture(scope="module")
def measured():
    """Counts, and all extra metrics with the statistics as arrays in a second set."""
    images, sparse, dense = ImageCounts(), {}, {}
    for number in range(IMAGES):
        label, prediction = pair(number % 7, 30, 40, 3)
        label, prediction = (np.array([255, 256, 299])[values] for values in (label, prediction))
        label[:2, :5] = IGNORED
        images.add(f"{number}", ConfusionMatrix(CLASSES, IGNORED).add(label, prediction))
        confidence = np.random.default_rng(number).random(label.shape, np.float32)
        for name in NAMES:
            for metric in (
                one.setdefault(name, metrics.ACCUMULATORS.get(name)(CLASSES, IGNORED)) for one in (sparse, dense)
            ):
                metric.add(label, prediction, confidence)
    for metric in dense.values():
        metric.statistics = [np.asarray(one) for one in metric.statistics]
    return images, sparse, dense


@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_those_of_whole_arrays(measured, name):
    _, sparse, dense = measured
    assert isinstance(sparse[name].statistics[0], SparseSums) == (name != "calibration")
    np.testing.assert_array_equal(sparse[name].total(), dense[name].total())
    assert sparse[name].total().dtype == dense[name].total().dtype
    np.testing.assert_equal(sparse[name].overall(), dense[name].overall())
    np.testing.assert_equal(sparse[name].per_class(), dense[name].per_class())
    assert sparse[name].details() == dense[name].details()


def test_resamples_are_those_of_whole_arrays(measured, monkeypatch):
    images, sparse, dense = measured
    monkeypatch.setattr(sparse_sums, "_MAX_CELLS", 50)  # a few resamples at once
    found, expected = (bootstrap.resample(images, one, resamples=20, only=["mean_iou"]) for one in (sparse, dense))
    assert len(found.overall) > 12
    np.testing.assert_equal(found.overall, expected.overall)


def test_memory_depends_on_the_classes_that_occur():
    label = np.full((200, 400), 40_000)
    label[20:40, 20:60] = 65_000
    for name in NAMES[:3]:
        metric = metrics.ACCUMULATORS.get(name)(65_535, IGNORED)
        metric.add(label, label)
        (part,) = metric.statistics
        assert part.cells.nbytes + part.numbers.nbytes < 1000 and np.asarray(part).sum() > 0


def test_nothing_measured():
    parts = [SparseSums.of(np.zeros((2, 3), int)).part] * 2
    used = sparse_sums.used_cells(parts)
    assert used.tolist() == [] and [one.shape for one in sparse_sums.resampled(parts, np.ones((4, 2)), used)] == [
        (0, 4)
    ]
