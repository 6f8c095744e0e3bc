"""PNG files: what OpenCV and Pillow read of every kind of file, sound or not, is what we read."""

import io
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from deeplab.data import png_files
from deeplab.data.png_files import png_chunks, png_kind, read_indices, without_palette

NONE, SUB, UP, AVERAGE, PAETH = range(5)
SIZES = [(1, 1), (1, 300), (300, 1), (7, 5), (37, 53), (3, 40_000)]


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def filtered(values: np.ndarray, filters: np.ndarray) -> bytes:
    """Rows as PNG stores them, uint8 [H, W], each filtered as `filters` says (PNG specification, 9.2)."""
    rows = []
    above = np.zeros(values.shape[1], int)
    for row, kind in zip(values.astype(int), filters.tolist(), strict=True):
        left, corner = (np.concatenate([[0], line[:-1]]) for line in (row, above))
        guess = left + above - corner
        distances = np.abs(guess - np.stack([left, above, corner]))
        paeth = np.choose(distances.argmin(0), [left, above, corner])
        off = {NONE: 0 * row, SUB: left, UP: above, AVERAGE: (left + above) // 2, PAETH: paeth}.get(kind, left)
        rows.append(bytes([kind]) + ((row - off) % 256).astype(np.uint8).tobytes())
        above = row
    return b"".join(rows)


def png(
    stream: bytes,
    size: tuple[int, int],
    color: int = 0,
    cuts: int = 1,
    head: bytes = b"\0\0\0",
    between: bytes = b"",
    end: bytes = b"",
) -> bytes:
    """A PNG of 8 bits with a deflated stream of so many chunks."""
    length = -(-len(stream) // cuts)
    parts = [stream[place : place + length] for place in range(0, len(stream), length)]
    shape = size[1].to_bytes(4, "big") + size[0].to_bytes(4, "big")
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if color == 3 else b""
    pixels = between.join(chunk(b"IDAT", part) for part in parts)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", shape + bytes([8, color]) + head) + palette + pixels + chunk(b"IEND", end)
    )


def label(size: tuple[int, int], seed: int = 0, levels: int = 256) -> np.ndarray:
    """Areas of random values, uint8 [H, W]."""
    draw = np.random.default_rng(seed)
    small = draw.integers(0, levels, (-(-size[0] // 4), -(-size[1] // 4)), np.uint8)
    return np.kron(small, np.ones((4, 4), np.uint8))[: size[0], : size[1]]


def encoded(values: np.ndarray, filters: np.ndarray, color: int = 0, level: int = 6, **more) -> bytes:
    """A PNG of such values whose rows are filtered so."""
    return png(zlib.compress(filtered(values, filters), level), values.shape, color, **more)


def outcome(data: bytes) -> object:
    """What `read_indices` makes of a file."""
    try:
        found = read_indices(data)
    except ValueError as error:
        return str(error)
    return None if found is None else (found.values.dtype, found.values.tolist(), found.gray_png)


def by_libpng(data: bytes, monkeypatch: pytest.MonkeyPatch) -> object:
    """The same when every file is left to OpenCV."""
    with monkeypatch.context() as patch:
        patch.setattr(png_files, "_inflated_rows", lambda *_: None)
        return outcome(data)


def refuse_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no file may be left to OpenCV."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was left to OpenCV"))


@pytest.mark.parametrize("color", [0, 3])
@pytest.mark.parametrize("size", SIZES)
def test_reads_what_opencv_and_pillow_read_whatever_the_filters_are(size, color, monkeypatch):
    draw = np.random.default_rng(size[1])
    values = label(size, size[1])
    for kinds in ([NONE], [SUB], [NONE, SUB], [NONE, SUB, UP], [NONE, SUB, UP, AVERAGE, PAETH]):
        data = encoded(values, draw.choice(kinds, size[0]), color, cuts=3)
        found = read_indices(data)
        assert found is not None
        np.testing.assert_array_equal(found.values, values)
        assert found.values.flags.writeable
        assert found.values.flags.c_contiguous
        assert found.gray_png == without_palette(data)
        assert outcome(data) == by_libpng(data, monkeypatch)
        np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(found.gray_png, np.uint8), -1), values)
        with Image.open(io.BytesIO(data)) as image:
            np.testing.assert_array_equal(np.asarray(image), values)


def test_masks_as_opencv_and_pillow_write_them_need_no_libpng(monkeypatch):
    values = label((60, 80), levels=5)
    image = Image.fromarray(values)
    image.putpalette(bytes(range(256)) * 3)
    image.save(palette := io.BytesIO(), "PNG")
    files = [cv2.imencode(".png", values)[1].tobytes(), palette.getvalue()]
    refuse_opencv(monkeypatch)
    for data in files:
        np.testing.assert_array_equal(read_indices(data).values, values)


@pytest.mark.parametrize("window", [9, 12, 15])
def test_streams_with_a_small_window(window, monkeypatch):
    values = label((64, 90), window)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)  # refers back farther than a small window allows
    stored = filtered(values, np.zeros(64, int))
    body = packer.compress(stored) + packer.flush()
    head = (window - 8) << 12 | 8 << 8
    stream = (head + (31 - head % 31) % 31).to_bytes(2, "big") + body + zlib.adler32(stored).to_bytes(4, "big")
    data = png(stream, values.shape)
    assert outcome(data) == by_libpng(data, monkeypatch)


