"""Images on their way into records: kinds, sizes, and every way of being cut off or damaged."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab.data.build.images import ImageFacts, check_jpeg_structure, inspect_image
from deeplab.errors import UserError


def noise(height=48, width=64, channels=3):
    return np.random.default_rng(0).integers(0, 256, [height, width, channels], np.uint8)


def encoded(kind, pixels=None, **settings):
    buffer = io.BytesIO()
    Image.fromarray(noise() if pixels is None else pixels).save(buffer, kind, **settings)
    return buffer.getvalue()


JPEG, PNG = encoded("JPEG"), encoded("PNG")


@pytest.mark.parametrize(("data", "kind"), [(JPEG, "jpeg"), (PNG, "png"), (encoded("JPEG", progressive=True), "jpeg")])
def test_whole_images(data, kind):
    for decode in (False, True):
        facts = inspect_image(data, "a.jpg", decode)
        assert facts == ImageFacts(kind, height=48, width=64, rotated=False, alpha=False, damaged=False)


def test_restart_markers_are_no_end():
    data = encoded("JPEG", restart_marker_blocks=1)
    assert b"\xff\xd0" in data
    check_jpeg_structure(data)


def test_bytes_after_the_end_are_let_pass():
    check_jpeg_structure(JPEG + b"second picture of a phone")


@pytest.mark.parametrize("data", [JPEG, PNG, encoded("JPEG", progressive=True)])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_truncated_files_are_found_as_tensorflow_would(data, share):
    cut = data[: int(len(data) * share)]
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.io.decode_image(cut)
    with pytest.raises(UserError, match=r"a.jpg: cannot be read as a picture"):
        inspect_image(cut, "a.jpg")


def test_file_filled_up_with_zeros_is_found():
    """What a copy that broke off leaves when the space was reserved before; Pillow alone reads it without a word."""
    half = len(JPEG) // 2
    with pytest.raises(UserError, match="truncated"):
        inspect_image(JPEG[:half] + bytes(len(JPEG) - half), "a.jpg")


def test_foreign_bytes_within_the_picture_are_found():
    half = len(JPEG) // 2
    with pytest.raises(UserError, match=r"truncated|damaged"):
        inspect_image(JPEG[:half] + b"\xff\xc5 other file" + JPEG[half + 13 :], "a.jpg")


def test_odd_file_that_tensorflow_reads_is_only_noted():
    start = JPEG.index(b"\xff\xdb")
    odd = JPEG[:start] + b"\0\0" + JPEG[start:]  # junk between segments, which libjpeg skips
    assert inspect_image(odd, "a.jpg").damaged


@pytest.mark.parametrize(
    ("data", "rule"), [(b"", "is empty"), (b"BM....", "neither JPEG nor PNG"), (b"\xff\xd8\xff", "not known")]
)
def test_other_files(data, rule):
    with pytest.raises(UserError, match=rule):
        inspect_image(data, "a.jpg")


def test_rotation_and_alpha_are_noted():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = inspect_image(encoded("JPEG", exif=exif), "a.jpg")
    assert (turned.rotated, turned.height, turned.width) == (True, 48, 64)
    assert inspect_image(encoded("PNG", noise(channels=4)), "a.png").alpha
