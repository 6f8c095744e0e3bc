"""What an exported file gives back is checked; its classes are read from beside it."""

import numpy as np
import pytest
from support.errors import raises

from deeplab.inference.file_predictor import FilePredictor, classes_beside

IMAGE = np.zeros([4, 6, 3], np.uint8)
LABELS = np.zeros([1, 4, 6], np.int32)


def predictor(labels=LABELS, scores=None, num_classes=None):
    return FilePredictor("some.file", lambda image, probabilities: (labels, scores), num_classes)


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros([1, 4, 6], np.float32),
        np.zeros([4, 6], np.int32),
        np.zeros([2, 4, 6], np.int32),
        np.zeros([1, 0, 6], int),
    ],
    ids=["floats", "no batch", "two images", "empty"],
)
def test_labels_of_another_form(labels):
    with raises("unexpected-output", where="some.file") as caught:
        predictor(labels).predict(IMAGE)
    assert str(labels.dtype) in caught.value.value


@pytest.mark.parametrize(("value", "num_classes"), [(256, None), (300, None), (-1, None), (3, 3)])
def test_classes_that_masks_cannot_hold(value, num_classes):
    with raises("prediction-out-of-range", where="some.file") as caught:
        predictor(LABELS + value, num_classes=num_classes).predict(IMAGE)
    assert caught.value.value == value
    assert predictor(LABELS + 255).predict(IMAGE).labels.max() == 255


def test_probabilities_of_another_form_or_not_finite():
    with raises("unexpected-output", where="some.file"):
        predictor(scores=np.zeros([1, 4, 6], np.float32)).predict(IMAGE)
    with raises("not-finite", where="some.file"):
        predictor(scores=np.full([1, 4, 6, 2], np.nan, np.float32)).predict(IMAGE)


def test_predictions_of_another_size_are_resized_with_one_warning(capsys):
    smaller = predictor(np.int64([[[0, 1]]]), np.float32([[[[1, 0], [0, 1]]]]))
    for _ in range(2):
        labels, probabilities = smaller.predict(IMAGE)
    assert labels.shape == (4, 6) and (labels[:, 0] == 0).all() and (labels[:, -1] == 1).all()
    assert probabilities.shape == (4, 6, 2)
    assert capsys.readouterr().err.count("predicts 1x2 labels for an image of 4x6") == 1


def test_any_failure_is_an_error_with_the_size_of_the_image():
    def run(image, probabilities):
        raise KeyError("what")

    with raises("model-failed", where="some.file") as caught:
        FilePredictor("some.file", run, None).predict(IMAGE)
    assert "4x6" in caught.value.rule
    with raises("larger-than-crop") as caught:
        FilePredictor("some.file", run, None, max_size=(3, 9)).predict(IMAGE)
    assert caught.value.value == (4, 6) and "`crop_size=4,6`" in caught.value.hint


def test_label_files(tmp_path):
    (tmp_path / "labels.txt").write_text("3 wheeler\ncar\n")
    assert classes_beside(str(tmp_path / "another.pb"))[0] == ("3 wheeler", "car")
    (tmp_path / "labels.txt").write_text("0: ground\n1: disc\n")
    assert classes_beside(str(tmp_path / "another.pb"))[0] == ("ground", "disc")
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "contract.json").write_text('{"classes": 3}')
    assert classes_beside(str(tmp_path / "another.pb")) == ((), ())