def test_sums_of_rows_are_taken_in_parts(monkeypatch):
    values = label((23, 11))
    for most in (1, 25, 11 * 23):
        monkeypatch.setattr(png_files, "_MAX_SUMMED", most)
        np.testing.assert_array_equal(read_indices(encoded(values, np.full(23, SUB))).values, values)
    white = np.full((4100, 2049), 255, np.uint8)  # differences of 255 add up to more than int32 holds
    rows = np.full((4100, 2050), 255, np.uint8)
    rows[:, 0] = SUB
    monkeypatch.undo()
    found = read_indices(png(zlib.compress(rows.tobytes(), 1), white.shape)).values
    np.testing.assert_array_equal(found, np.cumsum(white[:1], axis=1, dtype=np.uint8).repeat(4100, 0))


VALUES = label((9, 13), 5)
STORED = filtered(VALUES, np.full(9, SUB))
STREAM = zlib.compress(STORED)
BROKEN = {
    "too short": png(zlib.compress(STORED[:-1]), (9, 13)),
    "a row is missing": png(zlib.compress(STORED[:-14]), (9, 13)),
    "too long": png(zlib.compress(STORED + b"\0"), (9, 13)),
    "a row too many": png(zlib.compress(STORED + STORED[:14]), (9, 13)),
    "wrong checksum": png(STREAM[:-1] + bytes([STREAM[-1] ^ 1]), (9, 13)),
    "no checksum": png(STREAM[:-4], (9, 13)),
    "half a checksum": png(STREAM[:-2], (9, 13)),
    "bytes after it": png(STREAM + b"abc", (9, 13)),
    "a stream after it": png(STREAM + STREAM, (9, 13)),
    "cut off": png(STREAM[: len(STREAM) // 2], (9, 13)),
    "one byte": png(STREAM[:1], (9, 13)),
    "no zlib": png(b"\xff" * 40, (9, 13)),
    "raw deflate": png(STREAM[2:-4], (9, 13)),
    "unknown filter": png(zlib.compress(b"\5" + STORED[1:]), (9, 13)),
    "unknown filter at the end": png(zlib.compress(STORED[:-14] + b"\xff" + STORED[-13:]), (9, 13)),
    "needs a dictionary": png(bytes([0x78, 0xBB]) + b"abcd" + STREAM[2:], (9, 13)),
    "other compression": png(STREAM, (9, 13), head=b"\1\0\0"),
    "other filter method": png(STREAM, (9, 13), head=b"\0\1\0"),
    "interlaced": png(STREAM, (9, 13), head=b"\0\0\1"),
    "long header": png(STREAM, (9, 13), head=b"\0\0\0\0"),
    "full end": png(STREAM, (9, 13), end=b"x"),
    "other size": png(STREAM, (13, 9)),
    "no rows": png(STREAM, (0, 13)),
    "two headers": png(STREAM, (9, 13), cuts=2, between=png(STREAM, (9, 13))[8:33]),
    "end too early": png(STREAM, (9, 13), cuts=2, between=chunk(b"IEND", b"")),
    "text between": png(STREAM, (9, 13), cuts=2, between=chunk(b"tEXt", b"a\0b")),
    "empty chunks": png(STREAM, (9, 13), cuts=4, between=chunk(b"IDAT", b"")),
    "a byte each": png(STREAM, (9, 13), 3, cuts=len(STREAM)),
    "no pixels": png(STREAM, (9, 13))[:33] + chunk(b"IEND", b""),
    "pixels first": b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", STREAM) + png(STREAM, (9, 13))[8:33] + chunk(b"IEND", b""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_break_a_rule_are_read_or_refused_as_libpng_does(name, monkeypatch):
    assert outcome(BROKEN[name]) == by_libpng(BROKEN[name], monkeypatch)


def test_damaged_streams_are_read_or_refused_as_libpng_does(monkeypatch):
    draw = np.random.default_rng(3)
    outcomes = set()
    for round_ in range(400):
        stream = bytearray(zlib.compress(STORED, int(draw.integers(0, 10))))
        for _ in range(draw.integers(1, 4)):
            stream[draw.integers(len(stream))] = draw.integers(256)
        data = png(bytes(stream), (9, 13), cuts=1 + round_ % 3)
        found = outcome(data)
        assert found == by_libpng(data, monkeypatch), bytes(stream).hex()
        outcomes.add(type(found))
    assert len(outcomes) > 1  # some are read, some are refused


def test_a_small_file_that_expands_to_much_takes_no_memory():
    bomb = png(zlib.compress(bytes(1 << 26), 9), (4, 4))
    tracemalloc.start()
    outcome(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_kinds_and_chunks():
    data = encoded(VALUES, np.zeros(9, int), 3)
    assert png_kind(data) == (8, 3)
    assert png_kind(without_palette(data)) == (8, 0)
    assert png_kind(b"\xff\xd8\xff" + data) is None
    assert [kind for kind, _ in png_chunks(data)] == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    for broken in (data[:-1], data[:40] + b"\1" + data[41:], data[:-12]):
        with pytest.raises(ValueError, match="at byte"):
            list(png_chunks(broken))


def test_other_files_are_left_to_others():
    rgb = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    sixteen = cv2.imencode(".png", np.full((4, 4), 300, np.uint16))[1].tobytes()
    assert outcome(rgb) is None
    assert outcome(b"") is None
    assert outcome(encoded(VALUES, np.zeros(9, int))[:-20]) is None  # cut off: Pillow says where
    np.testing.assert_array_equal(read_indices(sixteen).values, np.full((4, 4), 300, np.uint16))
