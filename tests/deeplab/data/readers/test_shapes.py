"""Shapes into labels: every pixel by hand, order, clipping, and what is refused."""

import math
import pickle

import numpy as np
import pytest
from support.errors import raises

from deeplab.data.labels import LabelSpec
from deeplab.data.readers import shapes
from deeplab.data.readers.bitmaps import Bitmap
from deeplab.data.readers.shapes import (
    FRACTIONS,
    Shape,
    ShapesMask,
    area,
    bitmap,
    ellipse,
    line,
    paint,
    polygon,
    polygons,
    rectangle,
)
from deeplab.data.readers.source import Painter

NAMES = ("background", "hair", "skin", "eye")
PAINTER = Painter(NAMES, LabelSpec())


def label_of(text):
    """A label written as text: a dot is 0."""
    return np.array([[int(sign.replace(".", "0")) for sign in line] for line in text.split()], np.uint8)


def painted(*members, size=(4, 4), **settings):
    return paint(members, PAINTER, "a.json", *size, **settings)


# --- Which pixels a shape has -------------------------------------------------------------------------------


def test_triangle():
    # Column c is crossed by the long side at y = 3.5 - c: the centers of rows 0 to 2 - c lie above it.
    label = painted(polygon("hair", [[0, 0], [4, 0], [0, 4]]))
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, label_of("111. 11.. 1... ...."))


def test_flat_points_and_a_repeated_first_point_are_the_same():
    pairs = painted(polygon("hair", [[1, 1], [4, 1], [1, 4]]))
    np.testing.assert_array_equal(painted(polygon("hair", [1, 1, 4, 1, 1, 4])), pairs)
    np.testing.assert_array_equal(painted(polygon("hair", [1, 1, 4, 1, 1, 4, 1, 1])), pairs)
    np.testing.assert_array_equal(painted(polygon("hair", [1, 4, 4, 1, 1, 1])), pairs)


def test_hole():
    frame = polygon("hair", [[0, 0], [5, 0], [5, 4], [0, 4]], holes=[[[1, 1], [1, 3], [3, 3], [3, 1]]])
    np.testing.assert_array_equal(painted(frame, size=(4, 5)), label_of("11111 1..11 1..11 11111"))
    assert area(frame) == 16


def test_ring_in_a_hole_is_filled_again():
    squares = [[[low, low], [high, low], [high, high], [low, high]] for low, high in ((0, 5), (1, 4), (2, 3))]
    rings = polygon("hair", squares[0], holes=squares[1:])
    np.testing.assert_array_equal(painted(rings, size=(5, 5)), label_of("11111 1...1 1.1.1 1...1 11111"))
    assert area(rings) == 25 - 9 + 1


def test_common_border_belongs_to_one_of_two():
    # The diagonal runs through the centers of four pixels: each is painted once, none is left out.
    below = painted(polygon("hair", [[0, 0], [4, 4], [0, 4]]))
    above = painted(polygon("hair", [[4, 0], [4, 4], [0, 0]]))
    np.testing.assert_array_equal(below + above, np.ones([4, 4]))


def test_fan_of_triangles_covers_every_pixel_once():
    rng = np.random.default_rng(3)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 17))
    corners = np.stack([20 + 40 * np.cos(angles), 15 + 40 * np.sin(angles)], axis=1)
    middle = [20.37, 14.81]
    total = np.zeros([30, 40], np.uint8)
    for one, other in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        total += painted(polygon("hair", [middle, other, one]), size=(30, 40))
    np.testing.assert_array_equal(total, np.ones([30, 40]))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 2.0, "11.. 11.. .... ...."),
        (0.5, 2.5, "11.. 11.. .... ...."),  # a center on the upper or left border is in, on the lower or right one out
        (0.51, 2.51, ".... .11. .11. ...."),
        (0.49, 2.49, "11.. 11.. .... ...."),
        (1.2, 1.8, ".... .1.. .... ...."),
    ],
)
def test_a_pixel_counts_by_its_center(low, high, expected):
    np.testing.assert_array_equal(painted(rectangle("hair", low, low, high, high)), label_of(expected))


def test_outline_that_crosses_itself():
    bow = polygon("hair", [[0, 0], [4, 4], [4, 0], [0, 4]])
    np.testing.assert_array_equal(painted(bow), label_of("1..1 1111 1..1 ...."))
    square = [[0, 0], [4, 0], [4, 4], [0, 4]]
    assert not painted(polygon("hair", square + square)).any()  # twice around is outside again


