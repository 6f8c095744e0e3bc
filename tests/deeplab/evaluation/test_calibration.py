"""Calibration error: values by hand, a plain loop, models that are sure and wrong."""

import dataclasses

import numpy as np
import pytest
from support.accumulator_battery import AccumulatorBattery, pair
from support.errors import raises
from support.small_graphs import freeze
from support.threshold_predictor import ByRed

from deeplab.evaluation.calibration import BINS, Calibration
from deeplab.evaluation.evaluator import Evaluator, Measures
from deeplab.inference.load import load


class TestCalibration(AccumulatorBattery):
    name = "calibration"


def measured(label, prediction, confidence):
    metric = Calibration(3, 255)
    metric.add(np.asarray(label), np.asarray(prediction), np.asarray(confidence, np.float32))
    return metric


def test_by_hand():
    # Three pixels with 0.9, of which two are right; one with 0.5 that is right; one ignored.
    metric = measured([[0, 1, 2, 1, 255]], [[0, 1, 1, 1, 0]], [[0.9, 0.9, 0.9, 0.5, 0.1]])
    assert metric.overall()["calibration_error"] == pytest.approx((3 * abs(0.9 - 2 / 3) + abs(0.5 - 1)) / 4, rel=1e-6)
    plot = metric.details()["reliability"]
    assert plot["accuracy"][13] == pytest.approx(2 / 3) and plot["confidence"][7] == pytest.approx(0.5)
    assert plot["accuracy"][0] is None and sum(plot["pixel_fraction"]) == pytest.approx(1)


def test_equals_a_plain_loop():
    label, prediction = pair(4, 40, 50, 3)
    confidence = np.random.default_rng(1).random(label.shape, np.float32)
    error = 0.0
    for index in range(BINS):
        inside = (confidence > index / BINS) & (confidence <= (index + 1) / BINS)
        if inside.any():
            error += inside.mean() * abs((label == prediction)[inside].mean() - confidence[inside].mean())
    found = measured(label, prediction, confidence).overall()["calibration_error"]
    assert found == pytest.approx(error, abs=1e-6)


@pytest.mark.parametrize(("confidence", "error"), [(1.0, 0.75), (0.25, 0.0), (0.0, 0.25), (1.00001, 0.75)])
def test_extremes(confidence, error):
    metric = measured([[0, 0, 0, 0]], [[0, 1, 1, 2]], [[confidence] * 4])
    assert metric.overall()["calibration_error"] == pytest.approx(error, abs=1e-6)


def test_of_an_evaluation(disc_images, tmp_path):
    report = Evaluator(ByRed(), disc_images, Measures(extra=["calibration"])).evaluate()
    assert report.overall()["calibration_error"] == 0 and report.images.uncertainties == [0.0] * 4
    assert "calibration error       0.000  95 % interval 0.000 to 0.000" in report.text()
    path = freeze(tmp_path / "graph.pb", with_probabilities=False)
    images = dataclasses.replace(disc_images, settings=None)
    with raises("no-probabilities", where=path):
        Evaluator(load(path), images, Measures(extra=["calibration"])).evaluate()
    report = Evaluator(load(path), images, Measures(uncertainty=True)).evaluate()
    assert np.isnan(report.images.uncertainties).all()
