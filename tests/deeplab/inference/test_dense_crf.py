"""The fully connected CRF: against the authors' code, against all pairs of pixels, and the lattice by itself."""

import json

import numpy as np
from support.errors import raises
from support.postprocess_battery import PostprocessBattery

from deeplab.inference import dense_crf, postprocess


class TestDenseCrf(PostprocessBattery):
    step = staticmethod(dense_crf.crf(2))


def case(height: int = 40, width: int = 50):
    """An image of three regions, their label, and probabilities that are shifted by two pixels and noisy."""
    draw = np.random.default_rng(3)
    rows, columns = np.mgrid[:height, :width]
    label = (np.hypot(rows - 18, columns - 20) < 11).astype(int) + 2 * (columns > 38)
    colors = np.array([[60, 90, 60], [200, 120, 90], [90, 90, 220]])
    image = np.clip(colors[label] + draw.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)
    noise = np.kron(draw.normal(0, 1, (height // 5, width // 5, 3)), np.ones((5, 5, 1)))
    scores = np.exp(2 * np.eye(3)[np.roll(label, 2, 1)] + noise)
    return image, label, (scores / scores.sum(-1, keepdims=True)).astype(np.float32)


def all_pairs(probabilities, kernels, iterations):
    """Mean field with the kernels' full matrices; `kernels`: weight and features [N, d] in standard deviations."""
    unary = np.log(np.maximum(probabilities, 1e-5)).reshape(-1, probabilities.shape[-1]).astype(np.float64)
    matrices = []
    for weight, features in kernels:
        matrix = np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(-1))
        norm = 1 / np.sqrt(matrix.sum(axis=1))
        matrices.append(weight * norm[:, None] * matrix * norm)
    q = np.exp(unary) / np.exp(unary).sum(axis=1, keepdims=True)
    for _ in range(iterations):
        energy = np.exp(unary + sum(matrix @ q for matrix in matrices))
        q = energy / energy.sum(axis=1, keepdims=True)
    return q.reshape(probabilities.shape)


def features_of(image, pixels, levels=0):
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    place = np.stack([columns.ravel(), rows.ravel()], axis=1) / pixels
    return np.concatenate([place, image.reshape(-1, 3) / levels], axis=1) if levels else place


def test_equals_the_code_of_the_authors(golden):
    image, _, probabilities = case()
    found = dense_crf.crf(5, 4, 20, 10, 0, 1)(probabilities, image)
    expected = json.loads((golden / "dense_crf.json").read_text())["probabilities"]
    np.testing.assert_allclose(found[::4, ::5], expected, atol=1e-5)


def test_near_pixels_equal_all_pairs():
    image, _, probabilities = case()
    found = dense_crf.crf(5, 0, 1, 1, 3, 2)(probabilities, image)
    np.testing.assert_allclose(found, all_pairs(probabilities, [(3, features_of(image, 2))], 5), atol=1e-4)


def test_similar_pixels_are_near_all_pairs():
    """The lattice approximates the Gaussian: probabilities move by a few percent, hardly any label changes."""
    image, label, probabilities = case()
    found = dense_crf.crf()(probabilities, image)
    kernels = [(4, features_of(image, 67, 3)), (3, features_of(image, 1))]
    exact = all_pairs(probabilities, kernels, 10)
    assert (found.argmax(-1) == exact.argmax(-1)).mean() > 0.98 and np.abs(found - exact).mean() < 0.02
    assert (found.argmax(-1) == label).mean() > (probabilities.argmax(-1) == label).mean() + 0.15


def test_lattice_is_linear_and_of_all_sizes():
    draw = np.random.default_rng(1)
    for dimensions in (1, 2, 5):
        lattice = dense_crf.PermutohedralLattice(draw.normal(0, 2, (60, dimensions)).astype(np.float32))
        one, other = draw.random((2, 60, 3)).astype(np.float32)
        together = lattice.filter(one) + 2 * lattice.filter(other)
        np.testing.assert_allclose(lattice.filter(one + 2 * other), together, rtol=1e-4)
    assert lattice.filter(np.ones((60, 1), np.float32)).min() > 0


def test_weights_are_barycentric():
    elevated = dense_crf._elevated(np.random.default_rng(0).normal(0, 9, (500, 5)))
    np.testing.assert_allclose(elevated.sum(axis=1), 0, atol=1e-9)
    rounded, rank, weights = dense_crf._simplex(elevated, 5)
    assert weights.min() >= 0 and np.allclose(weights.sum(axis=1), 1) and (rounded.sum(axis=1) == 0).all()
    assert (np.sort(rank, axis=1) == np.arange(6)).all()


def test_classes_that_are_nowhere_probable_are_left_out():
    image, _, probabilities = case()
    more = np.concatenate([probabilities * 0.999, np.full((40, 50, 1), 0.001, np.float32)], axis=-1)
    found = dense_crf.crf(3)(more, image)
    assert (found[..., 3] == 0).all()
    assert (found[..., :3].argmax(-1) == dense_crf.crf(3)(probabilities, image).argmax(-1)).mean() > 0.999


def test_by_name_with_bounds():
    assert len(postprocess.parse("crf:3,min_area:9")) == 2
    for wrong in ("crf:0", "crf:101", "crf:5:4:0"):
        with raises("out-of-range", "postprocess"):
            postprocess.parse(wrong)
