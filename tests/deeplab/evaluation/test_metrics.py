"""Metrics of small matrices, worked out by hand, and of the reference's cases."""

import json

import numpy as np
import pytest

from deeplab.evaluation import ConfusionMatrix, metrics

NAN = float("nan")

# Rows = label. 100 pixels: 60 of class 0, 30 of class 1, 10 of class 2.
THREE = np.array([[50, 9, 1], [10, 20, 0], [0, 5, 5]])
# Class 1 is labeled nowhere but predicted once; class 2 is neither labeled nor predicted.
ABSENT = np.array([[6, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 3]])
EMPTY = np.zeros((2, 2), np.int64)


@pytest.mark.parametrize(
    ("metric", "counts", "expected"),
    [
        (metrics.class_iou, THREE, [50 / 70, 20 / 44, 5 / 11]),
        (metrics.class_accuracy, THREE, [50 / 60, 20 / 30, 5 / 10]),
        (metrics.class_precision, THREE, [50 / 60, 20 / 34, 5 / 6]),
        (metrics.class_dice, THREE, [100 / 120, 40 / 64, 10 / 16]),
        (metrics.class_f2, THREE, [250 / (4 * 60 + 60), 100 / (4 * 30 + 34), 25 / (4 * 10 + 6)]),
        (metrics.class_dice, ABSENT, [12 / 15, NAN, NAN, 6 / 8]),
        (metrics.label_fraction, THREE, [0.60, 0.30, 0.10]),
        (metrics.predicted_fraction, THREE, [0.60, 0.34, 0.06]),
        (metrics.class_iou, ABSENT, [6 / 9, NAN, NAN, 3 / 5]),
        (metrics.class_accuracy, ABSENT, [6 / 8, NAN, NAN, 3 / 4]),
        (metrics.class_precision, ABSENT, [6 / 7, 0, NAN, 3 / 4]),
        (metrics.label_fraction, ABSENT, [8 / 12, 0, 0, 4 / 12]),
        (metrics.predicted_fraction, ABSENT, [7 / 12, 1 / 12, 0, 4 / 12]),
        (metrics.class_iou, EMPTY, [NAN, NAN]),
        (metrics.label_fraction, EMPTY, [NAN, NAN]),
    ],
)
def test_metrics_of_a_class(metric, counts, expected):
    np.testing.assert_allclose(metric(counts), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("metric", "counts", "expected"),
    [
        (metrics.mean_iou, THREE, (50 / 70 + 20 / 44 + 5 / 11) / 3),
        (metrics.pixel_accuracy, THREE, 0.75),
        (metrics.mean_accuracy, THREE, (50 / 60 + 20 / 30 + 5 / 10) / 3),
        (metrics.frequency_weighted_iou, THREE, 0.6 * 50 / 70 + 0.3 * 20 / 44 + 0.1 * 5 / 11),
        (metrics.reference_mean_iou, THREE, (50 / 70 + 20 / 44 + 5 / 11) / 3),
        (metrics.mean_dice, THREE, (100 / 120 + 40 / 64 + 10 / 16) / 3),
        (metrics.mean_dice, EMPTY, NAN),
        # by chance: 0.60 * 0.60 + 0.30 * 0.34 + 0.10 * 0.06 = 0.468
        (metrics.kappa, THREE, (0.75 - 0.468) / (1 - 0.468)),
        (metrics.kappa, np.array([[1, 1], [1, 1]]), 0.0),
        (metrics.kappa, np.array([[0, 2], [2, 0]]), -1.0),
        (metrics.kappa, np.array([[5, 0], [0, 0]]), NAN),
        (metrics.kappa, EMPTY, NAN),
        (metrics.mean_iou, ABSENT, (6 / 9 + 3 / 5) / 2),
        (metrics.pixel_accuracy, ABSENT, 9 / 12),
        (metrics.mean_accuracy, ABSENT, 0.75),
        (metrics.frequency_weighted_iou, ABSENT, 8 / 12 * 6 / 9 + 4 / 12 * 3 / 5),
        (metrics.reference_mean_iou, ABSENT, (6 / 9 + 0 + 3 / 5) / 3),  # class 1 counts as 0 there
        (metrics.mean_iou, EMPTY, NAN),
        (metrics.pixel_accuracy, EMPTY, NAN),
        (metrics.mean_accuracy, EMPTY, NAN),
        (metrics.frequency_weighted_iou, EMPTY, NAN),
        (metrics.reference_mean_iou, EMPTY, 0.0),
    ],
)
def test_metrics_of_the_split(metric, counts, expected):
    assert metric(counts) == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_present_classes():
    assert metrics.present_classes(ABSENT).tolist() == [True, False, False, True]


