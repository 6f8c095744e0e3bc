"""Kaggle's CSV of run lengths: columns, orders, classes in names, images without an object."""

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.data.labels import LabelSpec
from deeplab.data.readers.rle_csv import BuildRleCsvConfig, read_rle_csv
from deeplab.data.readers.source import Painter

HEIGHT, WIDTH = 20, 30


def encode(pixels, by_columns=True, first=1):
    flat = np.concatenate([[False], (pixels.T if by_columns else pixels).ravel(), [False]])
    ends = np.flatnonzero(flat[1:] != flat[:-1]).reshape(-1, 2)
    return " ".join(f"{start + first} {stop - start}" for start, stop in ends.tolist())


def disc(row, column, radius):
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def write(folder, *lines, size=(WIDTH, HEIGHT)):
    (folder / "images").mkdir(exist_ok=True)
    for name in ("a", "b"):
        Image.new("RGB", size).save(folder / "images" / f"{name}.jpg")
    (folder / "train.csv").write_text("\n".join(lines))
    return {"annotations": str(folder / "train.csv"), "image_folder": str(folder / "images")}


def drawn(settings, **more):
    source = read_rle_csv(BuildRleCsvConfig(**settings, **more))
    painter = Painter(source.class_names, LabelSpec())
    return source, [pair.mask.draw(painter, HEIGHT, WIDTH) for pair in source.pairs()]


@pytest.mark.parametrize("by_columns", [True, False])
def test_the_order_is_told_by_the_runs(tmp_path, by_columns, capsys):
    one, two = disc(8, 10, 6), disc(12, 22, 5)
    lines = [f"a.jpg,{encode(one, by_columns)}", f"a.jpg,{encode(two, by_columns)}", "b.jpg,"]
    source, labels = drawn(write(tmp_path, "ImageId,EncodedPixels", *lines))
    np.testing.assert_array_equal(labels[0], one | two)
    assert source.class_names == ("background", "object") and not labels[1].any()
    assert f"run lengths go along {'columns' if by_columns else 'rows'}" in capsys.readouterr().err


def test_square_images_are_read_by_columns_and_that_is_said(tmp_path, capsys):
    settings = write(tmp_path, "img,rle_mask", f"a.jpg,{encode(disc(8, 10, 6))}", size=(40, 40))
    source = read_rle_csv(BuildRleCsvConfig(**settings))
    assert len(source.pairs()) == 1 and "`run_order=rows`".replace("`", "") in capsys.readouterr().err.replace("--", "")


@pytest.mark.parametrize(
    "lines",
    [
        ("ImageId,ClassId,EncodedPixels", "a,3,{0}", "a,4,{1}"),
        ("Image_Label,EncodedPixels", "a.jpg_3,{0}", "a.jpg_4,{1}"),
        ("id;class;segmentation", "a;3;{0}", "a;4;{1}"),
    ],
)
def test_classes_of_a_column_or_of_the_names(tmp_path, lines):
    one, two = disc(8, 10, 6), disc(12, 22, 5)
    source, (label,) = drawn(write(tmp_path, *(line.format(encode(one), encode(two)) for line in lines)))
    assert source.class_names == ("background", "3", "4")
    np.testing.assert_array_equal(label == 2, two)


def test_runs_in_any_order_may_touch_and_overlap(tmp_path):
    settings = write(tmp_path, "ImageId,EncodedPixels", "a.jpg,41 20 1 5 3 5 8 2 100 0 596 5")
    expected = np.zeros(HEIGHT * WIDTH, bool)
    expected[[*range(9), *range(40, 60), *range(595, 600)]] = True
    _, (label,) = drawn(settings, run_order="columns")
    np.testing.assert_array_equal(label, expected.reshape(WIDTH, HEIGHT).T)
    _, (label,) = drawn(write(tmp_path, "ImageId,EncodedPixels", "a.jpg,5 0"))
    assert not label.any()


def test_pixels_counted_from_zero(tmp_path):
    settings = write(tmp_path, "ImageId,EncodedPixels", "a.jpg,0 3 20 3")
    with raises("invalid-rle", where="train.csv, line 2") as caught:
        drawn(settings)
    assert "first_pixel=0" in caught.value.hint
    _, (label,) = drawn(settings, first_pixel=0)
    assert label[:3, :2].all() and label.sum() == 6


@pytest.mark.parametrize("empty", ["", "-1", "NaN"])
def test_images_without_an_object(tmp_path, empty, capsys):
    settings = write(tmp_path, "ImageId,EncodedPixels", "a.jpg,1 3", f"b.jpg,{empty}")
    assert len(drawn(settings)[1]) == 2 and "1 image without a shape" in capsys.readouterr().err
    assert len(drawn(settings, skip_empty=True)[1]) == 1


@pytest.mark.parametrize("runs", ["1", "1 2 3", "x 3", "-4 2", "1.5 2", "99999999999 1", "9999999999 1"])
def test_damaged_runs_name_the_line(tmp_path, runs):
    with raises("out-of-range" if runs == "9999999999 1" else "invalid-rle", where="train.csv, line 2"):
        drawn(write(tmp_path, "ImageId,EncodedPixels", f"a.jpg,{runs}"))


def test_runs_beyond_the_image(tmp_path):
    with raises("size-mismatch", where="train.csv, line 2") as caught:
        drawn(write(tmp_path, "ImageId,EncodedPixels", "a.jpg,590 20"))
    assert caught.value.value == 609


@pytest.mark.parametrize(
    ("header", "settings", "code", "field"),
    [
        ("a,b", {}, "unclear-column", "image_column"),
        ("ImageId,b", {}, "unclear-column", "run_column"),
        ("ImageId,EncodedPixels", {"run_column": "EncodedPixel"}, "unknown-name", "run_column"),
    ],
)
def test_columns_that_are_missing(tmp_path, header, settings, code, field):
    with raises(code, field=field):
        drawn(write(tmp_path, header, "a.jpg,1 3"), **settings)


@pytest.mark.parametrize("settings", [{"annotation_scale": 0.5}, {"scale_annotations": True}])
def test_run_lengths_are_never_scaled(settings):
    with raises("conflicting-settings", field=next(iter(settings))):
        BuildRleCsvConfig(annotations="a.csv", **settings)


def test_a_file_without_rows(tmp_path):
    with raises("no-pairs", where="train.csv"):
        drawn(write(tmp_path, "ImageId,EncodedPixels"))


def test_cells_of_any_length(tmp_path):
    stripes = np.zeros((HEIGHT, WIDTH), bool)
    stripes[::2] = True
    long = " ".join([encode(stripes)] * 200)  # more than csv's own limit
    assert len(long) > 131_072
    _, (label,) = drawn(write(tmp_path, "ImageId,EncodedPixels", f"a.jpg,{long}"), run_order="columns")
    np.testing.assert_array_equal(label, stripes)
