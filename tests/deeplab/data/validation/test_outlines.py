"""Labels whose outlines lie on no edges of their pictures: mirrored, turned, or those of another image."""

import numpy as np
import pytest

from deeplab.data.validation import outlines
from deeplab.data.validation.outlines import AS_IT_IS, MIRRORED, TURNED, UPSIDE_DOWN, Fit, SplitFits, look_at_fits

WAYS = {
    "mirrored left to right": lambda label: label[:, ::-1],
    "upside down": lambda label: label[::-1],
    "turned by 180 degrees": lambda label: label[::-1, ::-1],
}


def square(top, left, side=20):
    """A label of 64x80 with a square, and its picture."""
    label = np.zeros((64, 80), np.uint8)
    label[top : top + side, left : left + side] = 1
    noise = np.random.default_rng(0).normal(0, 2, label.shape)
    return label, (60 + 90 * label + noise).astype(np.float32)


# --- One label ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "best"),
    [
        (lambda label: label, AS_IT_IS),
        (lambda label: label[:, ::-1], MIRRORED),
        (lambda label: label[::-1], UPSIDE_DOWN),
        (lambda label: label[::-1, ::-1], TURNED),
    ],
)
def test_the_way_that_fits(change, best):
    label, gray = square(6, 8)
    fit = outlines.fit_of(gray, np.ascontiguousarray(change(label)))
    assert fit.best == best
    assert fit.ways[best] > 0.1
    assert all(abs(way) < 0.05 for index, way in enumerate(fit.ways) if index != best)
    # 20 pixels on the left, above and below, and on the right; the corner at the lower right counts once
    assert fit.outline == 4 * 20 - 1


def test_labels_are_brought_to_the_size_of_the_picture():
    label, gray = square(6, 8)
    large = np.kron(label, np.ones((4, 4), np.uint8))
    assert outlines.fit_of(gray, large).ways[AS_IT_IS] == pytest.approx(
        outlines.fit_of(gray, label).ways[AS_IT_IS], abs=0.1
    )


def test_a_label_without_outline_has_no_fit():
    assert outlines.fit_of(square(6, 8)[1], np.zeros((64, 80), np.uint8)) is None


def test_outlines_are_left_and_above_of_the_change():
    label = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 1]])
    assert outlines.outline_of(label).tolist() == [[False, True, False], [True, True, False], [False, True, False]]


# --- All labels ---------------------------------------------------------------------------------------------


def fits(*ways, outline=200):
    made = SplitFits()
    for place, four in enumerate(ways):
        made.add(Fit(four, outline), f"m{place}.png", place)
    return made


GOOD, FLIPPED, LOST = (0.1, 0.0, 0.0, 0.01), (0.0, 0.1, 0.0, 0.01), (0.005, 0.01, 0.0, 0.0)


def found(splits):
    return [(misfit.finding.rule, misfit.finding.where, misfit.place) for misfit in look_at_fits(splits)]


def test_one_mirrored_label_among_good_ones():
    assert found({"train": fits(*[GOOD] * 9, FLIPPED)}) == [("mask-mirrored", "m9.png", 9)]


def test_one_lost_label_among_good_ones():
    assert found({"train": fits(*[GOOD] * 9, LOST)}) == [("mask-off-edges", "m9.png", 9)]


def test_a_whole_split():
    splits = {"train": fits(*[FLIPPED] * 8), "val": fits(*[GOOD] * 8)}
    assert found(splits) == [("mask-mirrored", "train", -1)]


def test_few_labels_say_nothing_of_a_split():
    assert found({"train": fits(*[GOOD] * 9), "val": fits(FLIPPED)}) == [("mask-mirrored", "m0.png", 0)]


@pytest.mark.parametrize(
    "splits",
    [
        {},
        {"train": fits()},
        {"train": fits(*[GOOD] * 20)},
        {"train": fits(*[LOST] * 20)},  # labels that do not follow edges, as those of radar pictures
        {"train": fits(*[(0.1, 0.1, 0.1, 0.1)] * 20)},  # whatever is the same on all sides
        {"train": fits(*[GOOD] * 9, (0.06, 0.1, 0.0, 0.0))},  # fits both ways
        {"train": fits(*[GOOD] * 9)} | {"val": fits(FLIPPED, LOST, outline=50)},  # too short to tell
    ],
)
def test_nothing_is_said_without_need(splits):
    assert found(splits) == []


# --- In a dataset ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_all_masks_turned(discs, only, way):
    discs.change_labels(WAYS[way])
    report = discs.check()
    found = only(report, "mask-mirrored")
    assert found[0].where == "train"
    assert f"all 8 masks together fit their pictures better {way}" in found[0].text
    assert report.may_train


@pytest.mark.parametrize("way", WAYS)
def test_one_mask_turned(discs, drawn, only, way):
    discs.mask("a3").write_bytes(drawn[1](np.ascontiguousarray(WAYS[way](discs.label("a3")))))
    (found,) = only(discs.check(), "mask-mirrored")
    assert (found.where, found.split) == (str(discs.mask("a3")), "train")
    assert f"fits its picture better {way}" in found.text


def test_masks_of_two_images_swapped(discs):
    one, other = discs.mask("a0").read_bytes(), discs.mask("a1").read_bytes()
    discs.mask("a0").write_bytes(other)
    discs.mask("a1").write_bytes(one)
    report = discs.check()
    assert {(item.rule, item.severity) for item in report.findings} == {("mask-off-edges", "note")}
    assert {item.where for item in report.findings} <= {str(discs.mask("a0")), str(discs.mask("a1"))}


def test_the_overlay_is_shown(discs, drawn):
    discs.mask("a3").write_bytes(drawn[1](np.ascontiguousarray(discs.label("a3")[:, ::-1])))
    (found,) = [item for item in discs.check(with_pictures=True).findings if item.rule == "mask-mirrored"]
    assert found.picture.startswith(b"\xff\xd8")
