"""Counts per image: values by hand, intervals that a slow loop confirms, the table."""

import csv
import io
import json

import numpy as np
import pytest
from support.errors import raises

from deeplab.evaluation import ConfusionMatrix, metrics, write_report
from deeplab.evaluation.image_counts import ImageCounts

NAMES = ("background", "skin", "hair")
FIRST = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
SECOND = np.array([[4, 0, 0], [0, 0, 0], [2, 0, 2]])
IGNORED = np.zeros((3, 3), int)


def counts_of(*matrices):
    images = ImageCounts()
    for number, counts in enumerate(matrices):
        images.add(f"image {number}", counts)
    return images


def random_matrices(number, classes=4):
    draw = np.random.default_rng(5)
    matrices = draw.integers(0, 30, (number, classes, classes)) + 60 * np.eye(classes, dtype=int)
    matrices[draw.random(number) < 0.5, classes - 1] = 0  # a class that half the images do not have
    return matrices


def test_iou_by_hand():
    images = counts_of(FIRST, SECOND, IGNORED)
    expected = [[6 / 9, 3 / 6, np.nan], [4 / 6, np.nan, 2 / 4], [np.nan] * 3]
    np.testing.assert_allclose(images.iou(), expected, rtol=1e-12)
    np.testing.assert_allclose(images.mean_iou(), [(6 / 9 + 3 / 6) / 2, (4 / 6 + 2 / 4) / 2, np.nan], rtol=1e-12)


def test_intervals_equal_a_plain_loop():
    """The same draws, with every resample's confusion matrix summed and measured on its own."""
    matrices = random_matrices(12)
    found = counts_of(*matrices).intervals(resamples=60, seed=3)
    draw = np.random.default_rng(3)
    per_image = np.array([metrics.mean_iou(one) for one in matrices])
    means, means_of_images, ious = [], [], []
    for chunk in (50, 10):
        for times in draw.multinomial(12, np.full(12, 1 / 12), chunk):
            drawn = np.repeat(np.arange(12), times)
            counts = matrices[drawn].sum(axis=0)
            means.append(metrics.mean_iou(counts))
            means_of_images.append(per_image[drawn].mean())
            ious.append(metrics.class_iou(counts))
    ends = [0.025, 0.975]
    np.testing.assert_allclose(found.mean_iou, np.quantile(means, ends), rtol=1e-12)
    np.testing.assert_allclose(found.image_mean_iou, np.quantile(means_of_images, ends), rtol=1e-12)
    np.testing.assert_allclose(found.class_iou, np.quantile(ious, ends, axis=0), rtol=1e-12)


def test_intervals_hold_the_value_and_shrink_with_more_images():
    few, many = random_matrices(10), random_matrices(1000)
    widths = []
    for matrices in (few, many):
        low, high = counts_of(*matrices).intervals().mean_iou
        assert low < metrics.mean_iou(matrices.sum(axis=0)) < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 10, rel=0.5)


def test_intervals_are_repeatable_and_differ_by_seed():
    images = counts_of(*random_matrices(20))
    assert images.intervals().mean_iou.tolist() == images.intervals().mean_iou.tolist()
    assert images.intervals(seed=1).mean_iou.tolist() != images.intervals().mean_iou.tolist()


def test_no_interval_of_one_image_and_none_for_absent_classes():
    assert counts_of(FIRST).intervals() is None
    found = counts_of(FIRST, FIRST).intervals()
    assert np.isnan(found.class_iou[:, 2]).all() and np.isfinite(found.class_iou[:, :2]).all()
    np.testing.assert_allclose(found.mean_iou, metrics.mean_iou(FIRST), rtol=1e-12)


def test_nothing_counted():
    found = counts_of(IGNORED, IGNORED).intervals()
    assert np.isnan(found.mean_iou).all() and np.isnan(found.image_mean_iou).all()


def test_table():
    rows = list(csv.DictReader(io.StringIO(counts_of(FIRST, IGNORED).csv(NAMES))))
    assert rows[0] == {
        "image": "image 0",
        "pixels": "12",
        "pixel_accuracy": "0.750000",
        "mean_iou": "0.583333",
        "background": "0.666667",
        "skin": "0.500000",
        "hair": "",
    }
    assert rows[1]["pixels"] == "0" and rows[1]["mean_iou"] == ""


