"""Two models compared: differences, intervals, disagreement pixel by pixel, the page."""

import dataclasses
import json

import numpy as np
import pytest
from support.errors import raises
from support.html_reader import require_one_file
from support.threshold_predictor import ByRed

from deeplab.evaluation import comparison, examples, metrics
from deeplab.evaluation.comparison import Comparison, Disagreement, KeptLabels, verdict
from deeplab.evaluation.evaluator import Evaluator, Measures


class NoSquares(ByRed):
    """As `ByRed`, but takes squares for ground."""

    def _predict(self, image, probabilities):
        found = super()._predict(image, probabilities)
        return found._replace(labels=np.where(found.labels == 2, 0, found.labels))


@pytest.fixture
def compared(disc_images):
    kept = KeptLabels()
    counted = Disagreement(kept, 255)
    measures = Measures(extra=["boundary_iou"])
    first = Evaluator(NoSquares(), disc_images, measures, kept.keep).evaluate()
    second = Evaluator(ByRed(), disc_images, measures, counted.count).evaluate()
    return Comparison(first, second, counted.fractions)


def test_differences(compared, disc_pairs):
    labels = [label for _, label in disc_pairs.values()]
    assert compared.disagreement == pytest.approx([(label == 2).mean() for label in labels])
    assert compared.most_different() == sorted(
        (index for index in range(4) if (labels[index] == 2).any()), key=lambda index: -(labels[index] == 2).mean()
    )
    found = compared.differences()
    assert found["mean_iou"] == pytest.approx(1 - metrics.mean_iou(compared.first.counts))
    assert found["mean_boundary_iou"] > 0 and found["image_mean_iou"] > 0
    ends = compared.intervals()
    assert ends.overall["mean_iou"][0] <= found["mean_iou"] <= ends.overall["mean_iou"][1]
    rows = {row[0]: row for row in compared.class_rows()}
    assert rows["square"][1:4] == ("0.000", "1.000", "+1.000") and rows["disc"][3] == "+0.000"
    assert "pair_101" in compared.text() and "mean boundary IoU" in compared.text()


def test_the_same_model_does_not_differ(disc_images):
    report = Evaluator(ByRed(), disc_images).evaluate()
    same = Comparison(report, report, [0.0] * 4)
    assert set(same.differences().values()) == {0} and same.most_different() == []
    assert all(ends.tolist() == [0, 0] for ends in same.intervals().overall.values())


def test_files(compared, disc_images, tmp_path):
    predicts = [examples.predict_with(model, disc_images) for model in (NoSquares(), ByRed())]
    page, content = comparison.write_comparison(compared, disc_images, predicts, tmp_path / "new")
    read = require_one_file(page.read_text())
    assert len(read.all("img")) == 4 * 2 and "Images where they disagree most" in read.text
    written = json.loads(content.read_text())
    assert written["metrics"]["mean_iou"]["difference"] == pytest.approx(compared.differences()["mean_iou"])
    assert [row["image"] for row in written["images"]] == compared.first.images.names


def test_other_images_are_refused(compared):
    other = compared.second.images.subset([0, 1])
    with raises("dataset-mismatch"):
        Comparison(compared.first, dataclasses.replace(compared.second, images=other), [0, 0])


def test_ignored_pixels_do_not_disagree():
    kept = KeptLabels()
    kept.keep(0, np.zeros((1, 3), int), np.array([[0, 1, 2]]))
    kept.keep(1, np.zeros((1, 2), int), np.array([[0, 1]]))
    counted = Disagreement(kept, 255)
    counted.count(0, np.array([[0, 0, 255]]), np.array([[0, 2, 0]]))
    counted.count(1, np.full((1, 4), 255), np.zeros((1, 4), int))
    assert counted.fractions[0] == 0.5 and np.isnan(counted.fractions[1])


@pytest.mark.parametrize(
    ("interval", "words"),
    [((0.1, 0.2), "second is higher"), ((-0.2, -0.1), "first is higher"), ((-0.1, 0.1), ""), ((np.nan, 1), "")],
)
def test_verdicts(interval, words):
    assert verdict(np.array(interval)) == words
    assert verdict(None) == ""


def test_kept_labels_beyond_256_classes_stay_themselves():
    kept = KeptLabels()
    kept.keep(0, np.zeros((1, 2), int), np.array([[299, 43]]))
    assert kept.of(0).tolist() == [[299, 43]]