def test_middle_of_a_star_is_outside():
    turns = np.arange(5) * 4 * np.pi / 5
    star = polygon("hair", np.stack([20 + 20 * np.sin(turns), 20 - 20 * np.cos(turns)], axis=1))
    label = painted(star, size=(40, 40))
    assert label[20, 20] == 0 and label[6, 20] == 1 and label[14, 5] == 1


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ((-9, -9, 9, 9), "1111 1111 1111"),
        ((-9, 1, 2, 2), ".... 11.. ...."),
        ((3, 1, 90, 2), ".... ...1 ...."),
        ((1, -9, 2, 1), ".1.. .... ...."),
        ((1, 2, 2, 90), ".... .... .1.."),
        ((-9, 0, -1, 3), ".... .... ...."),
        ((4, 0, 9, 3), ".... .... ...."),
        ((0, -9, 4, 0), ".... .... ...."),
        ((0, 3, 4, 9), ".... .... ...."),
    ],
)
def test_clipped_on_all_sides(corners, expected):
    np.testing.assert_array_equal(painted(rectangle("hair", *corners), size=(3, 4)), label_of(expected))


def test_a_sloping_shape_is_cut_not_moved():
    # The long side passes x = c + 0.5 at y = 3 - c, whatever is outside the image.
    triangle = polygon("hair", [[-1000.5, -1000], [1003.5, -1000], [-1000.5, 1004]])
    np.testing.assert_array_equal(painted(triangle), label_of("111. 11.. 1... ...."))


def test_thin_shapes_hold_no_center_and_paint_nothing():
    assert not painted(rectangle("hair", 1.6, 0, 2.4, 4)).any()
    assert not painted(polygon("hair", [[0, 0], [4, 4], [2, 2]])).any()
    assert not painted(polygon("hair", [[1, 1], [1, 1], [1, 1]])).any()


def test_against_every_pixel_asked_alone():
    rng = np.random.default_rng(0)
    for _ in range(60):
        rings = [rng.uniform(-6, 26, [rng.integers(3, 9), 2]) for _ in range(rng.integers(1, 3))]
        label = painted(polygon("hair", rings[0], rings[1:]), size=(18, 21))
        np.testing.assert_array_equal(label, by_crossings_to_the_left(rings, 18, 21))


def by_crossings_to_the_left(rings, height, width):
    """The textbook test of a point, along rows where the code under test goes along columns."""
    inside = np.zeros([height, width], np.uint8)
    for row, column in np.ndindex(height, width):
        for ring in rings:
            for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, 1, axis=0), strict=True):
                if (y0 > row + 0.5) != (y1 > row + 0.5):
                    inside[row, column] ^= column + 0.5 > x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    return inside


def test_pixels_make_up_the_area():
    rng = np.random.default_rng(1)
    excess = []
    for _ in range(300):
        triangle = polygon("hair", rng.uniform(0, 30, [3, 2]))
        excess.append(np.count_nonzero(painted(triangle, size=(30, 30))) - area(triangle))
    assert abs(np.mean(excess)) < 0.15  # painting the outline as well gives about 40 pixels more


def test_a_shape_of_very_many_points_is_painted_in_parts(monkeypatch):
    points = np.random.default_rng(2).uniform(-5, 35, [60, 2])
    whole = painted(polygon("hair", points), size=(30, 31))
    monkeypatch.setattr(shapes, "_MAX_SWITCHES", 7 * 31)
    np.testing.assert_array_equal(painted(polygon("hair", points), size=(30, 31)), whole)


# --- Other shapes -------------------------------------------------------------------------------------------


def test_rectangle_from_any_corner():
    expected = label_of(".... .11. .... ....")
    for corners in ((1, 1, 3, 2), (3, 2, 1, 1), (1, 2, 3, 1), (3, 1, 1, 2)):
        np.testing.assert_array_equal(painted(rectangle("hair", *corners)), expected)


def test_circle():
    circle = ellipse("hair", 3, 3, 2.6, 2.6)
    np.testing.assert_array_equal(painted(circle, size=(6, 6)), label_of("..11.. .1111. 111111 111111 .1111. ..11.."))
    assert area(circle) == pytest.approx(math.pi * 2.6**2, rel=1e-9)


