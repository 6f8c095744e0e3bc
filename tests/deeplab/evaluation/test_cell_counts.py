"""Counts of many classes as cells: equal to whole matrices in every number, and small."""

import tracemalloc

import numpy as np
import pytest
from support.errors import raises

from deeplab.evaluation import ConfusionMatrix, bootstrap, examples, metrics
from deeplab.evaluation.cell_counts import CellCounts, count_cells, margins_of
from deeplab.evaluation.confusion import confusion_counts
from deeplab.evaluation.image_counts import ImageCounts

CLASSES = 300


def scene(seed, classes=CLASSES, present=12, shape=(20, 30)):
    """A label with ignored pixels and a prediction that is right at half of them."""
    draw = np.random.default_rng(seed)
    names = draw.choice(classes, present)
    label = draw.choice(names, shape)
    prediction = np.where(draw.random(shape) < 0.5, label, draw.choice(names, shape))
    label[0] = 65535
    return label, prediction


@pytest.mark.parametrize("types", [(np.uint16, np.int32), (np.int64, np.uint16), (np.int32, np.int64)])
@pytest.mark.parametrize(("present", "shape"), [(12, (20, 30)), (250, (20, 30)), (1, (1, 1))])
def test_cells_are_those_of_the_whole_matrix(types, present, shape):
    label, prediction = scene(0, present=present, shape=shape)
    label, prediction = label.astype(types[0]), prediction.astype(types[1])
    found = count_cells(label, prediction, CLASSES, 65535)
    expected = confusion_counts(label, prediction, CLASSES, 65535)
    np.testing.assert_array_equal(np.asarray(found), expected)
    again = CellCounts.of(expected)
    np.testing.assert_array_equal(found.cells, again.cells)
    np.testing.assert_array_equal(found.numbers, again.numbers)
    assert found.cells.dtype == found.numbers.dtype == np.int64


@pytest.mark.parametrize("ignored", [65535, 0, 300, -1])
@pytest.mark.parametrize("label", [[300, 0], [-1, 0], [301, 0], [65535, 0], [0, 299]])
@pytest.mark.parametrize("prediction", [[0, 0], [300, 0], [-1, 0]])
def test_values_outside_the_classes_are_found_as_in_a_whole_matrix(label, prediction, ignored):
    found, expected = (
        count(np.array(label), np.array(prediction), CLASSES, ignored) for count in (count_cells, confusion_counts)
    )
    assert (found is None) == (expected is None)
    if expected is not None:
        np.testing.assert_array_equal(np.asarray(found), expected)


def test_a_matrix_of_many_classes_adds_up_images(monkeypatch):
    monkeypatch.setattr("deeplab.evaluation.confusion._MAX_WAITING", 300)  # images are added up in between, too
    matrix, whole = ConfusionMatrix(CLASSES, 65535), np.zeros((CLASSES, CLASSES), np.int64)
    for seed in range(9):
        one = matrix.add(*scene(seed))
        expected = confusion_counts(*scene(seed), CLASSES, 65535)
        np.testing.assert_array_equal(np.asarray(one), expected)
        whole += expected
    assert isinstance(matrix.counts, CellCounts)
    np.testing.assert_array_equal(np.asarray(matrix.counts), whole)
    both = matrix + ConfusionMatrix(CLASSES, 65535, whole)
    assert isinstance(both.counts, CellCounts) and both.counts.tolist() == (2 * whole).tolist()
    with raises("label-out-of-range", where="a") as caught:
        matrix.add(np.array([[300]]), np.array([[0]]), "a")
    assert caught.value.value == [300] and matrix.counts.sum() == whole.sum()
    assert ConfusionMatrix(CLASSES, 300).add(np.zeros((0, 3), int), np.zeros((0, 3), int)).sum() == 0


