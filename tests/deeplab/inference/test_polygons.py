"""Outlines by hand, and painted back into the label they came from, pixel for pixel."""

import numpy as np
import pytest

from deeplab.data.labels import LabelSpec
from deeplab.data.readers.shapes import Shape, paint
from deeplab.data.readers.source import Painter
from deeplab.inference.polygons import regions, simplified


def painted(found, size, classes=9, rings=False):
    """The regions painted by the readers' rule: with holes, or as one closed line each."""
    names = tuple(map(str, range(classes)))
    outlines = [(region.ring(),) if rings else (region.outline, *region.holes) for region in found]
    shapes = [Shape(str(region.index), outline) for region, outline in zip(found, outlines, strict=True)]
    return paint(shapes, Painter(names, LabelSpec(classes)), "test", *size)


def test_a_square_by_hand():
    label = np.zeros((5, 6), int)
    label[1:3, 2:5] = 4
    (region,) = regions(label, [4])
    assert region.index == 4 and region.area == 6 and region.holes == ()
    assert sorted(map(tuple, region.outline.tolist())) == [(2, 1), (2, 3), (5, 1), (5, 3)]
    assert regions(label, [3]) == []


def test_a_hole_by_hand():
    label = np.ones((4, 5), int)
    label[1, 2] = 0
    (region,) = regions(label, [1])
    assert region.area == 19 and len(region.holes) == 1
    assert sorted(map(tuple, region.holes[0].tolist())) == [(2, 1), (2, 2), (3, 1), (3, 2)]


def test_pixels_that_touch_at_a_corner_are_apart():
    found = regions(np.eye(3, dtype=int), [1])
    assert [region.area for region in found] == [1, 1, 1] and all(len(region.outline) == 4 for region in found)


@pytest.mark.parametrize("kind", ["noise", "blocks", "rings", "one pixel", "all"])
@pytest.mark.parametrize("rings", [False, True])
def test_painting_gives_the_label_back(kind, rings):
    draw = np.random.default_rng(3)
    rows, columns = np.mgrid[:37, :53]
    label = {
        "noise": draw.integers(0, 4, (37, 53)),
        "blocks": np.kron(draw.integers(0, 3, (8, 8)), np.ones((6, 8), int))[:37, :53],
        "rings": (np.hypot(rows - 18, columns - 26) // 4).astype(int) % 3,
        "one pixel": (rows + columns == 0).astype(int),
        "all": np.full((37, 53), 2),
    }[kind]
    found = regions(label, [1, 2, 3])
    np.testing.assert_array_equal(painted(found, label.shape, rings=rings), label)
    areas = np.bincount(label.ravel(), minlength=4)
    assert [sum(r.area for r in found if r.index == index) for index in (1, 2, 3)] == areas[1:].tolist()


def test_fewer_points_stay_near():
    rows, columns = np.mgrid[:120, :120]
    label = (np.hypot(rows - 60, columns - 60) < 45).astype(int)
    exact, coarse = regions(label, [1]), regions(label, [1], tolerance=1.0)
    assert len(coarse[0].outline) < len(exact[0].outline) / 4
    drawn = painted(coarse, label.shape)
    assert (drawn & label).sum() / (drawn | label).sum() > 0.97


def test_what_would_vanish_keeps_its_outline():
    ring = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    np.testing.assert_array_equal(simplified(ring, 10.0), ring)
