"""The confusion matrix: counts by hand, counts of the reference, values that must be refused."""

import json

import numpy as np
import pytest
from support.errors import raises

from deeplab.evaluation import ConfusionMatrix
from deeplab.utils.errors import UserError

LABEL = [[0, 1, 2], [255, 1, 0]]
PREDICTION = [[0, 2, 2], [1, 1, 1]]
COUNTS = [[1, 1, 0], [0, 1, 1], [0, 0, 1]]  # rows = label; the pixel labeled 255 is nowhere


@pytest.mark.parametrize("label_type", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("prediction_type", ["uint8", "int32", "int64", "uint64"])
def test_counts_by_hand(label_type, prediction_type):
    matrix = ConfusionMatrix(3, 255)
    matrix.add(np.array(LABEL, label_type), np.array(PREDICTION, prediction_type))
    assert matrix.counts.tolist() == COUNTS
    assert matrix.counts.dtype == np.int64


def test_batches_and_images_of_any_size_add_up():
    matrix = ConfusionMatrix(3, 255)
    matrix.add(np.array([LABEL, LABEL]), np.array([PREDICTION, PREDICTION]))
    matrix.add(np.array([[2]]), np.array([[0]]))
    matrix.add(np.zeros((0, 7), np.uint8), np.zeros((0, 7), np.int32))
    assert matrix.counts.tolist() == [[2, 2, 0], [0, 2, 2], [1, 0, 2]]


@pytest.mark.parametrize("name", ["random", "random21", "class_absent", "all_ignored", "ignore0", "perfect"])
def test_counts_of_the_reference(golden, name):
    (case,) = (case for case in json.loads((golden / "metrics.json").read_text())["cases"] if case["name"] == name)
    arrays = np.load(golden / "metrics.npz")
    matrix = ConfusionMatrix(case["num_classes"], case["ignore_label"])
    for label, prediction in zip(arrays[f"{name}/label"], arrays[f"{name}/prediction"], strict=True):
        matrix.add(label, prediction)
    np.testing.assert_array_equal(matrix.counts, arrays[f"{name}/confusion"])


def test_ignore_label_among_the_classes():
    matrix = ConfusionMatrix(3, ignore_label=0)
    matrix.add(np.array([[0, 0, 1, 2]]), np.array([[0, 2, 0, 2]]))
    assert matrix.counts.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1]]


def test_negative_ignore_label():
    matrix = ConfusionMatrix(2, ignore_label=-1)
    matrix.add(np.array([[-1, 0, 1]]), np.array([[1, 1, 1]]))
    assert matrix.counts.tolist() == [[0, 1], [0, 1]]


def test_more_classes_than_a_byte_holds():
    matrix = ConfusionMatrix(847, ignore_label=1000)
    matrix.add(np.array([[846, 1000]], np.uint16), np.array([[300, 0]]))
    matrix.add(np.array([[255]], np.uint8), np.array([[846]]))
    assert matrix.counts.sum() == 2
    assert matrix.counts[846, 300] == matrix.counts[255, 846] == 1


def test_workers_add_their_matrices():
    first, second = ConfusionMatrix(3), ConfusionMatrix(3)
    first.add(np.array(LABEL), np.array(PREDICTION))
    second.add(np.array([[2]]), np.array([[0]]))
    assert (first + second).counts.tolist() == [[1, 1, 0], [0, 1, 1], [1, 0, 1]]
    assert first.counts.tolist() == COUNTS


def test_matrices_of_other_classes_do_not_add():
    for other in (ConfusionMatrix(4), ConfusionMatrix(3, ignore_label=0)):
        with raises("class-count-mismatch", where="confusion matrices") as caught:
            ConfusionMatrix(3) + other
        assert caught.value.value == (other.num_classes, other.ignore_label)


@pytest.mark.parametrize(
    ("values", "bad", "hint"),
    [
        (
            [0, 3],
            [3],
            "'ignore_label: 3' in dataset.yml if 3 marks pixels that do not count; if it is a class, name it",
        ),
        ([0, 3, 4], [3, 4], "if they are classes, name them in dataset.yml and train with num_classes=5"),
        ([150, 250], [150, 250], "gray levels; build the records again with `label_map=150:0,250:1`"),
        ([-1, 0], [-1], "'ignore_label' to -1"),
        (list(range(100, 120)), list(range(100, 120)), "`num_classes=120` if all are classes"),
    ],
)
def test_labels_outside_the_classes(values, bad, hint):
    matrix = ConfusionMatrix(3, 255)
    label = np.array([[*values, 255]])
    with raises("label-out-of-range", where="faces/0007") as caught:
        matrix.add(label, np.zeros_like(label), image_name="faces/0007")
    assert caught.value.value == bad
    assert caught.value.rule.startswith("label values must be 0..2 or 255 (ignored); found")
    assert hint in caught.value.hint
    assert matrix.counts.sum() == 0


def test_the_image_of_a_batch_is_named():
    label = np.array([[[0]], [[1]], [[9]]])
    with raises("label-out-of-range", where="c"):
        ConfusionMatrix(3).add(label, np.zeros_like(label), image_name=["a", "b", "c"])
    with raises("prediction-out-of-range", where="b"):
        ConfusionMatrix(3).add(np.zeros_like(label), np.array([[[0]], [[3]], [[0]]]), image_name=["a", "b", "c"])


def test_a_label_of_255_that_is_not_the_ignore_label():
    with raises("label-out-of-range") as caught:
        ConfusionMatrix(3, ignore_label=0).add(np.array([[1, 255]], np.uint8), np.array([[1, 1]]))
    assert "'ignore_label: 255'" in caught.value.hint


@pytest.mark.parametrize("bad", [3, -1, 2**33])
def test_predictions_outside_the_classes(bad):
    matrix = ConfusionMatrix(3)
    with raises("prediction-out-of-range") as caught:
        matrix.add(np.array([[0, 255]]), np.array([[0, bad]]))
    assert caught.value.value == [bad]
    assert matrix.counts.sum() == 0


def test_sizes_that_differ():
    with raises("size-mismatch", where="x"):
        ConfusionMatrix(3).add(np.zeros((2, 3), int), np.zeros((3, 2), int), "x")


def test_probabilities_are_no_predictions():
    with pytest.raises(TypeError, match="prediction must hold integers, not float32"):
        ConfusionMatrix(3).add(np.zeros((2, 2), int), np.zeros((2, 2), np.float32))


@pytest.mark.parametrize("counts", [np.zeros((2, 3), int), np.array([[1.0]]), np.array([[-1]])])
def test_counts_to_start_from_are_checked(counts):
    with pytest.raises(UserError) as caught:
        ConfusionMatrix(1, counts=counts)
    assert caught.value.code in ("size-mismatch", "out-of-range") and caught.value.where == "confusion matrix"
