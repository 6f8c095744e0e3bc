"""What every post-processing step must do. A test class sets `step`:

class TestMinArea(PostprocessBattery):
    step = staticmethod(postprocess.min_area(20))
"""

import numpy as np
import pytest


def probabilities_of(labels, classes=3):
    """Probabilities float32 [H, W, classes] whose largest are these labels."""
    return np.eye(classes, dtype=np.float32)[labels] * 0.7 + np.float32(0.1)


class PostprocessBattery:
    """Checks shapes, ranges, purity and determinism on random and extreme images."""

    step = None

    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (30, 40)])
    @pytest.mark.parametrize("classes", [2, 5])
    def test_probabilities_stay_probabilities(self, size, classes):
        draw = np.random.default_rng(3)
        scores = draw.dirichlet(np.ones(classes), size).astype(np.float32)
        image = draw.integers(0, 256, (*size, 3), np.uint8)
        kept = scores.copy()
        found = self.step(scores, image)
        assert found.shape == scores.shape and found.dtype == np.float32
        assert np.isfinite(found).all() and found.min() >= 0
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
        np.testing.assert_array_equal(scores, kept, "the input is not changed")
        np.testing.assert_array_equal(found, self.step(scores, image), "the same input gives the same result")

    @pytest.mark.parametrize("label", [0, 1])
    def test_an_image_of_one_class_stays(self, label):
        scores = probabilities_of(np.full((40, 50), label))
        found = self.step(scores, np.zeros((40, 50, 3), np.uint8))
        assert (found.argmax(-1) == label).all()

    def test_certain_probabilities_leave_no_gaps(self):
        scores = np.eye(3, dtype=np.float32)[np.random.default_rng(0).integers(0, 3, (20, 20))]
        found = self.step(scores, np.zeros((20, 20, 3), np.uint8))
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
