"""Pixels in annotation files: run lengths of COCO and Label Studio, PNG in base64, and damaged ones."""

import base64
import io
import random

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from support.errors import raises

from deeplab.data.readers.bitmaps import Bitmap, base64_bytes, brush_pixels, checked_runs, coco_runs, png_bitmap
from deeplab.utils.errors import UserError

# --- Bitmaps ------------------------------------------------------------------------------------------------


def random_masks():
    generator = np.random.default_rng(0)
    for _ in range(30):
        height, width = generator.integers(1, 40, 2)
        yield (generator.random((height, width)) < generator.random()).astype(np.uint8)
    yield np.kron(np.eye(3, dtype=np.uint8), np.ones((70, 90), np.uint8))  # long runs
    yield np.ones((3, 4), np.uint8)
    yield np.zeros((3, 4), np.uint8)


def whole(bitmap):
    """A bitmap with the empty borders that decoding leaves out."""
    label = np.zeros((bitmap.height, bitmap.width), bool)
    pixels, left, top = bitmap.pixels()
    left, top = left - bitmap.left, top - bitmap.top
    label[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return label


def test_bitmaps_hold_the_pixels_that_they_are_made_of():
    for pixels in random_masks():
        bitmap = Bitmap.of(pixels, 7, -3)
        assert bitmap.area == pixels.sum() and (bitmap.left, bitmap.top) == (7, -3)
        assert np.array_equal(whole(bitmap), pixels)
        assert bitmap.runs.sum() == pixels.size


def test_runs_may_go_column_after_column():
    for pixels in random_masks():
        runs = Bitmap.of(pixels.T).runs
        assert np.array_equal(whole(Bitmap(runs, *pixels.shape, by_columns=True)), pixels)


def test_scaled_bitmaps_take_the_nearest_pixel():
    pixels = np.array([[1, 0, 1], [1, 1, 0]], bool)
    double = Bitmap.of(pixels, 1, 2).scaled(2, 2)
    assert (double.left, double.top) == (2, 4)
    assert np.array_equal(whole(double), np.kron(pixels, np.ones((2, 2), bool)))
    half = double.scaled(0.5, 0.5)
    assert (half.left, half.top) == (1, 2) and np.array_equal(whole(half), pixels)
    assert Bitmap.of(pixels).scaled(0.1, 0.1).area == 0


# --- COCO ---------------------------------------------------------------------------------------------------


def test_compressed_run_lengths_mean_what_pycocotools_means_by_them():
    for pixels in random_masks():
        counts = coco_mask.encode(np.asfortranarray(pixels))["counts"].decode()
        runs = checked_runs(coco_runs(counts, "here"), pixels.size, "here")
        assert np.array_equal(whole(Bitmap(runs, *pixels.shape, by_columns=True)), pixels)


def test_damaged_compressed_run_lengths_are_refused():
    generator = random.Random(0)
    for _ in range(500):
        text = "".join(chr(generator.randrange(40, 130)) for _ in range(generator.randrange(40)))
        with pytest.raises(UserError) as caught:
            checked_runs(coco_runs(text, "here"), 10**7, "here")
        assert caught.value.code in ("invalid-rle", "out-of-range") and caught.value.where == "here"
    with raises("invalid-rle", where="here"):
        coco_runs("\ud800", "here")


@pytest.mark.parametrize(
    ("runs", "code"),
    [
        ([1, 2, 3.5], "wrong-type"),
        ([1, "2"], "wrong-type"),
        ([[1, 2]], "wrong-type"),
        ([10**400], "wrong-type"),
        ([-1, 5], "out-of-range"),
        ([2**31], "out-of-range"),
        ([1, 2], "invalid-rle"),
        ([], "invalid-rle"),
    ],
)
def test_run_lengths_that_do_not_add_up(runs, code):
    with raises(code, where="here"):
        checked_runs(runs, 4, "here")


# --- Label Studio -------------------------------------------------------------------------------------------


def packed(bits):
    bits = bits.replace(" ", "")
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def brush_code(alpha, word=8, widths=(3, 4, 8, 16)):
    """RGBA bytes of a mask, packed as Label Studio packs them: repeated words as runs, single ones as they are."""
    values = np.repeat(np.asarray(alpha).ravel(), 4).tolist()
    bits = [f"{len(values):032b}", f"{word - 1:05b}", *(f"{width - 1:04b}" for width in widths)]
    place = 0
    while place < len(values):
        same = next((n for n in range(place, len(values)) if values[n] != values[place]), len(values)) - place
        length = same if same > 1 else 1
        index = next(i for i, width in enumerate(widths) if length - 1 < 2**width)
        bits.append(f"{int(same > 1)}{index:02b}{length - 1:0{widths[index]}b}{values[place]:0{word}b}")
        place += length
    return packed("".join(bits))


def test_brush_masks_are_decoded_bit_by_bit():
    """Two pixels, RGBA 9 9 9 0 and 9 9 9 7: three repeated, 0 and 9 9 9 as they are in one run, then 7."""
    head = f"{8:032b} 00011 0001 0011 0101 0111"  # 8 values, words of 4 bits, run lengths of 2, 4, 6 or 8 bits
    runs = "1 00 10 1001   0 01 0011 0000 1001 1001 1001   1 11 00000000 0111"
    assert brush_pixels(bytes(packed(head + runs)), 1, 2, "here").tolist() == [[False, True]]


@pytest.mark.parametrize("widths", [(3, 4, 8, 16), (1, 2, 9, 3)])
def test_brush_masks_of_any_alpha_above_0_count(widths):
    alpha = np.zeros((20, 30), np.uint8)
    alpha[3:17, 5:9], alpha[4, 6], alpha[::3, 20:] = 255, 1, 90
    alpha[5, 7] = 0
    code = bytes(brush_code(alpha, widths=widths))
    assert np.array_equal(brush_pixels(code, 20, 30, "here"), alpha > 0)


def test_damaged_brush_masks_are_refused():
    whole = brush_code(np.eye(6, dtype=np.uint8) * 255)
    for length in range(len(whole)):
        with raises("invalid-rle", where="here"):
            brush_pixels(bytes(whole[:length]), 6, 6, "here")
    with raises("size-mismatch", where="here") as caught:
        brush_pixels(bytes(whole), 5, 6, "here")
    assert "has 144 values, but an RGBA image of 6x5 pixels has 120" in caught.value.rule
    with raises("invalid-rle", where="here"):
        brush_pixels(bytes(packed(f"{4:032b} 00111 0010 0010 0010 0010 1 00 111 11111111")), 1, 1, "here")


# --- PNG ----------------------------------------------------------------------------------------------------


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


BITMAP = np.array([[0, 1, 1], [1, 0, 0]], bool)


def test_kinds_of_png():
    palette = Image.fromarray(BITMAP.astype(np.uint8))
    palette.putpalette([0, 0, 0, 255, 255, 255])
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=0)
    opaque = np.full([2, 3, 4], 90, np.uint8)
    opaque[..., 3] = BITMAP * 255
    for data in (
        png(BITMAP),
        png(BITMAP.astype(np.uint8)),
        png(BITMAP.astype(np.uint8) * 255),
        png(np.stack([BITMAP.astype(np.uint8) * 9] * 3, axis=-1)),
        png(opaque),
        buffer.getvalue(),
    ):
        found = png_bitmap(data, "a.json", (2, 3))
        assert found.dtype == bool
        np.testing.assert_array_equal(found, BITMAP)


def test_png_that_is_refused():
    with raises("size-mismatch", where="a.json") as caught:
        png_bitmap(png(BITMAP), "a.json", (1, 3))
    assert caught.value.value == (2, 3)
    np.testing.assert_array_equal(png_bitmap(png(BITMAP), "a.json"), BITMAP)  # no size to compare with
    for data in (b"", b"GIF89a", png(BITMAP)[:50], png(np.zeros([50, 50], np.uint8))[:60]):
        with raises("unreadable-image", where="a.json"):
            png_bitmap(data, "a.json", (50, 50))


def test_base64():
    text = base64.b64encode(b"pixels").decode()
    assert base64_bytes(text, "'mask'", "") == base64_bytes(f"data:image/png;base64,{text}", "'mask'", "") == b"pixels"
    for broken in (text[:-3], "é", "?" + text):
        with raises("invalid-base64", where="a.json"):
            base64_bytes(broken, "'mask'", "a.json")
