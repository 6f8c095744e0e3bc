"""The order of labeling, by hand."""

import csv
import io

import numpy as np

from deeplab.evaluation.uncertainty_ranking import Candidate, rank, ranking_csv
from deeplab.inference.segmenter import Segmentation


def candidates(*values):
    return [Candidate(f"{n}.jpg", u, np.array(f, np.float32)) for n, (u, f) in enumerate(values)]


def test_uncertainty_alone():
    found = rank(candidates((0.1, [0]), (0.4, [0]), (0.2, [0])), 2, 0.0)
    assert [place.index for place in found] == [1, 2, 0] and [place.chosen for place in found] == [True, True, False]


def test_diversity_skips_what_is_alike():
    """The second most uncertain one is like the first: another one comes before it."""
    few = candidates((0.40, [0, 0]), (0.39, [0, 0.01]), (0.30, [5, 5]), (0.05, [5, 5.01]))
    assert [place.index for place in rank(few, 4, 0.5)] == [0, 2, 1, 3]
    assert [place.index for place in rank(few, 4, 0.0)] == [0, 1, 2, 3]


def test_equal_images_are_all_listed():
    found = rank(candidates(*[(0.0, [1.0])] * 3), 9, 0.5)
    assert sorted(place.index for place in found) == [0, 1, 2]


def test_description_of_an_image():
    scores = np.zeros((8, 8, 2), np.float32)
    scores[..., 0], scores[..., 1] = 0.75, 0.25
    image = np.full((8, 8, 3), 255, np.uint8)
    one = Candidate.of("a.jpg", Segmentation(image, np.zeros((8, 8), np.uint8), scores, (), np.zeros((256, 3))))
    assert one.uncertainty == 0.25 and one.features.shape == (2 + 48,)
    np.testing.assert_allclose(one.features, [0.75, 0.25] + [0.25] * 48)


def test_table():
    few = candidates((0.5, [0]), (0.25, [1]))
    rows = list(csv.DictReader(io.StringIO(ranking_csv(few, rank(few, 1, 0.5)))))
    assert [row["image"] for row in rows] == ["0.jpg", "1.jpg"] and [row["chosen"] for row in rows] == ["yes", "no"]
    assert rows[0]["uncertainty"] == "0.500000"
