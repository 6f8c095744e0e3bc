"""Resamples against plain loops, every metric in them, and differences of two models."""

import numpy as np
import pytest
from support.accumulator_battery import pair

from deeplab.evaluation import ConfusionMatrix, bootstrap, metrics
from deeplab.evaluation.boundary_iou import BoundaryIou
from deeplab.evaluation.image_counts import ImageCounts


def measured(seeds, classes=3, shift=0):
    """Counts and boundary IoU of some pairs; `shift` makes predictions worse."""
    images, metric = ImageCounts(), BoundaryIou(classes, 255)
    for seed in seeds:
        label, prediction = pair(seed, 30, 40, classes)
        prediction = np.roll(prediction, shift, 1)
        images.add(f"{seed}", ConfusionMatrix(classes).add(label, prediction))
        metric.add(label, prediction)
    return images, {"boundary_iou": metric}


def test_every_metric_equals_a_plain_loop():
    images, accumulators = measured(range(7))
    found = bootstrap.resample(images, accumulators, resamples=60, seed=4)
    assert set(found.overall) == {*metrics.OVERALL, "image_mean_iou", "mean_boundary_iou"}
    times = bootstrap.draw(7, 60, 4).astype(int)
    assert (times.sum(axis=1) == 7).all()
    for row in (0, 55):
        drawn = np.repeat(np.arange(7), times[row])
        counts = sum(images.counts_of(index) for index in drawn)
        for name in metrics.OVERALL:
            assert found.overall[name][row] == pytest.approx(metrics.OVERALL.get(name)(counts), rel=1e-12)
        total = sum(accumulators["boundary_iou"].statistics[index] for index in drawn)
        expected = accumulators["boundary_iou"].overall(total)["mean_boundary_iou"]
        assert found.overall["mean_boundary_iou"][row] == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(found.class_iou[row], metrics.class_iou(counts), rtol=1e-12)


def test_many_images_are_summed_in_parts():
    images, _ = measured([3] * (bootstrap._CHUNK + 5))
    found = bootstrap.resample(images, {}, resamples=3, only=["mean_iou"])
    np.testing.assert_allclose(found.overall["mean_iou"], metrics.mean_iou(images.counts_of(0)), rtol=1e-12)


def test_intervals_leave_a_fortieth_on_each_side():
    values = np.arange(1001.0)
    class_iou = np.column_stack([values[::-1], np.where(values < 601, values, np.nan), np.full(1001, np.nan)])
    found = bootstrap.Resampled({"mean_iou": values, "image_mean_iou": -values}, class_iou).intervals()
    np.testing.assert_allclose(found.mean_iou, [25, 975])
    np.testing.assert_allclose(found.image_mean_iou, [-975, -25])
    np.testing.assert_allclose(found.class_iou, [[25, 15, np.nan], [975, 585, np.nan]])


def test_differences_use_the_same_draws():
    """Models whose difference is the same in every image have a narrow interval, however images differ."""
    one, other = measured(range(8))[0], measured(range(8), shift=6)[0]
    first, second = bootstrap.resample(one, {}), bootstrap.resample(other, {})
    difference = first.minus(second).intervals().mean_iou
    assert difference[0] > 0  # the shifted one is worse
    apart = first.intervals().mean_iou[1] - second.intervals().mean_iou[0]
    assert difference[1] - difference[0] < apart
    same = first.minus(bootstrap.resample(one, {})).intervals()
    assert same.mean_iou.tolist() == [0, 0] and same.class_iou.tolist() == [[0] * 3] * 2
