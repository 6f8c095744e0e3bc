"""The page of an evaluation: one file, everything on it, nothing that users named becomes markup."""

import json
import re

import numpy as np
import pytest
from support.html_reader import HOSTILE, require_one_file
from support.threshold_predictor import ByRed

from deeplab.evaluation import html_report
from deeplab.evaluation.evaluator import Evaluator, Measures
from deeplab.evaluation.image_counts import ImageCounts


class HalfSure(ByRed):
    """As `ByRed`, but sees no squares, and is less sure of every second image."""

    calls = 0

    def _predict(self, image, probabilities):
        labels, _ = super()._predict(image, False)
        labels[labels == 2] = 1
        self.calls += 1
        sure = 0.9 if image.sum() % 2 else 0.6
        scores = np.full((*labels.shape, 3), (1 - sure) / 2, np.float32)
        np.put_along_axis(scores, labels[..., None], sure, -1)
        return type(super()._predict(image, False))(labels, scores)


@pytest.fixture
def evaluated(disc_images):
    measures = Measures(extra=["calibration", "trimap_iou"], excluded=["ground"], group_by="[0-9]$", uncertainty=True)
    evaluator = Evaluator(HalfSure(), disc_images, measures)
    return evaluator, evaluator.evaluate({"dataset_dir": HOSTILE})


def test_a_page_of_an_evaluation(evaluated, tmp_path):
    evaluator, report = evaluated
    (tmp_path / "metrics-val-3-1.0.json").write_text(
        json.dumps({"split": "val", "evaluation": "val-3-1.0", "step": 3, "class_names": "abc", "mean_iou": 0.2})
    )
    (tmp_path / "metrics-strange.json").write_text("[1]")
    text = html_report.page_for(report, evaluator.images, evaluator.predictor, tmp_path)
    read = require_one_file(text)
    for words in (
        f"mean IoU {report.mean_iou:.3f}",
        "Without ground",
        "square predicted as disc",
        "Worst images",
        "Most uncertain images",
        "Best images",
        "Reliability",
        "Near outlines",
        "Checkpoints",
        "match of [0-9]$",
        "<script>alert(2)</script>",
    ):
        assert words in read.text, words
    low, high = report.intervals.mean_iou
    assert f"{low:.3f} to {high:.3f}" in read.text
    assert len(read.all("img")) == 4 * (3 * 4 + 1)  # four views of all four images of each kind, and of one pair
    assert text.count('class="line"') == 3


def test_the_matrix_has_a_cell_for_every_pair_with_pixels(evaluated):
    _, report = evaluated
    read = require_one_file(html_report.page(report))
    cells = [rect for rect in read.all("rect") if rect.get("class") in ("right", "wrong")]
    assert len(cells) == 2 * np.count_nonzero(report.counts)  # in percent and in pixels
    assert f"square predicted as disc: {report.counts[2, 1]:,} pixels, 100.0 %" in read.text


def test_names_cannot_break_out(make_report):
    names = (HOSTILE, '"><b>', "hair")
    report = make_report([[50, 9, 1], [10, 20, 0], [0, 5, 5]], names, checkpoint=HOSTILE, split=HOSTILE)
    read = require_one_file(html_report.page(report))
    assert read.text.count("<script>alert(2)</script>") >= 4


def test_many_classes(make_report):
    draw = np.random.default_rng(0)
    counts = draw.integers(0, 2, (150, 150)) * draw.integers(1, 10**6, (150, 150))
    names = [f"class name {index}" for index in range(150)]
    images = ImageCounts()
    images.add("a", counts)
    text = html_report.page(make_report(counts, names, images=images))
    read = require_one_file(text)
    assert read.text.count("class name 149") >= 5  # the table, and the four sides of the matrix
    assert len(text) < 6_000_000 and 'id="cells-counts"' not in text
    assert not re.search(r"<text[^>]*></text>", text)


def test_nothing_counted(make_report):
    read = require_one_file(html_report.page(make_report(np.zeros((3, 3), int))))
    assert "no pixel was counted" in read.text and "not labeled" in read.text


def test_curves_need_two_checkpoints(make_report):
    report = make_report(np.eye(3, dtype=int) * 5)
    assert html_report.curves_of({}, report) is None
    assert html_report.curves_of({500: {"mean_iou": 0.1}}, report) is None  # the same step
    chart = html_report.curves_of({100: {"mean_iou": 0.1, "kappa": 1}}, report)
    assert list(chart.series) == ["mean IoU"] and list(chart.series["mean IoU"]) == [(100, 0.1), (500, 1.0)]