def test_add_returns_the_counts_of_an_image():
    matrix = ConfusionMatrix(2)
    matrix.add(np.array([[0, 1]]), np.array([[0, 0]]))
    assert matrix.add(np.array([[1, 255]]), np.array([[1, 1]])).tolist() == [[0, 0], [0, 1]]
    assert matrix.counts.tolist() == [[1, 0], [1, 1]]


def test_report_and_files(make_report, tmp_path):
    (tmp_path / "model.ckpt-5.index").write_bytes(b"abc")
    report = make_report(FIRST + SECOND, images=counts_of(FIRST, SECOND), checkpoint=f"{tmp_path}/model.ckpt-5")
    low, high = report.intervals.mean_iou
    lines = report.text().splitlines()
    assert f"  over 3 of 3 classes, 95 % interval {low:.3f} to {high:.3f}" in "\n".join(lines)
    assert any(line.startswith("mean IoU per image      0.583  95 % interval 0.583 to 0.583") for line in lines)
    paths = write_report(report, tmp_path / "out")
    assert paths[-1].read_text() == report.images.csv(NAMES)
    content = json.loads(paths[0].read_text())
    assert content["image_mean_iou"] == report.image_mean_iou
    assert content["intervals"]["mean_iou"] == [low, high] and content["intervals"]["seed"] == 0
    assert content["intervals"]["class_iou"]["hair"] == report.intervals.class_iou[:, 2].tolist()
    assert content["checkpoint_sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_groups_by_the_name():
    images = ImageCounts()
    for name, counts in (("day_1", FIRST), ("night_2", SECOND), ("day_3", SECOND), ("4", IGNORED), ("_5", FIRST)):
        images.add(name, counts)
    assert images.groups("^([a-z]*)_") == {"day": [0, 2], "night": [1], "(no match)": [3, 4]}
    assert images.groups("day|night") == {"day": [0, 2], "night": [1], "(no match)": [3, 4]}
    np.testing.assert_array_equal(images.subset([0, 2]).total(), FIRST + SECOND)
    np.testing.assert_array_equal(images.counts_of(1), SECOND)
    with raises("bad-pattern", "group_by") as caught:
        images.groups("(a")
    assert caught.value.value == "(a"


def test_uncertainties_have_a_column_if_they_are_known():
    images = ImageCounts()
    images.add("a", FIRST, 0.25)
    assert "uncertainty" in images.csv(NAMES) and ",0.583333,0.250000,0.666667," in images.csv(NAMES)


def test_report_of_groups(make_report, tmp_path):
    images = ImageCounts()
    for name, counts in (("a_1", FIRST), ("a_2", SECOND), ("b_1", SECOND)):
        images.add(name, counts)
    report = make_report(FIRST + 2 * SECOND, images=images, group_by="^(.)_")
    found = report.groups()
    assert list(found) == ["a", "b"] and found["b"]["interval"] is None and found["a"]["images"] == 2
    assert found["a"]["mean_iou"] == metrics.mean_iou(FIRST + SECOND)
    low, high = found["a"]["interval"]
    assert low <= found["a"]["mean_iou"] <= high
    assert any(line.split() == ["b", "1", "0.583", "-"] for line in report.text().splitlines())
    assert json.loads(write_report(report, tmp_path)[0].read_text())["groups"]["a"]["pixel_accuracy"] == 15 / 20


@pytest.mark.parametrize("classes", [3, 300])
@pytest.mark.parametrize("pixels", [32_768, 65_536, 2**31, 2**40])
def test_images_with_many_pixels_of_a_class(pixels, classes):
    """One image, then three: neither their counts nor their sums have fewer bits than pixels need."""
    counts = np.zeros((classes, classes), np.int64)
    counts[1, 1], counts[1, 2] = pixels, 5
    images = counts_of(counts, counts, counts)
    assert images.counts_of(0)[1, 1] == pixels and images.sums[0, :, 1].tolist() == [pixels, pixels + 5, pixels]
    assert images.total()[1, 1] == 3 * pixels and images.total()[1, 2] == 15 and images.total().dtype == np.int64
    assert images.mean_iou()[0] == pixels / (pixels + 5)
    assert metrics.class_iou(images.total())[1] == 3 * pixels / (3 * pixels + 15)
