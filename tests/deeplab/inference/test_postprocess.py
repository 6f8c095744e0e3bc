"""Post-processing steps, their setting, and the Predictor that applies them."""

import numpy as np
import pytest
from support.errors import raises
from support.postprocess_battery import PostprocessBattery, probabilities_of
from support.small_graphs import freeze

from deeplab import Segmenter
from deeplab.inference import postprocess
from deeplab.inference.load import load

IMAGE = np.zeros((12, 12, 3), np.uint8)


class TestMinArea(PostprocessBattery):
    step = staticmethod(postprocess.min_area(20))


class TestGuidedFilter(PostprocessBattery):
    step = staticmethod(postprocess.guided_filter(3, 20))


class TestFillHoles(PostprocessBattery):
    step = staticmethod(postprocess.fill_holes())


class TestLargestComponent(PostprocessBattery):
    step = staticmethod(postprocess.largest_component())


@pytest.fixture
def labels():
    """A square of class 1 with a hole, a speck of class 2 inside, and a second, smaller square."""
    labels = np.zeros((12, 12), int)
    labels[1:8, 1:8] = 1
    labels[3, 3] = 0
    labels[5, 5] = 2
    labels[9:11, 9:11] = 1
    return labels


def after(step, labels):
    return step(probabilities_of(labels), IMAGE).argmax(-1)


def test_small_regions_go(labels):
    found = after(postprocess.min_area(4), labels)
    assert found[5, 5] != 2 and found[3, 3] != 0 and (found[9:11, 9:11] == 1).all()
    assert (after(postprocess.min_area(5), labels)[9:11, 9:11] != 1).all()


def test_the_largest_region_stays(labels):
    found = after(postprocess.largest_component(), labels)
    assert (found[9:11, 9:11] == 0).all() and found[1, 1] == 1 and found[5, 5] == 2


def test_holes_are_filled_by_the_class_around_them(labels):
    found = after(postprocess.fill_holes(), labels)
    assert found[3, 3] == 1 and found[5, 5] == 2 and found[0, 0] == 0
    labels[3, 3:5] = 0
    assert after(postprocess.fill_holes(1), labels)[3, 3] == 0
    assert (after(postprocess.fill_holes(2), labels)[3, 3:5] == 1).all()


def test_the_setting():
    assert len(postprocess.parse("min_area:200, fill_holes")) == 2 and postprocess.parse("") == []
    for text, code in (("min_aera:3", "unknown-name"), ("min_area", "wrong-type"), ("min_area:x", "wrong-type")):
        with raises(code, "postprocess"):
            postprocess.parse(text)
    with raises("out-of-range", "postprocess"):
        postprocess.parse("min_area:-1")


def test_a_predictor_with_steps(small_run):
    image = np.random.default_rng(1).integers(0, 256, (40, 52, 3), np.uint8)
    plain, processed = load(small_run), load(small_run, {"postprocess": "min_area:60"})
    labels, probabilities = processed.predict(image)
    assert processed.class_names == plain.class_names and processed.step == 7
    changed = plain.predict(image).labels != labels
    assert 0 < changed.sum() < labels.size
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert (Segmenter(small_run, postprocess="min_area:60")(image).labels == labels).all()


def test_files_without_probabilities(tmp_path):
    path = freeze(tmp_path / "graph.pb", with_probabilities=False)
    with raises("no-probabilities", "postprocess"):
        load(path, {"postprocess": "fill_holes"}).predict(IMAGE)
    with_them = load(freeze(tmp_path / "b.pb"), {"postprocess": "fill_holes"})
    assert with_them.predict(IMAGE).labels.shape == (12, 12)


def test_guided_filter_equals_its_equations():
    """He et al., equations 5, 6 and 8, window by window; and outlines move to the image's edge."""
    draw = np.random.default_rng(2)
    image = draw.integers(0, 256, (12, 14, 3), np.uint8)
    scores = draw.dirichlet(np.ones(2), (12, 14)).astype(np.float32)
    guide, radius, epsilon = image.mean(-1) / 255, 2, (10 / 255) ** 2
    padded, values = np.pad(guide, 2 * radius, "symmetric"), np.pad(scores[..., 1], 2 * radius, "symmetric")
    slopes, offsets = np.zeros((2, 16, 18))
    for row, column in np.ndindex(16, 18):
        part = np.s_[row : row + 2 * radius + 1, column : column + 2 * radius + 1]
        one, other = padded[part], values[part]
        slopes[row, column] = ((one * other).mean() - one.mean() * other.mean()) / (one.var() + epsilon)
        offsets[row, column] = other.mean() - slopes[row, column] * one.mean()
    expected = np.zeros((12, 14))
    for row, column in np.ndindex(12, 14):
        part = np.s_[row : row + 2 * radius + 1, column : column + 2 * radius + 1]
        expected[row, column] = slopes[part].mean() * guide[row, column] + offsets[part].mean()
    found = postprocess.guided_filter(radius, 10)(scores, image)
    inside = np.s_[2:-2, 2:-2]  # where windows are inside the image, in both
    kept = (expected[inside] > 0) & (expected[inside] < 1)
    np.testing.assert_allclose(found[..., 1][inside][kept], expected[inside][kept], atol=1e-4)


def test_guided_filter_moves_outlines_to_edges():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 255
    scores = probabilities_of((np.arange(40)[None] >= 17).astype(int).repeat(40, 0), 2)
    found = postprocess.guided_filter(6, 20)(scores, image).argmax(-1)
    assert (found == (image[..., 0] > 0)).mean() > (scores.argmax(-1) == (image[..., 0] > 0)).mean()


def test_what_takes_the_place_of_a_small_region_is_no_small_region():
    """The second most probable class of the small region is another small one: the third is left."""
    scores = probabilities_of(np.zeros((20, 20), int))
    scores[5:8, 5:8] = (0.1, 0.6, 0.3)
    found = postprocess.min_area(20)(scores, np.zeros((20, 20, 3), np.uint8))
    assert (found.argmax(-1) == 0).all()


@pytest.mark.parametrize("text", ["min_area:4", "fill_holes", "largest_component", "guided_filter:2", "crf:2"])
def test_classes_that_a_byte_does_not_hold(labels, text):
    """The same as with few classes, of which the second and the third are moved to 43 and 299."""
    (step,) = postprocess.parse(text)
    few = probabilities_of(labels)[..., :3]
    many = np.zeros((*labels.shape, 300), np.float32)
    many[..., [0, 43, 299]] = few
    expected = np.array([0, 43, 299])[step(few, IMAGE).argmax(-1)]
    found = step(many, IMAGE)
    np.testing.assert_array_equal(found.argmax(-1), expected)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