def test_ellipse_is_turned_clockwise_on_the_screen():
    flat = ellipse("hair", 8, 8, 6, 1.5)
    np.testing.assert_array_equal(
        painted(ellipse("hair", 8, 8, 6, 1.5, degrees=90), size=(16, 16)), painted(flat, size=(16, 16)).T
    )
    turned = painted(ellipse("hair", 8, 8, 6, 1.5, degrees=45), size=(16, 16))
    assert turned[11, 11] == 1 and turned[4, 4] == 1 and turned[11, 4] == 0  # right end down
    assert area(ellipse("hair", 8, 8, 6, 1.5, degrees=30)) == pytest.approx(math.pi * 9, rel=1e-9)


@pytest.mark.parametrize("radius", [0.3, 5, 80, 2000])
def test_ellipse_is_nowhere_far_from_its_polygon(radius):
    (ring,) = ellipse("hair", 0, 0, radius, radius).rings
    middles = (ring + np.roll(ring, -1, axis=0)) / 2
    distances = np.concatenate([np.hypot(*ring.T), np.hypot(*middles.T)])
    assert np.abs(distances - radius).max() < 0.1
    assert len(ring) < 20 + 4 * radius


def test_bitmap_is_placed_and_cut():
    pixels = [[1, 0, 1], [1, 1, 1]]
    np.testing.assert_array_equal(painted(bitmap("hair", pixels, 1, 2)), label_of(".... .... .1.1 .111"))
    np.testing.assert_array_equal(painted(bitmap("hair", pixels, -1, -1)), label_of("11.. .... .... ...."))
    np.testing.assert_array_equal(painted(bitmap("hair", pixels, 3, 3)), label_of(".... .... .... ...1"))
    np.testing.assert_array_equal(painted(bitmap("hair", np.eye(3).T, 2, -1)), label_of("...1 .... .... ...."))
    for left, top in ((-3, 0), (4, 0), (0, -2), (0, 4), (900, -900)):
        assert not painted(bitmap("hair", pixels, left, top)).any()
    assert area(bitmap("hair", pixels)) == 5


def test_union_of_polygons():
    inner, aside = [1, 1, 2, 1, 2, 2, 1, 2], [[3, 0], [4, 0], [4, 1], [3, 1]]
    union = polygons("hair", [[0, 0, 3, 0, 3, 3, 0, 3], inner, aside, [1, 2]])
    np.testing.assert_array_equal(painted(union), label_of("1111 111. 111. ...."))  # even-odd would leave a hole
    assert area(union) == 9 + 1 + 1 and len(union.rings) == 3


def test_line_of_a_width():
    np.testing.assert_array_equal(
        painted(line("hair", [[1, 2], [5, 2]], 2), size=(4, 7)), label_of("....... 111111. 111111. .......")
    )
    corner = line("hair", [[1, 1], [5, 1], [5, 5]], 2)
    label = painted(corner, size=(6, 6))
    assert label[:2].all() and label[2:, 4:].all() and not label[2:, :4].any()
    assert not line("hair", [[1, 2], [5, 2]], 0).has_area and not line("hair", [[1, 2]], 2).has_area
    assert not painted(line("hair", [[2, 2], [2, 2]], 0)).any()


def test_closed_line_is_a_polygon():
    square = [[1, 1], [3, 1], [3, 3], [1, 3], [1, 1]]
    np.testing.assert_array_equal(painted(line("hair", square, 0)), painted(polygon("hair", square)))
    np.testing.assert_array_equal(painted(line("hair", square, 9)), painted(polygon("hair", square)))


@pytest.mark.parametrize(
    "shape",
    [
        polygon("hair", []),
        polygon("hair", [[0, 0], [1, 1]]),
        polygon("hair", [[1, 1], [1, 1], [1, 1]]),
        polygon("hair", [[0, 2], [3, 2], [5, 2]]),
        polygons("hair", []),
        rectangle("hair", 1, 0, 1, 4),
        ellipse("hair", 2, 2, 0, 3),
        bitmap("hair", np.zeros([2, 2])),
        bitmap("hair", np.zeros([0, 5])),
        Shape("hair"),
    ],
)
def test_shapes_without_an_area(shape):
    assert not shape.has_area
    assert not painted(shape).any()


