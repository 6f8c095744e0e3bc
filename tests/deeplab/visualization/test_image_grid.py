"""Image grids: where images are, that they are whole, legends that fit."""

import numpy as np
import pytest

from deeplab.visualization import image_grid
from deeplab.visualization.image_grid import CELL, GAP, LINE, SWATCH, ImageGrid, ImagePlace, LegendKey, Tile

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def plain(color, height=20, width=30):
    return np.full([height, width, 3], color, np.uint8)


def part(drawn, place):
    return drawn[place.top : place.top + place.height, place.left : place.left + place.width]


class TestPlaces:
    def test_pixel_for_pixel(self):
        draw = np.random.default_rng(0)
        images = [draw.integers(0, 256, [17, 23, 3], dtype=np.uint8) for _ in range(6)]
        tiles = [Tile(images[:2], ["a"]), Tile(images[2:4], ["b", "second line"]), Tile(images[4:])]
        made = ImageGrid(("one", "two"), tiles, heading=("x",), columns=2, cell=None)
        drawn, places = made.draw(), made.places()
        assert drawn.shape[1] == made.width
        for tile, row in zip(tiles, places, strict=True):
            for image, place in zip(tile.images, row, strict=True):
                np.testing.assert_array_equal(part(drawn, place), image)

    def test_by_hand(self):
        tiles = [Tile([plain(RED), plain(GREEN)], ["a"])] * 3
        made = ImageGrid(("one", "two"), tiles, columns=2, cell=None)
        assert (made.cell_width, made.tile_width) == (30, 30 + GAP + 30)
        below_titles = GAP + LINE
        second_row = below_titles + 20 + LINE + GAP
        assert [row[0] for row in made.places()] == [
            ImagePlace(GAP, below_titles, 30, 20),
            ImagePlace(GAP + 68 + 3 * GAP, below_titles, 30, 20),
            ImagePlace(GAP, second_row, 30, 20),
        ]
        assert made.places()[0][1].left == GAP + 30 + GAP
        assert made.draw().shape == (second_row + 20 + LINE + GAP + GAP, GAP + 68 + 3 * GAP + 68 + GAP, 3)

    @pytest.mark.parametrize(
        ("size", "shown"), [((10, 20), (120, 240)), ((500, 375), (240, 180)), ((1, 900), (1, 240))]
    )
    def test_images_keep_their_shape(self, size, shown):
        made = ImageGrid(("one",), [Tile([plain(RED, *size)])])
        place = made.places()[0][0]
        assert (place.height, place.width) == shown == image_grid.within(size, CELL)
        assert place.left == GAP + (CELL - shown[1]) // 2
        assert (part(made.draw(), place) == RED).all()

    def test_a_text_in_place_of_an_image(self):
        made = ImageGrid(("one", "two", "three"), [Tile(["cannot be decoded", None, plain(BLUE)], ["name"])])
        drawn, (reason, nothing, image) = made.draw(), made.places()[0]
        assert reason.height == image.height == 160
        assert len(np.unique(part(drawn, reason).reshape(-1, 3), axis=0)) > 3  # letters
        assert len(np.unique(part(drawn, nothing).reshape(-1, 3), axis=0)) == 1

    def test_nothing_but_texts(self):
        assert ImageGrid(("one",), [Tile(["cannot be decoded"], ["name"])]).draw().shape[1] == CELL + 2 * GAP

    @pytest.mark.parametrize(
        ("tiles", "width", "height", "columns"), [(24, 736, 228, 3), (1, 10, 100, 1), (2, 10, 90, 2)]
    )
    def test_columns(self, tiles, width, height, columns):
        assert image_grid.columns_for(tiles, width, height) == columns


class TestLegend:
    def test_swatches_stand_in_lines(self):
        keys = [LegendKey(f"class {index}", image_grid.plain_swatch((index, 200, 9))) for index in range(12)]
        made = ImageGrid(("one",), [Tile([plain(RED)])], keys)
        places = image_grid.legend_places(keys, made.width)
        assert {left for left, down in places if down == 0} != {GAP} and max(down for _, down in places) > 0
        assert all(left + SWATCH + 5 + image_grid.font().getlength("class 9") <= made.width for left, _ in places)
        drawn = made.draw()
        top = drawn.shape[0] - places[-1][1] - LINE - GAP
        for index, (left, down) in enumerate(places):
            assert tuple(drawn[top + down + 3 + SWATCH // 2, left + SWATCH // 2]) == (index, 200, 9)

    def test_a_name_wider_than_the_grid(self):
        assert image_grid.legend_places([LegendKey("x" * 500, image_grid.plain_swatch(RED))] * 2, 100) == [
            (GAP, 0),
            (GAP, LINE),
        ]


class TestText:
    def test_the_middle_of_a_long_name_is_left_out(self):
        short = image_grid._fitted("a" * 50 + "_0001.jpg", 150)
        assert short.startswith("aaa") and short.endswith("_0001.jpg") and "…" in short
        assert image_grid.font().getlength(short) <= 150
        assert image_grid._fitted("name\nwith\tbreaks", 500) == "name with breaks"

    def test_letters_of_other_scripts(self):
        missing = image_grid.font().getmask("\ufffe").getbbox()
        shown = [bytes(image_grid.font().getmask(letter)) for letter in "äжλ"]
        assert len(set(shown)) == 3 and all(shown) and missing

    def test_lines_of_a_reason(self):
        assert image_grid._wrapped("its label cannot be decoded", 80) == ["its label", "cannot be", "decoded"]


@pytest.mark.parametrize("width", [12, 60, 600])
def test_a_legend_below_an_image(width):
    image = np.random.default_rng(0).integers(0, 256, (30, width, 3), np.uint8)
    colors = [(200, 10, 10), (10, 200, 10), (10, 10, 200)]
    keys = [image_grid.LegendKey(f"class of number {n}", image_grid.plain_swatch(c)) for n, c in enumerate(colors)]
    drawn = image_grid.with_legend(image, keys)
    np.testing.assert_array_equal(drawn[:30], image)
    assert drawn.shape[1] == width and drawn.dtype == np.uint8
    for color in colors if width > 20 else colors[:1]:
        assert (drawn[30:] == color).all(-1).sum() >= 12 * min(12, width - 9)
    lines = (drawn.shape[0] - 30 - image_grid.GAP) // image_grid.LINE
    assert lines == (1 if width == 600 else 3)
    assert image_grid.with_legend(image, []) is image
