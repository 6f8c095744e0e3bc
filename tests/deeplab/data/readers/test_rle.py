"""Run lengths of masks: COCO's as pycocotools writes them, Label Studio's bit by bit, and damaged ones."""

import random

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from deeplab.data.readers import rle
from deeplab.utils.errors import UserError

# --- COCO ---------------------------------------------------------------------------------------------------


def random_masks():
    generator = np.random.default_rng(0)
    for _ in range(30):
        height, width = generator.integers(1, 40, 2)
        yield (generator.random((height, width)) < generator.random()).astype(np.uint8)
    yield np.kron(np.eye(3, dtype=np.uint8), np.ones((70, 90), np.uint8))  # long runs
    yield np.ones((3, 4), np.uint8)
    yield np.zeros((3, 4), np.uint8)


def test_compressed_run_lengths_mean_what_pycocotools_means_by_them():
    for pixels in random_masks():
        counts = coco_mask.encode(np.asfortranarray(pixels))["counts"].decode()
        runs = rle.checked_runs(rle.coco_runs(counts, "here"), pixels.size, "here")
        assert np.array_equal(rle.pixels_of(runs).reshape(pixels.shape[::-1]).T, pixels)


def test_damaged_compressed_run_lengths_are_refused():
    generator = random.Random(0)
    for _ in range(500):
        text = "".join(chr(generator.randrange(40, 130)) for _ in range(generator.randrange(40)))
        with pytest.raises(UserError, match=r"here: .*run length"):
            rle.checked_runs(rle.coco_runs(text, "here"), 10**7, "here")


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
    assert rle.brush_pixels(bytes(packed(head + runs)), 1, 2, "here").tolist() == [[False, True]]


@pytest.mark.parametrize("widths", [(3, 4, 8, 16), (1, 2, 9, 3)])
def test_brush_masks_of_any_alpha_above_0_count(widths):
    alpha = np.zeros((20, 30), np.uint8)
    alpha[3:17, 5:9], alpha[4, 6], alpha[::3, 20:] = 255, 1, 90
    alpha[5, 7] = 0
    code = bytes(brush_code(alpha, widths=widths))
    assert np.array_equal(rle.brush_pixels(code, 20, 30, "here"), alpha > 0)


def test_damaged_brush_masks_are_refused():
    whole = brush_code(np.eye(6, dtype=np.uint8) * 255)
    for length in range(len(whole)):
        with pytest.raises(UserError, match="here: its brush mask breaks off"):
            rle.brush_pixels(bytes(whole[:length]), 6, 6, "here")
    with pytest.raises(UserError, match=r"has 144 values, but an RGBA picture of 6x5 pixels has 120"):
        rle.brush_pixels(bytes(whole), 5, 6, "here")
    with pytest.raises(UserError, match="runs past its 4 values"):
        rle.brush_pixels(bytes(packed(f"{4:032b} 00111 0010 0010 0010 0010 1 00 111 11111111")), 1, 1, "here")