def test_bounds():
    assert polygon("hair", [[1, 5], [4, -2], [0, 3]]).bounds() == (0, -2, 4, 5)
    assert bitmap("hair", np.ones([2, 3]), 4, 5).bounds() == (4, 5, 7, 7)


# --- Order --------------------------------------------------------------------------------------------------

LARGE, SMALL = rectangle("hair", 0, 0, 4, 3), rectangle("skin", 0, 0, 2, 2)


def test_later_shapes_cover_earlier_ones():
    np.testing.assert_array_equal(painted(LARGE, SMALL), label_of("2211 2211 1111 ...."))
    np.testing.assert_array_equal(painted(SMALL, LARGE), label_of("1111 1111 1111 ...."))


def test_by_area_small_ones_are_on_top():
    for members in ((LARGE, SMALL), (SMALL, LARGE)):
        np.testing.assert_array_equal(painted(*members, overlap="area"), label_of("2211 2211 1111 ...."))


def test_equal_areas_keep_the_order_of_the_file():
    first, second = rectangle("hair", 0, 0, 2, 2), rectangle("skin", 1, 0, 3, 2)
    np.testing.assert_array_equal(painted(first, second, overlap="area"), label_of("122. 122. .... ...."))
    np.testing.assert_array_equal(painted(second, first, overlap="area"), label_of("112. 112. .... ...."))


def test_layers_come_before_the_order_of_the_file():
    top = rectangle("skin", 0, 0, 2, 2, layer=1)
    middle, low = rectangle("hair", 0, 0, 3, 3), rectangle("eye", 0, 0, 4, 4, layer=-1)
    np.testing.assert_array_equal(painted(top, middle, low), label_of("2213 2213 1113 3333"))
    np.testing.assert_array_equal(painted(top, low, middle, overlap="area"), label_of("2213 2213 1113 3333"))


def test_what_lies_beneath_is_painted_first():
    crowd = polygons("eye", [[0, 0, 1, 0, 1, 1, 0, 1]], beneath=True)  # smaller than all others
    for overlap in ("area", "file"):
        np.testing.assert_array_equal(painted(SMALL, crowd, overlap=overlap), label_of("22.. 22.. .... ...."))


def test_area_of_a_bitmap_counts_its_pixels():
    spread = bitmap("skin", np.eye(4))  # 4 pixels in a box of 16
    np.testing.assert_array_equal(
        painted(spread, rectangle("hair", 0, 0, 3, 3), overlap="area"), label_of("211. 121. 112. ...2")
    )


# --- Classes ------------------------------------------------------------------------------------------------


def test_names_of_ignored_pixels_and_of_the_background():
    ignored, cleared = rectangle("__ignore__", 0, 0, 2, 1), rectangle("_background_", 1, 0, 3, 1)
    label = painted(LARGE, ignored, cleared)
    np.testing.assert_array_equal(label[:2], [[255, 0, 0, 1], [1, 1, 1, 1]])


def test_background_value():
    assert painted(SMALL, background=3)[3, 3] == 3
    plain = Painter(("skin",), LabelSpec())
    label = ShapesMask("a.json", (SMALL,)).draw(plain, 3, 3)  # no class for what is not drawn: it does not count
    np.testing.assert_array_equal(label, [[0, 0, 255], [0, 0, 255], [255, 255, 255]])


def test_unknown_class():
    with raises("unknown-class", where="a.json") as caught:
        painted(rectangle("hiar", 0, 0, 1, 1))
    assert caught.value.value == "hiar"
    assert "did you mean 'hair'?" in caught.value.hint and "`on_bad_label=ignore`" in caught.value.hint
    lenient = Painter(NAMES, LabelSpec(ignore_bad=True))
    assert paint([rectangle("hiar", 0, 0, 1, 1)], lenient, "a.json", 2, 2)[0, 0] == 255


def test_more_classes_than_a_label_can_hold():
    many = Painter((*map(str, range(256)), "hair"), LabelSpec())
    with raises("too-many-classes", where="a.json") as caught:
        paint([LARGE], many, "a.json", 2, 2)
    assert caught.value.value == 256


