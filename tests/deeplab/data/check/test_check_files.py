"""Faults of single files: each is found, by file, rule and remedy, and nothing else is."""

import dataclasses
import io
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from deeplab.data import dataset as datasets
from deeplab.data.build.source import Pair
from deeplab.data.check import analysis, subject
from deeplab.data.check.label_look import is_blurred
from deeplab.data.masks import LabelRule
from deeplab.errors import UserError


def write(path, data):
    path.write_bytes(data)


def turned_photo(image, encoded):
    """A picture whose pixels lie on their side, and whose EXIF data say so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(np.rot90(image), "jpeg", exif=exif)


def test_a_clean_set_raises_nothing(discs):
    report = discs.check()
    assert report.findings == []
    assert report.may_train
    assert {split: facts.images for split, facts in report.splits.items()} == {"train": 8, "val": 4}


def test_facts_of_a_clean_set(discs):
    report = discs.check()
    for split, names in discs.names.items():
        labels = np.stack([discs.label(name) for name in names])
        facts = report.splits[split]
        assert facts.pixels == tuple(np.bincount(labels.ravel(), minlength=3).tolist())
        assert facts.images_with == (len(names),) * 3
        assert facts.sizes == {(64, 80): len(names)}
        assert facts.kinds == {"jpeg, RGB": len(names)}


IMAGE_FAULTS = {
    "empty": ("image-unreadable", lambda image, data, encoded: b"", "is empty"),
    "cut off": ("image-unreadable", lambda image, data, encoded: data[: len(data) // 2], "truncated"),
    "no picture": ("image-unknown-format", lambda image, data, encoded: b"<html>404</html>", "a web page"),
    "archive": ("image-unknown-format", lambda image, data, encoded: b"PK\x03\x04" + data, "an archive"),
    "another size": ("size-differs", lambda image, data, encoded: encoded(image[:60], "jpeg"), "mask is 64x80.*60x80"),
    "on its side": ("mask-transposed", lambda image, data, encoded: encoded(np.rot90(image), "jpeg"), "80x64"),
    "alpha": ("image-alpha", lambda image, data, encoded: encoded(np.dstack([image, image[..., 0]])), "alpha channel"),
    "CMYK": (
        "image-cmyk",
        lambda image, data, encoded: encoded(Image.fromarray(image).convert("CMYK"), "jpeg"),
        "CMYK",
    ),
    "16 bits": (
        "image-16-bit",
        lambda image, data, encoded: encoded(Image.fromarray(image[..., 0].astype(np.uint16) * 257)),
        "upper 8 of 16",
    ),
    "nearly black": (
        "image-dark",
        lambda image, data, encoded: encoded(Image.fromarray(image[..., 0].astype(np.uint16) * 8)),
        "nearly black",
    ),
}


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_a_faulty_image(discs, drawn, only, fault):
    rule, change, text = IMAGE_FAULTS[fault]
    draw, encoded = drawn
    path = discs.image("a3")
    write(path, change(draw(3)[0], path.read_bytes(), encoded))
    report = discs.check()
    if rule == "image-dark":  # which is also a picture of 16 bits
        report = dataclasses.replace(report, findings=[f for f in report.findings if f.rule != "image-16-bit"])
    (found,) = only(report, rule)
    assert found.where == str(discs.mask("a3") if "mask" in text or rule == "mask-transposed" else path)
    assert found.split == "train"
    assert found.remedy
    assert re.search(text, found.text)


MASK_FAULTS = {
    "empty": ("mask-unreadable", lambda label, data, encoded: b"", "is empty"),
    "cut off": ("mask-unreadable", lambda label, data, encoded: data[: len(data) - 20], "truncated"),
    "no picture": ("mask-unreadable", lambda label, data, encoded: b"0 0 1 1", "format is not known"),
    "in colours": (
        "mask-is-colour",
        lambda label, data, encoded: encoded(np.array([[0, 0, 0], [200, 0, 0], [0, 90, 7]], np.uint8)[label]),
        "RGB with 3 colours",
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
    assert found.remedy


def test_missing_files_are_findings_and_the_check_goes_on(discs, only):
    discs.image("a0").unlink()
    discs.mask("a1").unlink()
    report = discs.check()
    rules = {finding.where: finding.rule for finding in report.findings}
    assert rules == {str(discs.image("a0")): "image-unreadable", str(discs.mask("a1")): "mask-unreadable"}
    assert report.splits["train"].images == 8
    assert sum(report.splits["train"].sizes.values()) == 7


def test_a_turned_photo_is_a_note(discs, drawn):
    write(discs.image("a2"), turned_photo(drawn[0](2)[0], drawn[1]))
    report = discs.check()
    (found,) = report.findings
    assert (found.rule, found.severity) == ("image-turned", "note")
    assert "upright" in found.text


def test_a_turned_photo_with_an_untold_mask(discs, drawn, only):
    write(discs.image("a2"), turned_photo(drawn[0](2)[0], drawn[1]))
    found = [
        item for item in discs.check(class_names="ground,disc,bar", exif="ignore").findings if item.severity == "error"
    ]
    (found,) = found
    assert found.rule == "mask-transposed"
    assert "--exif=auto" in found.remedy


def test_grey_images_are_a_note(discs, drawn):
    write(discs.image("a2"), drawn[1](drawn[0](2)[0][..., 0], "jpeg"))
    report = discs.check()
    assert [(item.rule, item.severity) for item in report.findings] == [("image-grey", "note")]
    assert report.splits["train"].kinds == {"jpeg, RGB": 7, "jpeg, grey": 1}


def test_what_is_converted_is_a_note(discs, drawn):
    image = drawn[0](2)[0]
    discs.image("a2").write_bytes(drawn[1](image, "tiff"))
    pages = [Image.fromarray(image), Image.fromarray(image[::-1])]
    discs.image("a3").write_bytes(drawn[1](pages[0], "tiff", save_all=True, append_images=pages[1:]))
    report = discs.check()
    assert {item.severity for item in report.findings} == {"note"}
    assert report.numbers["image-converted"] == 2
    assert report.numbers["image-pages"] == 1
    assert report.splits["train"].kinds == {"jpeg, RGB": 6, "tiff, RGB": 2}


def test_a_damaged_image_that_can_be_read(discs, drawn, only):
    data = drawn[1](drawn[0](2)[0], "jpeg", quality=92)
    start = data.index(b"\xff\xdb")
    discs.image("a2").write_bytes(data[:start] + b"\0\0" + data[start:])  # junk between segments, which libjpeg skips
    (found,) = only(discs.check(), "image-damaged")
    assert found.where == str(discs.image("a2"))


def test_a_tiny_image(discs, drawn, only):
    image, label = drawn[0](50, 40, 30)
    write(discs.image("a2"), drawn[1](image, "jpeg"))
    write(discs.mask("a2"), drawn[1](label))
    (found,) = only(discs.check(), "image-tiny")
    assert "40x30" in found.text


def test_unknown_colours_of_a_palette(discs, drawn, only, tmp_path):
    palette = np.array([[0, 0, 0], [200, 0, 0], [0, 90, 7]], np.uint8)
    (tmp_path / "palette").write_text("0 0 0 ground\n200 0 0 disc\n0 90 7 bar\n")
    for name in discs.all_names:
        write(discs.mask(name), drawn[1](palette[discs.label(name)]))
    assert discs.check(palette=str(tmp_path / "palette")).findings == []
    palette[2] = 0, 90, 9
    write(discs.mask("a5"), drawn[1](palette[drawn[0](5)[1]]))
    (found,) = only(discs.check(palette=str(tmp_path / "palette")), "mask-colour-unknown")
    assert "(0, 90, 9)" in found.text
    assert "--colour_tolerance=2" in found.remedy


def test_snapped_colours_are_a_note(discs, drawn, tmp_path):
    palette = np.array([[0, 0, 0], [200, 0, 0], [0, 90, 9]], np.uint8)
    (tmp_path / "palette").write_text("0 0 0 ground\n200 0 0 disc\n0 90 7 bar\n")
    for name in discs.all_names:
        write(discs.mask(name), drawn[1](palette[discs.label(name)]))
    report = discs.check(palette=str(tmp_path / "palette"), colour_tolerance=3.0)
    assert report.numbers == {"mask-colours-snapped": 12}
    assert "192 pixels (3.8 %)" in report.findings[0].text


def test_a_palette_png_that_says_two_things(discs, drawn, only, tmp_path):
    (tmp_path / "palette").write_text("0 0 0 ground\n200 0 0 disc\n0 90 7 bar\n")
    picture = Image.fromarray(drawn[0](5)[1])
    picture.putpalette([0, 0, 0, 0, 90, 7, 200, 0, 0])  # disc and bar in each other's colours
    write(discs.mask("a5"), drawn[1](picture))
    (found,) = only(discs.check(palette=str(tmp_path / "palette")), "mask-palette-disagrees")
    assert "which the palette file calls" in found.text


def test_known_colours_are_recognised(discs, drawn):
    known = datasets.load_known("camvid")
    palette = np.array(known.colours, np.uint8)
    for name in discs.all_names:
        write(discs.mask(name), drawn[1](palette[discs.label(name)]))
    report = discs.check(num_classes=known.num_classes)
    found = [item for item in report.findings if item.rule == "mask-is-colour"]
    assert found[0].remedy.startswith("--dataset=camvid")
    assert "camvid" in found[0].fix


@pytest.mark.parametrize("damage", ["smooth", "jpeg"])
def test_blurred_values(discs, drawn, damage):
    grey = np.array([0, 120, 240], np.uint8)[drawn[0](4)[1]]
    if damage == "smooth":
        grey = cv2.GaussianBlur(grey, (5, 5), 0)
    else:
        grey = np.asarray(Image.open(io.BytesIO(drawn[1](grey, "jpeg", quality=75))))
    write(discs.mask("a4"), drawn[1](grey))
    found = [item for item in discs.check().findings if item.rule == "mask-blurred"]
    assert [item.where for item in found] == [str(discs.mask("a4"))]


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
        raise UserError(self.where, "'hat' is no class", "name it")


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