def test_cells_can_be_used_like_an_array():
    whole = confusion_counts(*scene(1), CLASSES, 65535)
    cells = CellCounts.of(whole)
    assert cells.shape == whole.shape and len(cells) == CLASSES and cells.dtype == whole.dtype
    assert cells.trace() == np.trace(whole) and cells.sum() == np.sum(cells) == whole.sum()
    for axis in (0, 1, -1, -2):
        np.testing.assert_array_equal(cells.sum(axis=axis), whole.sum(axis=axis))
    np.testing.assert_array_equal(cells.sum(axis=1, keepdims=True), whole.sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(cells.diagonal(), np.diagonal(cells))
    np.testing.assert_array_equal(cells / 2 + whole, 1.5 * whole)
    np.testing.assert_array_equal(cells[3:9, ::2], whole[3:9, ::2])
    np.testing.assert_array_equal(np.asarray(cells, np.float32), whole.astype(np.float32))
    assert isinstance(cells + cells, CellCounts) and ((cells + cells) == 2 * whole).all()


def test_a_matrix_too_large_for_memory_is_refused_as_an_array_alone():
    classes = 65535
    cells = CellCounts(classes, np.array([5, classes * classes - 1]), np.array([3, 4]))
    assert cells.sum() == 7 and cells.diagonal()[-1] == 4 and metrics.pixel_accuracy(cells) == 4 / 7
    with raises("too-many-classes", where="confusion matrix"):
        np.asarray(cells)


@pytest.fixture(scope="module")
def both():
    """The counts of images as cells, and as whole matrices [images, classes, classes]."""
    images, whole = ImageCounts(), []
    for seed in range(8):
        label, prediction = scene(seed)
        images.add(f"{seed}", count_cells(label, prediction, CLASSES, 65535))
        whole.append(confusion_counts(label, prediction, CLASSES, 65535))
    images.add("ignored", count_cells(np.full((2, 2), 65535), np.zeros((2, 2), int), CLASSES, 65535))
    return images, np.stack([*whole, np.zeros_like(whole[0])])


def test_images_add_up_to_the_same(both):
    images, whole = both
    np.testing.assert_array_equal(np.asarray(images.total()), whole.sum(axis=0))
    assert isinstance(images.counts_of(3), CellCounts)
    np.testing.assert_array_equal(np.asarray(images.counts_of(3)), whole[3])
    expected = [(np.diagonal(one), one.sum(axis=1), one.sum(axis=0)) for one in whole]
    np.testing.assert_array_equal(images.sums, expected)
    np.testing.assert_array_equal(margins_of([], 5), np.zeros((0, 3, 5)))


@pytest.mark.parametrize("limit", [1, 1_000_000])
def test_images_are_measured_alike_however_many_at_once(both, limit, monkeypatch):
    images, whole = both
    monkeypatch.setattr("deeplab.evaluation.image_counts._MAX_SUMS", limit)
    expected = [metrics.mean_iou(one) for one in whole]
    np.testing.assert_allclose(images.mean_iou(), expected, rtol=1e-12)
    lines = images.csv([f"c{number}" for number in range(CLASSES)]).splitlines()
    row = [f"{value:.6f}" if value == value else "" for value in metrics.class_iou(whole[2])]
    assert lines[3].split(",")[4:] == row and lines[-1] == "ignored,0" + "," * (CLASSES + 2)


def test_metrics_are_equal_to_the_bit(both):
    images, whole = both
    cells, counts = images.total(), whole.sum(axis=0)
    for name in metrics.OVERALL:
        assert metrics.OVERALL.get(name)(cells) == metrics.OVERALL.get(name)(counts)
    for name in metrics.PER_CLASS:
        np.testing.assert_array_equal(metrics.PER_CLASS.get(name)(cells), metrics.PER_CLASS.get(name)(counts))
    names = [f"c{number}" for number in range(CLASSES)]
    drawn, shown, numbers = metrics.condensed(cells, names)
    rest = np.setdiff1d(np.arange(CLASSES), numbers)
    np.testing.assert_array_equal(drawn[:-1, :-1], counts[np.ix_(numbers[:-1], numbers[:-1])])
    np.testing.assert_array_equal(drawn[-1, :-1], counts[np.ix_(rest, numbers[:-1])].sum(axis=0))
    assert drawn.sum() == counts.sum() and shown[-1] == f"{CLASSES - 60} other classes"
    assert examples.confused_pairs(cells, images) == examples.confused_pairs(counts, images)
    wrong = counts - np.diag(np.diagonal(counts))
    assert examples.confused_pairs(cells, images)[0].pixels == wrong.max()


@pytest.mark.parametrize("limit", [1, 4_000_000])
def test_resamples_are_those_of_whole_matrices(both, limit, monkeypatch):
    images, whole = both
    monkeypatch.setattr("deeplab.evaluation.sparse_sums._MAX_CELLS", limit)
    times = bootstrap.draw(len(whole), 7, 3)
    for row, found in zip(times.astype(int), bootstrap.counted(images, times), strict=True):
        expected = np.tensordot(row, whole, 1)
        assert isinstance(found, CellCounts)
        np.testing.assert_array_equal(found.margins, [expected.diagonal(), expected.sum(axis=1), expected.sum(axis=0)])
        np.testing.assert_array_equal(np.asarray(found), expected)


def test_a_metric_that_is_registered_elsewhere_takes_cells_as_an_array(both):
    images, whole = both

    def largest_confusion(counts):
        return float((counts - np.diag(np.diagonal(counts))).max() / counts.sum())

    assert largest_confusion(images.total()) == largest_confusion(whole.sum(axis=0))


def test_memory_does_not_grow_with_the_pairs_of_classes():
    classes, images = 10_000, ImageCounts()
    label, prediction = scene(0, classes, shape=(64, 64))
    matrix = ConfusionMatrix(classes, 65535)
    tracemalloc.start()
    images.add("a", matrix.add(label, prediction))
    images.add("b", matrix.add(label, prediction))
    found = images.intervals(resamples=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert metrics.mean_iou(matrix.counts) == found.mean_iou[0] == metrics.mean_iou(images.total())
    assert peak < 30e6  # the matrix would take 800 MB
