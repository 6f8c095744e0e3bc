"""The report: its table, its rule, the reference's tags."""

import math

import numpy as np
import pytest
from support.errors import raises

TABLE = """\
runs/face/model.ckpt-500 (step 500), split val: 4 images in 01:05

class         IoU  accuracy  label fraction  predicted fraction
----------  -----  --------  --------------  ------------------
background  0.714     0.833          60.00%              60.00%
skin        0.455     0.667          30.00%              34.00%
hair        0.455     0.500          10.00%               6.00%

mean IoU                0.541  over 3 of 3 classes
pixel accuracy          0.750
mean accuracy           0.667
frequency-weighted IoU  0.610
mean Dice               0.694
Cohen's kappa           0.530

IoU is counted over all pixels of the split together, not per image; background is a class like the others, \
pixels labeled 255 do not count (ignore label)."""


def test_table(make_report):
    report = make_report([[50, 9, 1], [10, 20, 0], [0, 5, 5]], seconds=65.2)
    assert report.text() == TABLE


def test_absent_classes_are_named_and_left_out(make_report):
    report = make_report([[6, 1, 0, 1], [0] * 4, [0] * 4, [1, 0, 0, 3]], class_names=["sky", "cow", "sofa", "road"])
    text = report.text()
    assert report.absent_classes == ["cow", "sofa"]
    assert "absent from the labels and left out of the means: cow, sofa;" in text
    assert "mean IoU                0.633  over 2 of 4 classes" in text
    assert "the research DeepLab's mean IoU would be 0.422" in report.rule()
    assert report.rule().endswith("never labeled as 0: cow.")
    (line,) = (line for line in text.splitlines() if line.startswith("cow"))
    assert line.split() == ["cow", "-", "-", "0.00%", "8.33%"]


def test_nothing_counted(make_report):
    report = make_report(np.zeros((3, 3), int))
    assert "mean IoU                    -  over 0 of 3 classes" in report.text()
    assert "research DeepLab" not in report.rule()


def test_ignore_label_among_the_classes(make_report):
    report = make_report([[0, 0, 0], [2, 6, 0], [0, 0, 2]], class_names=["background", "wall", "sky"], ignore_label=0)
    assert "pixels labeled background do not count (ignore label 0)" in report.rule()
    assert "absent" not in report.rule()  # ignored by rule, not missing by chance
    assert "background is a class like the others" not in report.rule()
    assert "never labeled as 0: background" in report.rule()


def test_a_rare_class_does_not_look_like_an_absent_one(make_report):
    report = make_report([[10**9, 0, 0], [0, 1, 0], [0, 0, 0]], class_names=["ground", "mole", "absent"])
    cells = {line.split()[0]: line.split()[-2:] for line in report.text().splitlines() if line[:4] in ("mole", "abse")}
    assert cells["mole"] == ["<0.0001%"] * 2 and cells["absent"] == ["0.00%"] * 2


@pytest.mark.parametrize(
    ("settings", "prefix"),
    [
        ({}, "eval/miou_1.0_"),
        ({"eval_scales": (1.0,), "add_flipped_images": False}, "eval/miou_1.0_"),
        ({"eval_scales": [0.5, 1, 1.75], "add_flipped_images": True}, "eval/miou_0.5_1.0_1.75_flipped_"),
    ],
)
def test_tags_of_the_reference(make_report, settings, prefix):
    scalars = make_report([[3, 1], [0, 0]], class_names=["a", "b"], settings=settings).reference_scalars()
    assert list(scalars) == [f"{prefix}overall", f"{prefix}class_0", f"{prefix}class_1"]
    assert scalars[f"{prefix}overall"] == pytest.approx((3 / 4 + 0) / 2)
    assert scalars[f"{prefix}class_0"] == pytest.approx(3 / 4)
    assert math.isnan(scalars[f"{prefix}class_1"])


def test_names_and_colors_must_fit_the_classes(make_report):
    report = make_report(np.eye(3, dtype=int))
    with raises("class-count-mismatch", where="class_names") as info:
        type(report)(report.matrix, ["a", "b"], "c", 1, "val", 1)
    assert info.value.rule == "there must be one for each of the 3 classes, not 2"
    with raises("class-count-mismatch", where="colors"):
        make_report(np.eye(3, dtype=int), colors=np.zeros((2, 3), np.uint8))


def test_chosen_metrics(make_report):
    report = make_report([[50, 9, 1], [10, 20, 0], [0, 5, 5]], shown=["dice", "kappa"])
    assert list(report.overall()) == ["mean_iou", "mean_dice", "kappa"] and list(report.per_class()) == ["iou", "dice"]
    lines = report.text().splitlines()
    assert lines[2].split() == ["class", "IoU", "Dice"] and lines[4].split() == ["background", "0.714", "0.833"]
    assert "pixel accuracy" not in report.text()
