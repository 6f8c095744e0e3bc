"""Faults of masks: each is found, by file, rule and hint, and nothing else is."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from deeplab.data import dataset as datasets
from deeplab.data.labels import LabelRule
from deeplab.data.readers.source import Pair
from deeplab.data.validation import analysis, subject
from deeplab.data.validation.label_checks import is_blurred, share_between
from deeplab.utils.errors import UserError


def write(path, data):
    path.write_bytes(data)


MASK_FAULTS = {
    "empty": ("mask-unreadable", lambda label, data, encoded: b"", "is empty"),
    "cut off": ("mask-unreadable", lambda label, data, encoded: data[: len(data) - 20], "truncated"),
    "without its end": ("mask-unreadable", lambda label, data, encoded: data[:-12], "truncated"),
    "a wrong byte": (
        "mask-unreadable",
        lambda label, data, encoded: data[:60] + bytes([data[60] ^ 1]) + data[61:],
        "cannot be read as an image",
    ),
    "no picture": ("mask-unreadable", lambda label, data, encoded: b"0 0 1 1", "format is not known"),
    "a web page": ("mask-unreadable", lambda label, data, encoded: b"<html>404</html>", "format is not known"),
    "the photo": (
        "mask-lossy",
        lambda label, data, encoded: encoded(
            np.arange(64 * 80 * 3, dtype=np.uint32).reshape(64, 80, 3).astype(np.uint8), "jpeg"
        ),
        "is a JPEG in ",
    ),
    "the photo as PNG": (
        "mask-is-color",
        lambda label, data, encoded: encoded(np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8)),
        "a photograph, or a mask that was a JPEG once",
    ),
    "inverted": ("label-out-of-range", lambda label, data, encoded: encoded(255 - label), "253 on 192 pixels"),
    "one pixel": (
        "label-out-of-range",
        lambda label, data, encoded: encoded(
            np.where(np.arange(5120).reshape(64, 80) == 99, 77, label).astype(np.uint8)
        ),
        "77 on 1 pixel",
    ),
    "smaller": ("size-differs", lambda label, data, encoded: encoded(label[::4, ::4].copy()), "mask is 16x20"),
    "in colors": (
        "mask-is-color",
        lambda label, data, encoded: encoded(np.array([[0, 0, 0], [200, 0, 0], [0, 90, 7]], np.uint8)[label]),
        "RGB with 3 colors",
    ),
    "partly transparent": (
        "mask-kind",
        lambda label, data, encoded: encoded(np.dstack([label, label, label, 255 - label])),
        "transparent",
    ),
    "floating point": (
        "mask-kind",
        lambda label, data, encoded: encoded(Image.fromarray(label.astype(np.float32)), "tiff"),
        "no class indices",
    ),
    "a value too high": (
        "label-out-of-range",
        lambda label, data, encoded: encoded(np.where(label == 2, 7, label).astype(np.uint8)),
        "7 on 192 pixels",
    ),
    "beyond 8 bits": (
        "label-out-of-range",
        lambda label, data, encoded: encoded(Image.fromarray(label.astype(np.uint16) * 300)),
        "600",
    ),
    "JPEG": ("mask-lossy", lambda label, data, encoded: encoded(label, "jpeg", quality=100), "JPEG"),
    "poor JPEG": ("mask-lossy", lambda label, data, encoded: encoded(120 * label, "jpeg", quality=50), "JPEG"),
    "all ignored": (
        "label-all-ignored",
        lambda label, data, encoded: encoded(np.full_like(label, 255)),
        "ignore label 255",
    ),
    "another size": ("size-differs", lambda label, data, encoded: encoded(label[:, 8:]), "mask is 64x72"),
    "on its side": ("mask-transposed", lambda label, data, encoded: encoded(label.T), "mask is 80x64"),
}


@pytest.mark.parametrize("fault", MASK_FAULTS)
def test_a_faulty_mask(discs, drawn, only, fault):
    rule, change, text = MASK_FAULTS[fault]
    path = discs.mask("b1")
    write(path, change(drawn[0](9)[1], path.read_bytes(), drawn[1]))
    (found,) = only(discs.check(), rule)
    assert found.where == str(path)
    assert found.split == "val"
    assert text in found.text
    assert found.hint


SOUND = {
    "16 bits": lambda label, encoded: encoded(Image.fromarray(label.astype(np.uint16))),
    "gray as RGB": lambda label, encoded: encoded(np.dstack([label] * 3)),
    "alpha that says nothing": lambda label, encoded: encoded(np.dstack([label] * 3 + [np.full_like(label, 255)])),
    "BMP": lambda label, encoded: encoded(label, "bmp"),
    "TIFF": lambda label, encoded: encoded(label, "tiff"),
    "palette": lambda label, encoded: encoded(Image.fromarray(label).convert("P")),
}


@pytest.mark.parametrize("kind", SOUND)
def test_masks_of_other_kinds_are_sound(discs, drawn, kind):
    write(discs.mask("b1"), SOUND[kind](drawn[0](9)[1], drawn[1]))
    assert discs.check().findings == []


def test_few_strange_pixels_are_not_taken_for_classes(discs, drawn):
    label = drawn[0](9)[1].copy()
    label[0, :3] = 77, 78, 78
    write(discs.mask("b1"), drawn[1](label))
    (found,) = discs.check().findings
    assert found.hint == "export the mask again, or --label_map=77:255,78:255: 3 pixels in all masks"
    label[0, :7] = range(70, 77)
    write(discs.mask("b1"), drawn[1](label))
    (found,) = discs.check().findings
    assert found.hint == "export the mask again, or --on_bad_label=ignore: 7 pixels in all masks"


def test_strange_values_in_one_mask_of_many_are_damage(discs, drawn):
    for number in range(20):  # of 32 masks, one is strange
        name = f"more{number}"
        image, label = drawn[0](100 + number)
        write(discs.image(name), drawn[1](image, "jpeg"))
        write(discs.mask(name), drawn[1](label))
        discs.names["train"].append(name)
    write(discs.mask("b1"), drawn[1](np.where(discs.label("b1") == 2, 77, discs.label("b1")).astype(np.uint8)))
    (found,) = discs.check().findings
    assert found.hint.startswith("export the mask again, as 31 others have no such values; or --num_classes=78")


def test_many_strange_pixels_may_be_a_class(discs, drawn):
    write(discs.mask("b1"), drawn[1](np.where(drawn[0](9)[1] == 2, 3, drawn[0](9)[1]).astype(np.uint8)))
    (found,) = [item for item in discs.check().findings if item.severity == "error"]
    assert found.hint.startswith("--num_classes=4 if 3 is a class")


def test_a_mask_of_one_class_is_a_note(discs, drawn):
    write(discs.mask("b1"), drawn[1](np.zeros((64, 80), np.uint8)))
    (found,) = discs.check().findings
    assert (found.rule, found.severity, found.where) == ("label-one-class", "note", str(discs.mask("b1")))
    assert found.text == "is 0 (ground) all over"


def test_many_masks_of_one_class_are_as_it_should_be(discs, drawn):
    for name in ("a0", "a1", "b0"):
        write(discs.mask(name), drawn[1](np.zeros((64, 80), np.uint8)))
    assert "label-one-class" not in discs.check().numbers


def with_palette(label, colors, encoded):
    picture = Image.fromarray(label)
    picture.putpalette([part for color in colors for part in color])
    return encoded(picture)


def test_palettes_that_differ(discs, drawn, only):
    """As when each mask was reduced to its own colors: the most frequent color is index 0."""
    black, red, green = (0, 0, 0), (200, 0, 0), (0, 90, 7)
    for name in discs.all_names:
        write(discs.mask(name), with_palette(discs.label(name), [black, red, green], drawn[1]))
    assert discs.check().findings == []
    swapped = np.array([0, 2, 1], np.uint8)[drawn[0](5)[1]]
    write(discs.mask("a5"), with_palette(swapped, [black, green, red], drawn[1]))
    (found,) = only(discs.check(), "mask-palettes-differ")
    assert (found.where, found.split, found.severity) == (str(discs.mask("a5")), "train", "error")
    assert found.text == f"(0, 90, 7) is its index 1, but 2 in {discs.mask('a0')}"


def test_palettes_without_a_common_color_contradict_nothing(discs, drawn):
    for shade, name in enumerate(discs.all_names):
        colors = [(shade, 0, 0), (shade, 99, 0), (shade, 0, 99)]
        write(discs.mask(name), with_palette(discs.label(name), colors, drawn[1]))
    assert discs.check().findings == []


def test_unknown_colors_of_a_palette(discs, drawn, only, tmp_path):
    palette = np.array([[0, 0, 0], [200, 0, 0], [0, 90, 7]], np.uint8)
    (tmp_path / "palette").write_text("0 0 0 ground\n200 0 0 disc\n0 90 7 bar\n")
    for name in discs.all_names:
        write(discs.mask(name), drawn[1](palette[discs.label(name)]))
    assert discs.check(palette=str(tmp_path / "palette")).findings == []
    palette[2] = 0, 90, 9
    write(discs.mask("a5"), drawn[1](palette[drawn[0](5)[1]]))
    (found,) = only(discs.check(palette=str(tmp_path / "palette")), "mask-color-unknown")
    assert "(0, 90, 9)" in found.text
    assert "--color_tolerance=2" in found.hint


def test_a_photo_where_a_palette_is_given(discs, only, tmp_path):
    (tmp_path / "palette").write_text("0 0 0 ground\n200 0 0 disc\n0 90 7 bar\n")
    for name in discs.all_names:
        write(discs.mask(name), discs.image(name).read_bytes())
    found = only(discs.check(palette=str(tmp_path / "palette")), "mask-color-unknown")
    assert found[0].hint.endswith("--image_folder and --mask_folder may be swapped")


def test_snapped_colors_are_a_note(discs, drawn, tmp_path):
    palette = np.array([[0, 0, 0], [200, 0, 0], [0, 90, 9]], np.uint8)
    (tmp_path / "palette").write_text("0 0 0 ground\n200 0 0 disc\n0 90 7 bar\n")
    for name in discs.all_names:
        write(discs.mask(name), drawn[1](palette[discs.label(name)]))
    report = discs.check(palette=str(tmp_path / "palette"), color_tolerance=3.0)
    assert report.numbers == {"mask-colors-snapped": 12}
    assert "192 pixels (3.8 %)" in report.findings[0].text


def test_a_palette_png_that_says_two_things(discs, drawn, only, tmp_path):
    (tmp_path / "palette").write_text("0 0 0 ground\n200 0 0 disc\n0 90 7 bar\n")
    picture = Image.fromarray(drawn[0](5)[1])
    picture.putpalette([0, 0, 0, 0, 90, 7, 200, 0, 0])  # disc and bar in each other's colors
    write(discs.mask("a5"), drawn[1](picture))
    (found,) = only(discs.check(palette=str(tmp_path / "palette")), "mask-palette-disagrees")
    assert "which the palette file calls" in found.text


def test_known_colors_are_recognized(discs, drawn):
    known = datasets.load_known("camvid")
    palette = np.array(known.colors, np.uint8)
    for name in discs.all_names:
        write(discs.mask(name), drawn[1](palette[discs.label(name)]))
    report = discs.check(num_classes=known.num_classes)
    found = [item for item in report.findings if item.rule == "mask-is-color"]
    assert found[0].hint.startswith("--dataset=camvid")
    assert "camvid" in found[0].fix


@pytest.mark.parametrize("damage", ["smooth", "jpeg"])
def test_blurred_values(discs, drawn, damage):
    gray = np.array([0, 120, 240], np.uint8)[drawn[0](4)[1]]
    if damage == "smooth":
        gray = cv2.GaussianBlur(gray, (5, 5), 0)
    else:
        gray = np.asarray(Image.open(io.BytesIO(drawn[1](gray, "jpeg", quality=75))))
    write(discs.mask("a4"), drawn[1](gray))
    found = [item for item in discs.check().findings if item.rule == "mask-blurred"]
    assert [item.where for item in found] == [str(discs.mask("a4"))]


SMOOTH = {
    "halved and doubled": lambda label: cv2.resize(label[::2, ::2], None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR),
    "blurred": lambda label: cv2.GaussianBlur(label, (5, 5), 0),
    "JPEG": lambda label: np.asarray(Image.open(io.BytesIO(encoded_jpeg(label)))),
}


def encoded_jpeg(label):
    return cv2.imencode(".jpg", label, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def labels_of_distant_classes():
    """A label whose areas of 0 and 4 meet; class 2 has an area of its own."""
    label = np.zeros((320, 400), np.uint8)
    for top in range(20, 300, 40):
        label[top : top + 20, 20:300] = 4
    label[:, 320:380] = 2
    return label


@pytest.mark.parametrize("how", SMOOTH)
def test_smooth_edges_between_classes(how):
    """All values are classes, so nothing else would tell."""
    label = labels_of_distant_classes()
    assert share_between(label, np.bincount(label.ravel(), minlength=256)) < 0.05
    smooth = SMOOTH[how](label)
    assert share_between(smooth, np.bincount(smooth.ravel(), minlength=256)) > 0.3


def test_smooth_edges_are_found(discs, drawn):
    for name in discs.all_names:
        label = np.kron(discs.label(name), np.ones((4, 4), np.uint8)) * 2
        if name == "a5":
            label = cv2.GaussianBlur(label, (5, 5), 0)
        write(discs.mask(name), drawn[1](label))
        write(
            discs.image(name), drawn[1](np.kron(drawn[0](discs.all_names.index(name))[0], np.ones((4, 4, 1), np.uint8)))
        )
    report = discs.check(class_names="ground,b,disc,d,bar")
    assert [item.where for item in report.findings if item.rule == "mask-blurred"] == [str(discs.mask("a5"))]


def test_borders_drawn_on_purpose_are_not_blurred():
    label = np.zeros((320, 400), np.uint8)
    for top in range(20, 300, 40):
        label[top : top + 20, 20:380] = 2
    border = label.copy()
    border[(cv2.dilate(label, np.ones((3, 3), np.uint8)) == 2) & (label == 0)] = 1  # a line of class 1 around each 2
    assert share_between(border, np.bincount(border.ravel(), minlength=256)) == 0
    border[:, 390:] = 1  # now class 1 has an area, too, and the lines are suspicious
    assert share_between(border, np.bincount(border.ravel(), minlength=256)) > 0.9


def test_two_values_cannot_be_blurred():
    label = np.zeros((64, 64), np.uint8)
    label[::2] = 9
    assert share_between(label, np.bincount(label.ravel(), minlength=256)) == 0


def test_many_small_classes_are_not_blurred():
    label = np.zeros((100, 100), np.uint8)
    for value in range(1, 21):
        label[5 * value - 5 : 5 * value, :6] = value
    counts = np.bincount(label.ravel(), minlength=256)
    assert not is_blurred(label, counts, LabelRule())
    lines = label.copy()
    lines[:, 1:6] = 0  # what is left of them is one pixel wide
    counts = np.bincount(lines.ravel(), minlength=256)
    assert is_blurred(lines, counts, LabelRule())
    assert not is_blurred(lines, counts, LabelRule(num_classes=21))


class Broken:
    """A mask that cannot be drawn."""

    where = "shapes.json"
    size = None

    def draw(self, painter, height, width):
        raise UserError("unclassified", "'hat' is no class", "name it", where=self.where)


class Filled(Broken):
    def draw(self, painter, height, width):
        label = np.zeros((height, width), np.uint8)
        label[: height // 2] = painter.value("disc", self.where)
        return label


@pytest.mark.parametrize(("mask", "rules"), [(Broken(), ["mask-unusable"]), (Filled(), [])])
def test_masks_that_are_drawn(discs, mask, rules):
    source = discs.source()
    source.splits["train"][2] = Pair("a2", str(discs.image("a2")), mask)
    report = analysis.check(subject.of_source(source, discs.subject().classes, "discs"))
    assert [item.rule for item in report.findings] == rules
    assert sum(report.splits["train"].pixels) == 64 * 80 * (8 - len(rules))
