"""Faults of images: each is found, by file, rule and hint, and nothing else is."""

import re

import numpy as np
import pytest
from PIL import Image


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
    "cut at a tenth": ("image-unreadable", lambda image, data, encoded: data[: len(data) // 10], "read as a picture"),
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
    "no picture": ("image-unknown-format", lambda image, data, encoded: b"<html>404</html>", "a web page"),
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
        "90 of 255 bright",
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


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_a_faulty_image(discs, drawn, only, fault):
    rule, change, text = IMAGE_FAULTS[fault]
    draw, encoded = drawn
    path = discs.image("a3")
    write(path, change(draw(3)[0], path.read_bytes(), encoded))
    (found,) = only(discs.check(), rule)
    of_mask = rule in ("size-differs", "mask-transposed")
    assert found.where == str(discs.mask("a3") if of_mask else path)
    assert found.split == "train"
    assert found.hint
    assert re.search(text, found.text)


@pytest.mark.parametrize("as_it_is", [True, False])
def test_an_image_that_is_its_own_mask(discs, drawn, only, as_it_is):
    label = discs.label("a3")
    data = discs.mask("a3").read_bytes() if as_it_is else drawn[1](np.array([0, 250, 90], np.uint8)[label])
    write(discs.image("a3"), data)
    (found,) = only(discs.check(), "image-is-mask")
    assert found.where == str(discs.image("a3"))
    assert found.text == f"holds the same pixels as {discs.mask('a3')}"


def test_a_dark_picture_of_16_bits_is_told_once(discs, drawn):
    write(discs.image("a3"), drawn[1](Image.fromarray(drawn[0](3)[0][..., 0].astype(np.uint16) * 8)))
    assert discs.check().numbers == {"image-dark": 1, "image-gray": 1}


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
    assert "--exif=auto" in found.hint


def test_gray_images_are_a_note(discs, drawn):
    write(discs.image("a2"), drawn[1](drawn[0](2)[0][..., 0], "jpeg"))
    report = discs.check()
    assert [(item.rule, item.severity) for item in report.findings] == [("image-gray", "note")]
    assert report.splits["train"].kinds == {"jpeg, RGB": 7, "jpeg, gray": 1}


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
