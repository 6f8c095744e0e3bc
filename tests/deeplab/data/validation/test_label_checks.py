"""Masks that are bad: each is found, by file, rule and hint, and nothing else is."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from support.broken_datasets import PALETTE, UnusableMask, with_palette
from support.disc_files import change_description, draw, encoded, only

from deeplab.data import dataset as datasets
from deeplab.data.labels import LabelSpec
from deeplab.data.readers.source import Pair
from deeplab.data.validation import analysis, subject
from deeplab.data.validation.label_checks import fraction_between, is_blurred


def write(path, data):
    path.write_bytes(data)


BAD_MASKS = {
    "empty": ("mask-unreadable", lambda label, data, encoded: b"", "is empty"),
    "cut off": ("mask-unreadable", lambda label, data, encoded: data[: len(data) - 20], "truncated"),
    "without its end": ("mask-unreadable", lambda label, data, encoded: data[:-12], "truncated"),
    "a wrong byte": (
        "mask-unreadable",
        lambda label, data, encoded: data[:60] + bytes([data[60] ^ 1]) + data[61:],
        "cannot be read as an image",
    ),
    "no image": ("mask-unreadable", lambda label, data, encoded: b"0 0 1 1", "format is not known"),
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
        lambda label, data, encoded: encoded(Image.fromarray(label.astype(np.float32) / 2), "tiff"),
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


@pytest.mark.parametrize("kind", BAD_MASKS)
def test_a_bad_mask(discs, kind):
    rule, change, text = BAD_MASKS[kind]
    path = discs.mask("b1")
    write(path, change(draw(9)[1], path.read_bytes(), encoded))
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
def test_masks_of_other_kinds_are_sound(discs, kind):
    write(discs.mask("b1"), SOUND[kind](draw(9)[1], encoded))
    assert discs.check().findings == []


def test_few_strange_pixels_are_not_taken_for_classes(discs):
    label = draw(9)[1].copy()
    label[0, :3] = 77, 78, 78
    write(discs.mask("b1"), encoded(label))
    (found,) = discs.check().findings
    assert found.hint == "export the mask again, or ignore 3 pixels in all masks with `label_map=77:255,78:255`"
    assert found.repair == {"label_map": "77:255,78:255"}
    label[0, :7] = range(70, 77)
    write(discs.mask("b1"), encoded(label))
    (found,) = discs.check().findings
    assert found.hint == "export the mask again, or ignore 7 pixels in all masks with `on_bad_label=ignore`"
    assert found.repair == {"on_bad_label": "ignore"}


def test_strange_values_in_one_mask_of_many_are_damage(discs):
    for number in range(20):  # of 32 masks, one is strange
        name = f"more{number}"
        image, label = draw(100 + number)
        write(discs.image(name), encoded(image, "jpeg"))
        write(discs.mask(name), encoded(label))
        discs.names["train"].append(name)
    write(discs.mask("b1"), encoded(np.where(discs.label("b1") == 2, 77, discs.label("b1")).astype(np.uint8)))
    (found,) = discs.check().findings
    assert found.hint.startswith("export the mask again, as 31 others have no such values; or `num_classes=78`")
    assert found.repair == {}


def test_many_strange_pixels_may_be_a_class(discs):
    write(discs.mask("b1"), encoded(np.where(draw(9)[1] == 2, 3, draw(9)[1]).astype(np.uint8)))
    (found,) = [item for item in discs.check().findings if item.severity == "error"]
    assert found.hint.startswith("`num_classes=4` if 3 is a class")
    assert found.repair == {}


def test_a_mask_of_one_class_is_a_note(discs):
    write(discs.mask("b1"), encoded(np.zeros((64, 80), np.uint8)))
    (found,) = discs.check().findings
    assert (found.rule, found.severity, found.where) == ("label-one-class", "note", str(discs.mask("b1")))
    assert found.text == "is 0 (ground) everywhere"


def test_many_masks_of_one_class_are_as_it_should_be(discs):
    for name in ("a0", "a1", "b0"):
        write(discs.mask(name), encoded(np.zeros((64, 80), np.uint8)))
    assert "label-one-class" not in discs.check().numbers


def test_palettes_that_differ(discs):
    """As when each mask was reduced to its own colors: the most frequent color is index 0."""
    black, red, green = (0, 0, 0), (200, 0, 0), (0, 90, 7)
    for name in discs.all_names:
        write(discs.mask(name), with_palette(discs.label(name), [black, red, green]))
    assert discs.check().findings == []
    swapped = np.array([0, 2, 1], np.uint8)[draw(5)[1]]
    write(discs.mask("a5"), with_palette(swapped, [black, green, red]))
    (found,) = only(discs.check(), "mask-palettes-differ")
    assert (found.where, found.split, found.severity) == (str(discs.mask("a5")), "train", "error")
    assert found.text == f"(0, 90, 7) is its index 1, but 2 in {discs.mask('a0')}"


def test_palettes_without_a_common_color_contradict_nothing(discs):
    for shade, name in enumerate(discs.all_names):
        colors = [(shade, 0, 0), (shade, 99, 0), (shade, 0, 99)]
        write(discs.mask(name), with_palette(discs.label(name), colors))
    assert discs.check().findings == []


def test_unknown_colors_of_a_palette(discs, tmp_path):
    palette = np.array([[0, 0, 0], [200, 0, 0], [0, 90, 7]], np.uint8)
    (tmp_path / "palette").write_text(PALETTE)
    for name in discs.all_names:
        write(discs.mask(name), encoded(palette[discs.label(name)]))
    assert discs.check(palette=str(tmp_path / "palette")).findings == []
    palette[2] = 0, 90, 9
    write(discs.mask("a5"), encoded(palette[draw(5)[1]]))
    (found,) = only(discs.check(palette=str(tmp_path / "palette")), "mask-color-unknown")
    assert "(0, 90, 9)" in found.text
    assert "`color_tolerance=2`" in found.hint
    assert found.repair == {"color_tolerance": "2"}


def test_a_photo_where_a_palette_is_given(discs, tmp_path):
    (tmp_path / "palette").write_text(PALETTE)
    for name in discs.all_names:
        write(discs.mask(name), discs.image(name).read_bytes())
    found = only(discs.check(palette=str(tmp_path / "palette")), "mask-color-unknown")
    assert found[0].hint.endswith("`image_folder` and `mask_folder` may be swapped")
    assert found[0].repair == {}


def test_snapped_colors_are_a_note(discs, tmp_path):
    palette = np.array([[0, 0, 0], [200, 0, 0], [0, 90, 9]], np.uint8)
    (tmp_path / "palette").write_text(PALETTE)
    for name in discs.all_names:
        write(discs.mask(name), encoded(palette[discs.label(name)]))
    report = discs.check(palette=str(tmp_path / "palette"), color_tolerance=3.0)
    assert report.numbers == {"mask-colors-snapped": 12}
    assert "192 pixels (3.8 %)" in report.findings[0].text


def test_a_palette_png_that_says_two_things(discs, tmp_path):
    (tmp_path / "palette").write_text(PALETTE)
    disc_and_bar_swapped = [(0, 0, 0), (0, 90, 7), (200, 0, 0)]
    write(discs.mask("a5"), with_palette(draw(5)[1], disc_and_bar_swapped))
    (found,) = only(discs.check(palette=str(tmp_path / "palette")), "mask-palette-disagrees")
    assert "which the palette file calls" in found.text


def test_known_colors_are_recognized(discs):
    known = datasets.load_known("camvid")
    palette = np.array(known.colors, np.uint8)
    for name in discs.all_names:
        write(discs.mask(name), encoded(palette[discs.label(name)]))
    report = discs.check(num_classes=known.num_classes)
    found = [item for item in report.findings if item.rule == "mask-is-color"]
    assert found[0].hint.startswith("`dataset=camvid`: all colors are those of camvid")
    assert found[0].repair == report.repair == {"dataset": "camvid"}


@pytest.mark.parametrize("damage", ["smooth", "jpeg"])
def test_blurred_values(discs, damage):
    gray = np.array([0, 120, 240], np.uint8)[draw(4)[1]]
    if damage == "smooth":
        gray = cv2.GaussianBlur(gray, (5, 5), 0)
    else:
        gray = np.asarray(Image.open(io.BytesIO(encoded(gray, "jpeg", quality=75))))
    write(discs.mask("a4"), encoded(gray))
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
    assert fraction_between(label, np.bincount(label.ravel(), minlength=256)) < 0.05
    smooth = SMOOTH[how](label)
    assert fraction_between(smooth, np.bincount(smooth.ravel(), minlength=256)) > 0.3


def test_smooth_edges_are_found(discs):
    for name in discs.all_names:
        label = np.kron(discs.label(name), np.ones((4, 4), np.uint8)) * 2
        if name == "a5":
            label = cv2.GaussianBlur(label, (5, 5), 0)
        write(discs.mask(name), encoded(label))
        write(discs.image(name), encoded(np.kron(draw(discs.all_names.index(name))[0], np.ones((4, 4, 1), np.uint8))))
    report = discs.check(class_names="ground,b,disc,d,bar")
    assert [item.where for item in report.findings if item.rule == "mask-blurred"] == [str(discs.mask("a5"))]


def test_labels_that_were_drawn_from_shapes_are_never_blurred(discs, tmp_path):
    """dataset.yml says of records that no mask file was behind them."""
    for name in discs.all_names:
        label = cv2.GaussianBlur(np.kron(discs.label(name), np.ones((4, 4), np.uint8)) * 2, (5, 5), 0)
        write(discs.mask(name), encoded(label))
        write(discs.image(name), encoded(np.kron(draw(discs.all_names.index(name))[0], np.ones((4, 4, 1), np.uint8))))
    folder = discs.records(tmp_path / "records")
    change_description(folder, class_names=tuple("abcde"), colors=(), pixels={})
    assert "mask-blurred" in analysis.check(subject.of_records(folder)).numbers
    change_description(folder, drawn=dict.fromkeys(discs.names, True))
    assert "mask-blurred" not in analysis.check(subject.of_records(folder)).numbers


def test_borders_drawn_on_purpose_are_not_blurred():
    label = np.zeros((320, 400), np.uint8)
    for top in range(20, 300, 40):
        label[top : top + 20, 20:380] = 2
    border = label.copy()
    border[(cv2.dilate(label, np.ones((3, 3), np.uint8)) == 2) & (label == 0)] = 1  # a line of class 1 around each 2
    assert fraction_between(border, np.bincount(border.ravel(), minlength=256)) == 0
    border[:, 390:] = 1  # now class 1 has an area, too, and the lines are suspicious
    assert fraction_between(border, np.bincount(border.ravel(), minlength=256)) > 0.9


def test_two_values_cannot_be_blurred():
    label = np.zeros((64, 64), np.uint8)
    label[::2] = 9
    assert fraction_between(label, np.bincount(label.ravel(), minlength=256)) == 0


def test_many_small_classes_are_not_blurred():
    label = np.zeros((100, 100), np.uint8)
    for value in range(1, 21):
        label[5 * value - 5 : 5 * value, :6] = value
    counts = np.bincount(label.ravel(), minlength=256)
    assert not is_blurred(label, counts, LabelSpec())
    lines = label.copy()
    lines[:, 1:6] = 0  # what is left of them is one pixel wide
    counts = np.bincount(lines.ravel(), minlength=256)
    assert is_blurred(lines, counts, LabelSpec())
    assert not is_blurred(lines, counts, LabelSpec(num_classes=21))


class Filled(UnusableMask):
    def draw(self, painter, height, width):
        label = np.zeros((height, width), np.uint8)
        label[: height // 2] = painter.value("disc", self.where)
        return label


@pytest.mark.parametrize(("mask", "rules"), [(UnusableMask(), ["mask-unusable"]), (Filled(), [])])
def test_masks_that_are_drawn(discs, mask, rules):
    source = discs.source()
    source.splits["train"][2] = Pair("a2", str(discs.image("a2")), mask)
    report = analysis.check(subject.of_source(source, discs.subject().classes, "discs"))
    assert [item.rule for item in report.findings] == rules
    assert sum(report.splits["train"].pixels) == 64 * 80 * (8 - len(rules))
