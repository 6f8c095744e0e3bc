"""Tiles: where they are, their weights, and that they agree with the prediction of the whole image."""

import itertools

import cv2
import numpy as np
import pytest
from support.errors import raises
from support.threshold_predictor import ByRed

from deeplab import Segmenter
from deeplab.inference.predictor import Prediction
from deeplab.inference.tiles import TiledPredictor, ramp, tile_starts


class Blurred(ByRed):
    """Class 1 by the mean brightness of 15x15 pixels: it needs the pixels around, as a model does."""

    def _predict(self, image, probabilities):
        self.largest = max(getattr(self, "largest", 0), *image.shape[:2])
        value = cv2.blur(image[..., 0].astype(np.float32) / 255, (15, 15))
        scores = np.stack([1 - value, value, 0 * value], -1)
        return Prediction(scores.argmax(-1).astype(np.int32), scores)


def random_image(height, width):
    small = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    return cv2.resize(small, (width, height))


@pytest.mark.parametrize("length", [5, 10, 11, 15, 37, 100])
@pytest.mark.parametrize("overlap", [0, 3, 5])
def test_tiles_cover_a_side_and_overlap(length, overlap):
    starts = tile_starts(length, 10, overlap)
    assert starts[0] == 0 and max(starts) + 10 >= length and (length < 10 or starts[-1] + 10 == length)
    assert all(0 < after - before <= 10 - overlap for before, after in itertools.pairwise(starts))


def test_weights_by_hand():
    np.testing.assert_allclose(ramp(6, 2), [1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3], rtol=1e-6)
    assert ramp(3, 0).tolist() == [1, 1, 1]


def test_a_predictor_of_single_pixels_agrees_everywhere():
    image = random_image(104, 152)
    whole, tiled = ByRed().predict(image), TiledPredictor(ByRed(), 40, 8).predict(image)
    np.testing.assert_array_equal(tiled.labels, whole.labels)
    np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=1e-6)


def test_no_seams():
    """Blending leaves a smaller error than tiles without overlap, and no step at their borders."""
    image, predictor = random_image(160, 240), Blurred()
    whole = predictor.predict(image).probabilities
    predictor.largest = 0
    tiled, hard = (TiledPredictor(predictor, 64, overlap).predict(image).probabilities for overlap in (32, 0))
    assert predictor.largest == 64
    steps = [np.abs(np.diff(each - whole, axis=1)).max() for each in (tiled, hard)]
    assert steps[0] < 0.02 < 0.1 < steps[1]
    assert np.abs(tiled - whole).mean() < np.abs(hard - whole).mean() / 2
    np.testing.assert_allclose(tiled.sum(-1), 1, atol=1e-5)


def test_small_images_are_predicted_as_a_whole():
    image = random_image(40, 40)
    np.testing.assert_array_equal(
        TiledPredictor(Blurred(), 40, 8).predict(image).probabilities, Blurred().predict(image).probabilities
    )


def test_segmenter_takes_tiles():
    image = random_image(104, 152)
    found = Segmenter(ByRed(), tile_size=40, tile_overlap=8)(image)
    np.testing.assert_array_equal(found.labels, Segmenter(ByRed())(image).labels)


@pytest.mark.parametrize("overlap", [-1, 21])
def test_overlaps_that_do_not_fit(overlap):
    with raises("out-of-range", "tile_overlap") as caught:
        TiledPredictor(ByRed(), 40, overlap)
    assert caught.value.value == overlap


def test_a_file_without_probabilities_is_refused():
    class Bare(ByRed):
        def _predict(self, image, probabilities):
            return Prediction(super()._predict(image, False).labels, None)

    with raises("no-probabilities", "tile_size"):
        TiledPredictor(Bare(), 40, 8).predict(random_image(48, 48))