def test_row_fractions():
    np.testing.assert_allclose(metrics.row_fractions(THREE)[0], [50 / 60, 9 / 60, 1 / 60])
    assert np.isnan(metrics.row_fractions(ABSENT)[1]).all()


def test_counts_beyond_float32():
    """2^24 + 1 pixels: float32 counters, as in the reference's graph, stop counting there."""
    counts = np.array([[2**24 + 1, 0], [1, 0]])
    assert metrics.class_iou(counts)[0] == (2**24 + 1) / (2**24 + 2)


def test_numbers_of_the_reference(golden):
    stored = json.loads((golden / "metrics.json").read_text())["cases"]
    arrays = np.load(golden / "metrics.npz")
    assert len(stored) == 6
    for case in stored:
        counts = arrays[f"{case['name']}/confusion"]
        by_class = [NAN if value is None else value for value in case["class_iou"]]
        assert metrics.reference_mean_iou(counts) == pytest.approx(case["mean_iou"], abs=1e-7), case["name"]
        np.testing.assert_allclose(metrics.reference_class_iou(counts), by_class, atol=1e-7, err_msg=case["name"])


def test_a_real_evaluation_of_the_reference(golden):
    """Predictions and labels of a checkpoint, and the values that eval.py printed for it on TensorFlow 1.15."""
    run = json.loads((golden / "metrics.json").read_text())["run700"]
    arrays = np.load(golden / "metrics.npz")
    matrix = ConfusionMatrix(4, 255)
    for name in run["names"]:
        matrix.add(arrays[f"run700/{name}/label"], arrays[f"run700/{name}/prediction"], name)
    assert metrics.reference_mean_iou(matrix.counts) == pytest.approx(run["tags"]["eval/miou_1.0_overall"], abs=1e-7)
    for index, iou in enumerate(metrics.reference_class_iou(matrix.counts)):
        assert iou == pytest.approx(run["tags"][f"eval/miou_1.0_class_{index}"], abs=1e-7)


def test_a_registered_metric_is_shown_and_stored(portrait_report, monkeypatch):
    monkeypatch.setattr(metrics.OVERALL, "_items", dict(metrics.OVERALL._items))
    metrics.OVERALL.register("worst_iou")(lambda counts: float(np.nanmin(metrics.class_iou(counts))))
    assert portrait_report.overall()["worst_iou"] == pytest.approx(20 / 44)
    assert "worst IoU" in portrait_report.text()


def test_the_most_confused_of_many_classes_are_kept_and_the_others_summed():
    counts = np.diag(np.full(300, 7))
    counts[299, 298], counts[5, 6] = 90, 80
    found, names, numbers = metrics.condensed(counts, [f"c{index}" for index in range(300)])
    assert found.sum() == counts.sum() and found.shape == (61, 61) and len(names) == 61
    assert {5, 6, 298, 299} <= set(numbers.tolist()) and numbers[-1] == -1 and names[-1] == "240 other classes"
    place = numbers.tolist()
    assert found[place.index(299), place.index(298)] == 90 and found[-1, -1] == 240 * 7
    same, names, _ = metrics.condensed(counts[:3, :3], ["a", "b", "c"])
    assert same.shape == (3, 3) and names == ["a 0", "b 1", "c 2"]


def test_best_and_worst_classes():
    iou = np.array([0.2, np.nan, 0.9, 0.5, 0.1])
    assert metrics.best_and_worst(iou, 5).tolist() == [2, 3, 0, 4, 1]
    assert metrics.best_and_worst(iou, 4).tolist() == [2, 3, 0, 4]
    assert metrics.best_and_worst(iou, 2).tolist() == [2, 4]
