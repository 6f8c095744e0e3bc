"""Color tables: the reference's, and the palette for datasets of one's own."""

import numpy as np
import pytest
from support.errors import raises

from deeplab.data import colormaps


@pytest.mark.parametrize("name", ["pascal", "cityscapes", "ade20k", "mapillary_vistas"])
def test_named_tables_are_the_reference_s(golden, name):
    expected = np.load(golden / "preprocess.npz")[f"cmap_{name}"]
    table = colormaps.colors_for(name, 19)
    assert table.dtype == np.uint8 and table.shape == (256, 3)
    np.testing.assert_array_equal(table[: len(expected)], expected)


def test_pascal_rule_by_hand():
    table = colormaps.pascal_colors()
    assert table[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert table[8].tolist() == [64, 0, 0]
    assert table[255].tolist() == list(colormaps.IGNORED)
    np.testing.assert_array_equal(colormaps.colors_for("pascal_voc_seg", 21), table)


@pytest.mark.parametrize("source", [None, "", (), "distinct"])
def test_without_colors_there_is_a_palette_of_distinct_ones(source):
    table = colormaps.colors_for(source, 3)
    assert len(np.unique(table, axis=0)) == 256
    assert table[0].tolist() == [0, 0, 0]
    assert table[255].tolist() == list(colormaps.IGNORED)
    first = table[:21].astype(int)
    distance = np.abs(first[:, np.newaxis] - first).sum(-1) + 1000 * np.eye(21, dtype=int)
    assert distance.min() >= 60


def test_tables_are_not_shared():
    colormaps.colors_for(None, 3)[:] = 9
    assert colormaps.colors_for(None, 3)[0].tolist() == [0, 0, 0]


def test_own_colors():
    table = colormaps.colors_for([[0, 0, 255], [255, 0, 0]], 2)
    assert table[:3].tolist() == [[0, 0, 255], [255, 0, 0], [0, 0, 0]]
    assert table[255].tolist() == list(colormaps.IGNORED)


@pytest.mark.parametrize(
    ("source", "value"),
    [([[1, 2, 3]], 1), ([[1, 2], [3, 4]], [[1, 2], [3, 4]]), ([[0, 0, 256]], [[0, 0, 256]])],
)
def test_bad_colors(source, value):
    with raises("invalid-colors", where="colors") as caught:
        colormaps.colors_for(source, 2)
    assert caught.value.value == value


def test_unknown_color_map():
    with raises("unknown-name", field="colormap_type") as caught:
        colormaps.colors_for("pascall", 2)
    assert caught.value.hint == "did you mean 'pascal'?"


def test_color_label_by_hand():
    colors = np.uint8([[0, 0, 0], [10, 20, 30]])
    drawn = colormaps.color_label(np.array([[1, 0]]), colors)
    assert drawn.dtype == np.uint8
    assert drawn.tolist() == [[[10, 20, 30], [0, 0, 0]]]


@pytest.mark.parametrize("value", [-1, 2])
def test_color_label_refuses_values_without_color(value):
    with raises("label-out-of-range", where="label"):
        colormaps.color_label(np.array([[0, value]]), np.zeros([2, 3], np.uint8))


def test_overlay_by_hand():
    image, mask = np.uint8([[[0, 100, 255]]]), np.uint8([[[255, 200, 255]]])
    assert colormaps.overlay(image, mask, 0.0).tolist() == image.tolist()
    assert colormaps.overlay(image, mask, 1.0).tolist() == mask.tolist()
    assert colormaps.overlay(image, mask, 0.25).tolist() == [[[64, 125, 255]]]


class TestOverlayWithLabel:
    """Class 0 stays untouched, regions get an outline."""

    IMAGE = np.full((12, 16, 3), 100, np.uint8)
    COLORS = colormaps.colors_for(((9, 9, 9), (200, 0, 0), (0, 200, 0)), 3)

    def laid(self, label, opacity=0.5, image=IMAGE):
        return colormaps.overlay(image, colormaps.color_label(label, self.COLORS), opacity, label)

    def test_by_hand(self):
        label = np.zeros((12, 16), np.int64)
        label[2:9, 3:10] = 1
        drawn = self.laid(label)
        expected = self.IMAGE.copy()
        expected[2:9, 3:10] = (200, 0, 0)  # the outline in full color
        expected[3:8, 4:9] = (150, 50, 50)
        np.testing.assert_array_equal(drawn, expected)

    def test_regions_that_touch_have_an_outline_each(self):
        label = np.ones((12, 16), np.uint8)
        label[:, 8:] = 2
        (row,) = self.laid(label)[5:6]
        assert [tuple(pixel) for pixel in row[6:10].tolist()] == [
            (150, 50, 50),
            (200, 0, 0),
            (0, 200, 0),
            (50, 150, 50),
        ]
        assert tuple(row[0]) == (150, 50, 50)  # the border of the image is no edge of a region

    def test_nothing_but_background_is_the_image(self):
        np.testing.assert_array_equal(self.laid(np.zeros((12, 16), np.uint8)), self.IMAGE)

    def test_no_opacity_is_the_image(self):
        label = np.ones((12, 16), np.uint8)
        label[:, 8:] = 2
        np.testing.assert_array_equal(self.laid(label, 0.0), self.IMAGE)

    def test_full_opacity_is_the_mask_outside_the_background(self):
        label = np.repeat(np.arange(4, dtype=np.uint8), 4)[None].repeat(12, 0) % 3
        drawn = self.laid(label, 1.0)
        np.testing.assert_array_equal(drawn[label > 0], self.COLORS[label[label > 0]])
        np.testing.assert_array_equal(drawn[label == 0], self.IMAGE[label == 0])

    def test_outlines_of_large_images_are_thicker(self):
        label = np.zeros((1200, 1800), np.uint8)
        label[300:900, 300:900] = 1
        inside = colormaps.outlines(label)[600, 300:900]
        assert inside[:3].all() and not inside[3:-3].any() and inside[-3:].all()
