"""Pairs that readers collect, and what they report at the end."""

import pytest
from PIL import Image
from support.errors import raises

from deeplab.config.conversion_config import DrawnConfig
from deeplab.data.labels import LabelSpec
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.shapes import polygon, rectangle
from deeplab.data.readers.source import Painter
from deeplab.utils.errors import UserError

SQUARE = rectangle("hair", 0, 0, 2, 2)


def test_one_warning_per_kind(capsys):
    collector = Collector(DrawnConfig())
    for number in range(9):
        collector.skipped("line", f"{number // 2}.json")
        collector.add(f"image_{number}", "a.jpg", "a.json", [])
    collector.skipped("point", "9.json")
    collector.report()
    said = capsys.readouterr().err
    assert said.count("warning") == 2
    assert "10 shapes without an area left out (9 line, 1 point): 0.json, 1.json, 2.json, 3.json, 4.json, ...\n" in said
    assert "9 images without a shape: background everywhere (`skip_empty=true` leaves such images out): image_0" in said


def test_an_image_is_listed_once_per_split():
    collector = Collector(DrawnConfig())
    collector.add("a", "a.jpg", "one.json", [SQUARE])
    collector.add("a", "a.jpg", "two.json", [SQUARE], split="val")
    with raises("duplicate-image", where="two.json") as caught:
        collector.add("a", "a.jpg", "two.json", [SQUARE])
    assert "one.json" in caught.value.rule
    collector.require_pairs("x.json")
    with raises("no-pairs", where="x.json"):
        Collector(DrawnConfig()).require_pairs("x.json")


def test_shapes_without_an_area_are_left_out(capsys):
    collector = Collector(DrawnConfig(skip_empty=True))
    empty = [polygon("ear", [[0, 0], [1, 1]]), rectangle("ear", 1, 1, 1, 3), polygon("ear", [])]
    collector.add("a", "a.jpg", "a.json", [*empty, SQUARE])
    collector.add("b", "b.jpg", "a.json", empty)
    collector.report()
    (pair,) = collector.splits[""]
    assert pair.name == "a" and pair.mask.shapes == (SQUARE,)
    assert collector.class_names() == ("background", "hair")
    said = capsys.readouterr().err
    assert "6 shapes without an area left out (6 too small): a, b" in said
    assert "1 image without a shape: left out: b" in said


def collect_outside(tmp_path, outside, inside=0, **settings):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    collector = Collector(DrawnConfig(**settings))
    for number in range(outside):
        collector.add(f"o{number}", str(tmp_path / "a.png"), "a.json", [rectangle("hair", 30, 20, 80, 60)])
    for number in range(inside):
        collector.add(f"i{number}", str(tmp_path / "a.png"), "a.json", [rectangle("hair", -3, -2, 43, 33)])
    collector.add("b", str(tmp_path / "a.png"), "a.json", [rectangle("hair", 30, 20, 80, 60)], size=(60, 80))
    collector.add("c", str(tmp_path / "nothing.png"), "a.json", [rectangle("hair", 30, 20, 80, 60)])
    collector.report()


def test_shapes_far_outside_many_images_are_an_error(tmp_path, capsys):
    with raises("shapes-outside", where="annotations") as caught:
        collect_outside(tmp_path, 2, 3)
    assert caught.value.value == 2 and "2 of 7 images" in caught.value.rule and "o0, o1" in caught.value.rule
    assert "annotation_scale=0.5" in caught.value.hint and "on_outside=cut" in caught.value.hint
    with raises("shapes-outside"):
        collect_outside(tmp_path, 6, 100)
    collect_outside(tmp_path, 2, 3, on_outside="cut")
    assert "warning: 2 images with shapes that reach far outside" in capsys.readouterr().err


def test_shapes_far_outside_a_few_of_many_images_are_pointed_out(tmp_path, capsys):
    collect_outside(tmp_path, 1, 20)
    said = capsys.readouterr().err
    assert said.count("warning") == 1 and "1 image with shapes that reach far outside" in said


def test_shapes_cannot_be_scaled_where_no_size_is_stated():
    collector = Collector(DrawnConfig(scale_annotations=True))
    collector.add("a", "a.jpg", "a.json", [SQUARE])
    with raises("no-stated-size", field="scale_annotations"):
        collector.report()


def test_shapes_are_scaled_by_a_factor():
    collector = Collector(DrawnConfig(annotation_scale=0.5))
    collector.add("a", "a.jpg", "a.json", [rectangle("hair", 0, 0, 4, 2)], size=(8, 8))
    mask = collector.splits[""][0].mask
    assert mask.size is None and mask.shapes[0].bounds() == (0, 0, 2, 1)


def corner(height, width):
    """A shape that depends on the size of the image: its lower right quarter."""
    return [rectangle("hair", width / 2, height / 2, width, height)]


@pytest.mark.parametrize(
    ("settings", "size"), [({"annotation_scale": 0.5}, None), ({"scale_annotations": True}, (8, 12)), ({}, None)]
)
def test_shapes_that_are_drawn_later_are_scaled_too(settings, size):
    sizes = []

    def seen(height, width):
        sizes.append((height, width))
        return corner(height, width)

    collector = Collector(DrawnConfig(**settings))
    collector.add("a", "a.jpg", "a.json", seen, size)
    collector.report()
    mask = collector.splits[""][0].mask
    label = mask.draw(Painter(("background", "hair"), LabelSpec()), 4, 6)
    assert mask.size is None and sizes == [(8, 12) if settings else (4, 6)]
    assert label[2:, 3:].all() and label.sum() == 6


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("annotation_scale", 0, "out-of-range"),
        ("line_width", -1, "out-of-range"),
        ("line_width", float("nan"), "wrong-type"),
    ],
)
def test_settings_out_of_range(field, value, code):
    with raises(code, field=field):
        DrawnConfig(**{field: value})


def collect(number, code="missing-key", **settings):
    collector = Collector(DrawnConfig(**settings))
    for index in range(number):
        with collector.catching():
            raise UserError(code, f"rule {index}", f"hint {index}", where=f"{index}.json", value=f"{index}.jpg")
    collector.report()


def test_errors_are_reported_together():
    with raises("missing-key", where="0.json") as caught:
        collect(1)
    assert (caught.value.rule, caught.value.hint) == ("rule 0", "hint 0")
    with pytest.raises(
        UserError, match=r"(?s)^0\.json: rule 0\n  and 2 more errors:\n    1\.json: rule 1; hint 1\n    2\.json"
    ):
        collect(3)
    with pytest.raises(
        UserError, match=r"(?s)and 9 more errors \(and perhaps more.*9\.json: rule 9; hint 9\n  hint: h"
    ):
        collect(15)


def test_images_that_do_not_exist_can_be_left_out(capsys):
    with raises("image-not-found"):
        collect(1, "image-not-found")
    collect(15, "image-not-found", on_missing="skip")
    assert "15 images named by annotations but not found: left out: 0.jpg, 1.jpg" in capsys.readouterr().err
    with raises("missing-key"):
        collect(1, on_missing="skip")


def test_classes_that_mark_ignored_pixels_are_pointed_out(capsys):
    collector = Collector(DrawnConfig())
    collector.add("a", "a.jpg", "a.json", [rectangle(name, 0, 0, 2, 2) for name in ("Void", "hair", "Background")])
    assert collector.class_names() == ("background", "hair")
    assert "class 'Void' marks pixels that do not count" in capsys.readouterr().err
