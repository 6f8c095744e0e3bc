"""Label errors: thresholds and margins by hand, and corrupted labels that come out first."""

import csv
import io

import numpy as np
import pytest
from support.html_reader import require_one_file
from support.threshold_predictor import ByRed

from deeplab.data import colormaps
from deeplab.evaluation import confident_learning as learning
from deeplab.evaluation.confident_learning import Judged
from deeplab.visualization.label_rendering import LabelColors

COLORS = LabelColors(("ground", "disc", "square"), colormaps.colors_for("pascal", 3), 255)


def judged(label, scores, name="a"):
    return Judged.of(name, (0, 0), np.asarray(label), np.asarray(scores, np.float32), 255)


def sure_of(label, sure=0.9, classes=3):
    """Probabilities that give a label this much."""
    scores = np.full((*label.shape, classes), (1 - sure) / (classes - 1), np.float32)
    np.put_along_axis(scores, label[..., None], sure, -1)
    return scores


def scene(seed):
    draw = np.random.default_rng(seed)
    label = np.zeros((40, 50), int)
    row, column = draw.integers(0, 20, 2)
    label[row : row + 16, column : column + 18] = draw.integers(1, 3)
    return label


def test_thresholds_by_hand():
    one = judged([[0, 0, 1, 255]], [[[1, 0, 0], [0.6, 0.4, 0], [0.2, 0.8, 0], [0, 0, 1]]])
    limits, pixels = learning.thresholds([one], 3, 255)
    np.testing.assert_allclose(limits, [0.8, 0.8, 1.0], atol=2e-3)
    assert pixels.tolist() == [2, 1, 0]


def test_suspect_pixels_by_hand():
    scores = [[[0.9, 0.1, 0], [0.05, 0.95, 0], [0.3, 0.7, 0], [0, 1, 0]]]
    one = judged([[0, 0, 0, 255]], scores)
    suspect, margin = learning.suspects(one, np.array([0.9, 0.8, 1.0]), 255)
    assert suspect.tolist() == [[False, True, False, False]]  # 0.7 is below the threshold of its class
    np.testing.assert_allclose(margin, [[0, 0.9, 0, 0]], atol=5e-3)


@pytest.mark.parametrize("way", ["shifted", "swapped", "missing", "of another image"])
def test_corrupted_labels_come_first(way):
    found = []
    for seed in range(30):
        truth = scene(seed)
        label = truth.copy()
        if seed in (4, 11, 23):
            label = {
                "shifted": np.roll(truth, (9, 12), (0, 1)),
                "swapped": np.where(truth > 0, 3 - truth, 0),
                "missing": np.zeros_like(truth),
                "of another image": scene(seed + 100),
            }[way]
        noise = np.random.default_rng(seed).random(truth.shape)[..., None]
        scores = sure_of(truth) * (1 - 0.3 * noise) + 0.1 * noise
        found.append(judged(label, scores, f"{seed}"))
    ranked = learning.rank(found, 3, 255)
    assert {one.judged.name for one in ranked[:3]} == {"4", "11", "23"}
    assert ranked[2].score > 3 * ranked[3].score and ranked[0].score <= 1


def test_regions_by_hand():
    label = np.zeros((20, 30), int)
    truth = label.copy()
    truth[2:8, 3:13] = 1
    truth[12:15, 20:22] = 2
    (found,) = learning.rank([judged(label, sure_of(truth)), judged(truth, sure_of(truth), "b")], 3, 255, 10)[:1]
    (region,) = found.regions  # the other one has 6 pixels
    assert (region.left, region.top, region.width, region.height, region.pixels) == (3, 2, 10, 6, 60)
    assert (region.labeled, region.predicted) == (0, 1) and region.margin == pytest.approx(0.85, abs=0.01)
    rows = list(csv.DictReader(io.StringIO(learning.regions_csv([found], ("ground", "disc", "square")))))
    assert rows[0]["predicted"] == "disc" and rows[0]["left"] == "3" and rows[0]["rank"] == "1"
    rows = list(csv.DictReader(io.StringIO(learning.images_csv([found]))))
    assert rows[0]["image"] == "a" and int(rows[0]["suspect_pixels"]) == 66


def test_nothing_labeled():
    (found,) = learning.rank([judged(np.full((4, 4), 255), sure_of(np.zeros((4, 4), int)))], 3, 255)
    assert found.score == 0 and found.regions == []


def test_of_a_split_with_files(disc_images, tmp_path):
    found = learning.rank(list(learning.judge(ByRed(), disc_images)), 3, 255)
    assert [one.score for one in found] == [0, 0, 0, 0]
    image = np.zeros((48, 64, 3), np.uint8)
    paths = learning.write_results(found, [(found[0], image)], COLORS, np.ones(3), tmp_path)
    assert [path.name for path in paths] == ["images.csv", "regions.csv", "report.html", "overlay"]
    assert len(list((tmp_path / "overlay").iterdir())) == 1
    read = require_one_file((tmp_path / "report.html").read_text())
    assert len(read.all("img")) == 4 and "1 of 4 images" in read.text


def test_labels_of_16_bits_are_kept_whole():
    scores = np.zeros((1, 3, 300), np.float32)
    scores[..., 299] = 1
    one = Judged.of("a", (0, 0), np.array([[299, 43, 65535]]), scores, 65535)
    label, prediction, sure, of_label = one.arrays()
    assert label.tolist() == [[299, 43, 65535]] and prediction.tolist() == [[299, 299, 299]]
    assert sure.tolist() == [[1, 1, 1]] and of_label[0, :2].tolist() == [1, 0]