def test_a_bitmap_larger_than_the_image_is_never_unpacked():
    huge = Shape("hair", bitmap=Bitmap(np.array([0, 2**31 - 1], np.int32), 1, 2**31 - 1))
    with raises("size-mismatch", where="a.json") as caught:
        painted(huge)
    assert caught.value.value == (1, 2**31 - 1)


# --- Masks --------------------------------------------------------------------------------------------------


def test_shapes_may_be_made_when_the_label_is_drawn():
    mask = ShapesMask("a.json", lambda height, width: [rectangle("hair", 0, 0, width / 2, height)])
    np.testing.assert_array_equal(mask.draw(PAINTER, 2, 4), label_of("11.. 11.."))


def test_fractions_fit_any_size():
    mask = ShapesMask("a.json", (rectangle("hair", 0.25, 0.5, 0.75, 1),), FRACTIONS, scale=True)
    assert mask.size is None
    np.testing.assert_array_equal(mask.draw(PAINTER, 2, 4), label_of(".... .11."))
    np.testing.assert_array_equal(mask.draw(PAINTER, 4, 8), np.kron(label_of(".... .11."), np.ones((2, 2))))


def test_shapes_are_scaled_from_the_stated_size_on_request():
    small = (rectangle("hair", 1, 1, 3, 2), bitmap("skin", [[1]], 0, 0))
    assert ShapesMask("a.json", small, (3, 4)).size == (3, 4)
    mask = ShapesMask("a.json", small, (3, 4), scale=True)
    assert mask.size is None
    np.testing.assert_array_equal(mask.draw(PAINTER, 3, 4), label_of("2... .11. ...."))
    np.testing.assert_array_equal(mask.draw(PAINTER, 6, 8), np.kron(label_of("2... .11. ...."), np.ones((2, 2))))
    large = ShapesMask("a.json", (rectangle("hair", 20, 20, 60, 40),), (667, 1000), scale=True)
    assert large.draw(PAINTER, 200, 300).any()  # a side that is rounded to whole pixels
    for turned in ((8, 6), (3, 8)):
        with raises("size-mismatch", where="a.json"):
            mask.draw(PAINTER, *turned)


def test_mask_travels():
    mask = pickle.loads(pickle.dumps(ShapesMask("a.json", (LARGE, SMALL), (3, 4), "area")))
    assert (mask.where, mask.size) == ("a.json", (3, 4))
    np.testing.assert_array_equal(mask.draw(PAINTER, 3, 4), label_of("2211 2211 1111"))


# --- What is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "code"),
    [
        ([0, 0, 1, 1, 2], "invalid-points"),
        ([[0, 0, 0], [1, 1, 1], [2, 2, 2]], "invalid-points"),
        ([[0, 0], [1, 1], [2]], "invalid-points"),
        ([[0, 0], [1, 1], [2, math.nan]], "out-of-range"),
        ([[0, 0], [1, 1], [2, math.inf]], "out-of-range"),
        ([[0, 0], [1, 1], [2, 1e9]], "out-of-range"),
        ([[0, 0], [1, 1], [2, 10**400]], "wrong-type"),
        ([["0", "0"], ["1", "1"], ["2", "2"]], "wrong-type"),
        ([[0, 0], [1, 1], [2, None]], "wrong-type"),
        ([[0, 0], [1, 1], [2, {}]], "wrong-type"),
        ([[True, False], [True, True], [False, False]], "wrong-type"),
        (None, "wrong-type"),
        ("a polygon", "wrong-type"),
        ({"x": 1}, "wrong-type"),
    ],
)
def test_invalid_points(points, code):
    with raises(code, where="a.json, shape 3") as caught:
        polygon("hair", points, where="a.json, shape 3")
    assert caught.value.hint
    with raises(code, where="a.json, shape 3, hole 1"):
        polygon("hair", [[0, 0], [9, 0], [0, 9]], holes=[points], where="a.json, shape 3")


def test_numbers_of_other_shapes():
    with raises("out-of-range") as caught:
        ellipse("hair", 0, 0, 3, -2)
    assert caught.value.value == -2
    with raises("out-of-range", where="a.json"):
        ellipse("hair", 0, math.nan, 3, 2, where="a.json")
    with raises("out-of-range", where="shape 'hair'") as caught:
        rectangle("hair", 0, 0, 1e12, 2)
    assert caught.value.value == 1e12
    assert not painted(ellipse("hair", 2, 2, 0, 0)).any()
