"""Images that are bad: each is found, by file, rule and hint, and nothing else is."""

import re

import numpy as np
import pytest
from PIL import Image
from support.broken_datasets import pages, rotated_photo, with_junk
from support.disc_files import draw, encoded, only


def write(path, data):
    path.write_bytes(data)


BAD_IMAGES = {
    "empty": ("image-unreadable", lambda image, data, encoded: b"", "is empty"),
    "cut at a tenth": ("image-unreadable", lambda image, data, encoded: data[: len(data) // 10], "read as an image"),
    "cut at half": ("image-unreadable", lambda image, data, encoded: data[: len(data) // 2], "truncated"),
    "cut at 99 %": ("image-unreadable", lambda image, data, encoded: data[: len(data) * 99 // 100], "truncated"),
    "second half zeros": (
        "image-unreadable",
        lambda image, data, encoded: data[: len(data) // 2] + bytes(len(data) // 2),
        "truncated",
    ),
    "PNG cut off": ("image-unreadable", lambda image, data, encoded: encoded(image)[:4000], "truncated or damaged"),
    "PNG with a wrong byte": (
        "image-unreadable",
        lambda image, data, encoded: encoded(image)[:4000] + b"\0\1" + encoded(image)[4002:],
        "truncated or damaged",
    ),
    "no image": ("image-unknown-format", lambda image, data, encoded: b"<html>404</html>", "a web page"),
    "a pointer": (
        "image-unknown-format",
        lambda image, data, encoded: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
        "Git LFS",
    ),
    "floating point": (
        "image-unreadable",
        lambda image, data, encoded: encoded(Image.fromarray(image[..., 0].astype(np.float32)), "tiff"),
        "floating-point",
    ),
    "one tone": (
        "image-flat",
        lambda image, data, encoded: encoded(np.full_like(image, 90), "jpeg"),
        "90 of 255 bright everywhere",
    ),
    "a part": (
        "size-differs",
        lambda image, data, encoded: encoded(image[:40, :60], "jpeg"),
        "its image a3.jpg 40x60",
    ),
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


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_a_bad_image(discs, kind):
    rule, change, text = BAD_IMAGES[kind]
    path = discs.image("a3")
    write(path, change(draw(3)[0], path.read_bytes(), encoded))
    (found,) = only(discs.check(), rule)
    of_mask = rule in ("size-differs", "mask-transposed")
    assert found.where == str(discs.mask("a3") if of_mask else path)
    assert found.split == "train"
    assert found.hint
    assert re.search(text, found.text)


def test_a_dark_image_of_16_bits_is_reported_once(discs):
    write(discs.image("a3"), encoded(Image.fromarray(draw(3)[0][..., 0].astype(np.uint16) * 8)))
    assert discs.check().numbers == {"image-dark": 1, "image-gray": 1}


def test_a_rotated_photo_is_a_note(discs):
    write(discs.image("a2"), rotated_photo(draw(2)[0]))
    report = discs.check()
    (found,) = report.findings
    assert (found.rule, found.severity) == ("image-rotated", "note")
    assert "upright" in found.text


def test_a_rotated_photo_whose_rotation_is_ignored(discs):
    write(discs.image("a2"), rotated_photo(draw(2)[0]))
    report = discs.check(class_names="ground,disc,bar", exif="ignore")
    (found,) = [item for item in report.findings if item.severity == "error"]
    assert found.rule == "mask-transposed"
    assert "`exif=auto`" in found.hint
    assert found.repair == report.repair == {"exif": "auto"}


def test_gray_images_are_a_note(discs):
    write(discs.image("a2"), encoded(draw(2)[0][..., 0], "jpeg"))
    report = discs.check()
    assert [(item.rule, item.severity) for item in report.findings] == [("image-gray", "note")]
    assert report.splits["train"].kinds == {"jpeg, RGB": 7, "jpeg, gray": 1}


def test_what_is_converted_is_a_note(discs):
    image = draw(2)[0]
    discs.image("a2").write_bytes(encoded(image, "tiff"))
    discs.image("a3").write_bytes(pages(image))
    report = discs.check()
    assert {item.severity for item in report.findings} == {"note"}
    assert report.numbers["image-converted"] == 2
    assert report.numbers["image-pages"] == 1
    assert report.splits["train"].kinds == {"jpeg, RGB": 6, "tiff, RGB": 2}


def test_a_damaged_image_that_can_be_read(discs):
    discs.image("a2").write_bytes(with_junk(draw(2)[0]))
    (found,) = only(discs.check(), "image-damaged")
    assert found.where == str(discs.image("a2"))


def test_a_tiny_image(discs):
    image, label = draw(50, 40, 30)
    write(discs.image("a2"), encoded(image, "jpeg"))
    write(discs.mask("a2"), encoded(label))
    (found,) = only(discs.check(), "image-tiny")
    assert "40x30" in found.text
