"""Patterns of file names, and how they are guessed."""

import pytest
from support.errors import raises

from deeplab.data.readers.name_patterns import NamePattern, guess_patterns


@pytest.mark.parametrize(
    ("pattern", "path", "key"),
    [
        ("{name}_sat", "100_sat.jpg", ("", "100")),
        ("{name}_sat.jpg", "100_sat.jpg", ("", "100")),
        ("{name}_sat.jpg", "day/100_sat.jpg", ("day", "100")),
        ("{name}_sat.jpg", "100_sat.png", None),
        ("{name}_sat", "100_mask.png", None),
        ("image_{name}", "image_3.v2.png", ("", "3.v2")),
        ("{road}_lane_{name}", "um_lane_000001.png", ("", "000001", "um")),
        ("{road}_{name}", "um_000001.png", ("", "000001", "um")),
        ("{split}/masks/{name}", "train/masks/a.png", ("", "a", "train")),
        ("{name}/images/*.png", "n1/images/x.png", ("", "n1")),
        ("{name}/images/*.png", "n1/masks/x.png", None),
        ("{name}.v*", "a.v12.png", ("", "a")),
    ],
)
def test_what_a_pattern_reads_from_a_path(pattern, path, key):
    assert NamePattern(pattern).key(path) == key


@pytest.mark.parametrize("pattern", ["mask.png", "{name}_{name}", "{}"])
def test_patterns_that_are_none(pattern):
    with raises("invalid-pattern", field="mask_pattern") as caught:
        NamePattern(pattern, "mask_pattern")
    assert caught.value.value == pattern


@pytest.mark.parametrize(
    ("image_names", "mask_names", "expected"),
    [
        (  # KITTI road: three kinds of places, of which one has two kinds of masks
            [f"{kind}_{number:06}" for kind in ("um", "umm", "uu") for number in range(9)],
            [f"um_lane_{number:06}" for number in range(9)]
            + [f"{kind}_road_{number:06}" for kind in ("um", "umm", "uu") for number in range(9)],
            ("{kind}_{name}", "{kind}_road_{name}", 27),
        ),
        ([f"rgb_{part}" for part in "abcd"], [f"{part}_seg" for part in "abcd"], ("rgb_{name}", "{name}_seg", 4)),
        (
            [f"{place}/rgb" for place in range(4)],
            [f"{place}/seg" for place in range(4)],
            ("{name}/rgb", "{name}/seg", 4),
        ),
        (["img_100", "img_101"], ["100_mask", "101_mask"], ("img_{name}", "{name}_mask", 2)),
        (
            [f"photo{number}" for number in range(900)],
            [f"m{number}.v2" for number in range(600, 700)],
            ("photo{name}", "m{name}.v2", 100),
        ),
    ],
)
def test_patterns_are_guessed_from_all_names(image_names, mask_names, expected):
    assert guess_patterns(image_names, mask_names) == expected


def test_names_without_a_common_part_give_no_pattern():
    assert guess_patterns(["a"], ["x"])[2] == 0
