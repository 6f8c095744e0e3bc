"""Tags of TIFF files; how images with them are read is tested with `images`."""

import io

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.data.tiff_tags import BITS, CHANNELS, numbers, read_tags, require_all_rows, require_plain

WIDTH, HEIGHT, TILE_WIDTH, PLANAR, COMPRESSION, SAMPLE_FORMAT = 256, 257, 322, 284, 259, 339


def tiff(image: Image.Image, **options) -> bytes:
    image.save(buffer := io.BytesIO(), "TIFF", **options)
    return buffer.getvalue()


def test_tags_of_a_file():
    found = read_tags(tiff(Image.new("RGB", (5, 4))))
    assert (found[WIDTH], found[HEIGHT]) == (5, 4) and numbers(found, BITS, 1) == (8, 8, 8)
    assert numbers(found, CHANNELS, 1) == (3,)
    assert read_tags(tiff(Image.new("RGB", (5, 4)), big_tiff=True))[WIDTH] == 5


@pytest.mark.parametrize("data", [b"", b"II*\0", b"II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\0\x08\0\x01"])
def test_files_without_readable_tags_have_none(data):
    assert read_tags(data) == {}


@pytest.mark.parametrize(("value", "expected"), [(8, (8,)), ((8, 16), (8, 16)), ((), (7,)), ("x", (7,)), (0.5, (7,))])
def test_what_is_no_whole_number_is_left_out(value, expected):
    assert numbers({BITS: value}, BITS, 7) == expected
    assert numbers({}, BITS, 7) == (7,)


@pytest.mark.parametrize(
    ("tags", "value"),
    [
        ({CHANNELS: 5}, 5),
        ({BITS: 32}, 32),
        ({BITS: 16, SAMPLE_FORMAT: 2}, 16),
        ({BITS: (16, 16, 16), SAMPLE_FORMAT: (3, 3, 3), CHANNELS: 3}, 16),
        ({BITS: (16, 16, 16), CHANNELS: 3, PLANAR: 2, COMPRESSION: 1}, 3),
    ],
)
def test_values_without_a_plain_meaning_are_refused(tags, value):
    with raises("unsupported-pixels", where="a.tif") as caught:
        require_plain(tags, "a.tif")
    assert caught.value.value == value


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {CHANNELS: 4, BITS: (8, 8, 8, 8)},
        {BITS: 16},
        {BITS: (16, 16, 16), CHANNELS: 3, PLANAR: 2, COMPRESSION: 5},
    ],
)
def test_plain_values_pass(tags):
    require_plain(tags, "a.tif")


@pytest.mark.parametrize("compression", [None, "packbits", "tiff_lzw", "tiff_adobe_deflate"])
def test_sizes_that_the_bytes_cannot_fill_are_refused(compression):
    data = tiff(Image.fromarray(np.zeros((100, 100), np.uint8)), compression=compression)
    require_all_rows(read_tags(data), "a.tif", len(data))
    with raises("unreadable-image", where="a.tif"):
        require_all_rows({**read_tags(data), HEIGHT: 10**7}, "a.tif", len(data))
    with raises("unreadable-image"):
        require_all_rows({**read_tags(data), TILE_WIDTH: 10**9}, "a.tif", len(data))
