"""Images as pixels and for records: turned photographs, other formats, more than 8 bits, bad files, arrays."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from support.errors import raises

from deeplab.data.given_images import to_rgb
from deeplab.data.images import (
    NOTES,
    PreparedImage,
    count_pages,
    prepare,
    read_image,
    read_raster,
    upright,
)
from deeplab.utils.errors import UserError

# The room turns Pillow's own warnings off; pytest turns them on again.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")

HEIGHT, WIDTH = 24, 40
TIFF_TYPES = {"byte": 1, "short": 3, "long": 4}

RNG = np.random.default_rng(0)


def corners():
    """Four corners of different colors, and a mark that tells up from down."""
    pixels = np.zeros([HEIGHT, WIDTH, 3], np.uint8)
    pixels[:12, :20], pixels[:12, 20:] = [255, 0, 0], [0, 255, 0]
    pixels[12:, :20], pixels[12:, 20:] = [0, 0, 255], [250, 250, 0]
    pixels[:2, :8] = 255
    return pixels


def gradient(channels=3):
    """All values, no two neighbors alike."""
    values = np.arange(HEIGHT * WIDTH * channels) * 7 % 256
    return values.astype(np.uint8).reshape(HEIGHT, WIDTH, channels)


def encoded(kind, image=None, orientation=0, **settings):
    image = image if isinstance(image, Image.Image) else Image.fromarray(corners() if image is None else image)
    if orientation:
        settings["exif"] = Image.Exif()
        settings["exif"][0x0112] = orientation
    if kind == "JPEG":
        settings = {"quality": 95, "subsampling": 0, **settings}
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def decoded(image: PreparedImage):
    """What training sees of it; its size must be what it says."""
    pixels = tf.io.decode_jpeg(image.data, channels=3).numpy()
    assert pixels.shape == (image.height, image.width, 3)
    assert (image.format == "png") == image.data.startswith(b"\x89PNG")
    return pixels


def close(pixels, wanted):
    """Equal but for what JPEG does at the edges of colors."""
    return pixels.shape == wanted.shape and np.abs(pixels.astype(int) - wanted).mean() < 3


# --- What passes untouched ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        encoded("JPEG"),
        encoded("JPEG", progressive=True),
        encoded("JPEG", gradient()[..., 0]),
        encoded("PNG"),
        encoded("PNG", Image.fromarray(gradient()).quantize(16)),
        encoded("PNG", Image.fromarray(gradient()).convert("1")),
        encoded("JPEG", orientation=1),
    ],
)
def test_ordinary_files_pass_byte_for_byte(data):
    for name in ("a.jpg", "a.png", "a.tif"):  # extensions say nothing
        image = prepare(data, name, (HEIGHT, WIDTH), decode=True)
        assert image.data is data
        assert (image.height, image.width, image.notes) == (HEIGHT, WIDTH, ())


def chunk(kind, body):
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png(width, depth, colors, row, *chunks):
    """A PNG of one row, of any bit depth and color type."""
    header = struct.pack(">IIBBBBB", width, 1, depth, colors, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks)
    return start + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


PALETTE = chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60]))


@pytest.mark.parametrize(
    ("data", "first_row", "notes"),
    [
        (png(2, 1, 0, b"\x40"), [[0, 0, 0], [255, 255, 255]], ()),
        (png(2, 2, 0, b"\x60"), [[85, 85, 85], [170, 170, 170]], ()),
        (png(2, 8, 3, b"\0\1", PALETTE), [[10, 20, 30], [40, 50, 60]], ()),
        (png(2, 8, 3, b"\0\1", PALETTE, chunk(b"tRNS", b"\0\x80")), [[10, 20, 30], [40, 50, 60]], ("alpha",)),
        (png(2, 8, 4, b"\x09\0\x63\xff"), [[9, 9, 9], [99, 99, 99]], ("alpha",)),
        (png(1, 8, 6, bytes([1, 2, 3, 0])), [[1, 2, 3]], ("alpha",)),
        (png(2, 16, 0, b"\x80\xff\x12\x34"), [[128, 128, 128], [18, 18, 18]], ("sixteen_bit",)),
        (png(1, 16, 2, b"\x80\xff\0\xff\x7f\0"), [[128, 0, 127]], ("sixteen_bit",)),
        (png(1, 16, 6, b"\x80\xff\0\xff\x7f\0\0\0"), [[128, 0, 127]], ("alpha", "sixteen_bit")),
        (png(2, 16, 0, b"\x0f\xff\x01\x00"), [[15, 15, 15], [1, 1, 1]], ("sixteen_bit", "dark")),
    ],
)
def test_every_kind_of_png_is_what_tensorflow_makes_of_it(data, first_row, notes):
    image = prepare(data, "a.png", None)
    assert image.data is data
    assert decoded(image)[0].tolist() == first_row
    assert image.notes == notes


# --- Turning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_agrees_with_pillow(orientation):
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded("PNG", orientation=orientation))))
    np.testing.assert_array_equal(upright(corners(), orientation), np.asarray(wanted))


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("JPEG", {}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_all_orientations_of_all_formats(kind, settings, orientation):
    data = encoded(kind, orientation=orientation, **settings)
    wanted = upright(corners(), orientation)
    turned = prepare(data, "a", wanted.shape[:2])
    assert "turned" in turned.notes and close(decoded(turned), wanted)
    stored = prepare(data, "a", (HEIGHT, WIDTH), exif="ignore")
    assert "unturned" in stored.notes and close(decoded(stored), corners())
    assert turned.format == ("jpeg" if kind == "JPEG" else "png")
    if kind != "JPEG":
        np.testing.assert_array_equal(decoded(turned), wanted)
        np.testing.assert_array_equal(decoded(stored), corners())


@pytest.mark.parametrize(
    ("orientation", "mask_size", "exif", "note"),
    [
        (6, (40, 24), "auto", "turned"),  # the mask fits what viewers show
        (6, (24, 40), "auto", "unturned"),  # it fits what is stored only
        (6, None, "auto", "turned"),  # it fits anything
        (6, (7, 7), "auto", "turned"),  # it fits nothing: the message speaks of what viewers show
        (3, (24, 40), "auto", "turned"),  # it fits both ways
        (6, (24, 40), "turn", "turned"),
        (6, (40, 24), "ignore", "unturned"),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_the_mask_says_which_way_up(kind, orientation, mask_size, exif, note):
    image = prepare(encoded(kind, orientation=orientation), "a", mask_size, exif)
    assert image.notes[0] == note
    wanted = upright(corners(), orientation if note == "turned" else 1)
    assert close(decoded(image), wanted)


def test_square_images_are_turned_and_unturned_ones_keep_their_bytes():
    square = encoded("JPEG", corners()[:, :24], orientation=8)
    assert prepare(square, "a.jpg", (24, 24)).notes == ("turned",)
    data = encoded("JPEG", orientation=8)
    assert prepare(data, "a.jpg", (24, 40)).data is data


def test_turned_jpegs_keep_their_colors_sharp():
    """4:2:0 would blur the red and blue columns by more than 50 levels."""
    stripes = np.zeros([32, 32, 3], np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = [200, 60, 60], [60, 60, 200]
    data = encoded("JPEG", stripes, orientation=6)
    assert np.abs(decoded(prepare(data, "a.jpg", None)).astype(int) - upright(stripes, 6)).mean() < 6


def test_turned_jpegs_are_encoded_at_high_quality():
    def quality(data):
        return Image.open(io.BytesIO(data)).quantization[0]

    turned = prepare(encoded("JPEG", orientation=6, quality=50), "a.jpg", None)
    assert quality(turned.data) == quality(encoded("JPEG", quality=95))


def test_gray_jpegs_stay_gray_when_turned():
    turned = prepare(encoded("JPEG", gradient()[..., 0], orientation=6), "a.jpg", None)
    assert tf.io.extract_jpeg_shape(turned.data).numpy().tolist() == [WIDTH, HEIGHT, 1]


# --- Other formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("PPM", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("TIFF", {"compression": "packbits"}),
    ],
)
@pytest.mark.parametrize("pixels", [gradient(), gradient(1)[..., 0]])
def test_lossless_formats_keep_every_pixel(kind, settings, pixels):
    image = prepare(encoded(kind, pixels, **settings), "a", None)
    assert (image.format, image.notes) == ("png", ("converted",))
    np.testing.assert_array_equal(decoded(image), pixels if pixels.ndim == 3 else np.dstack([pixels] * 3))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP"])
def test_palettes_are_resolved(kind):
    palette = Image.fromarray(corners()).quantize(8)
    np.testing.assert_array_equal(
        decoded(prepare(encoded(kind, palette), "a", None)), np.asarray(palette.convert("RGB"))
    )


def test_black_and_white_images():
    halves = Image.fromarray(np.arange(WIDTH)[None].repeat(HEIGHT, 0) > 19)
    for data in (encoded("TIFF", halves, compression="group4"), encoded("BMP", halves), encoded("PPM", halves)):
        assert decoded(prepare(data, "a", None))[0, [0, 39], 0].tolist() == [0, 255]


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "GIF"])
def test_of_several_pages_the_first_is_taken(kind):
    pages = [Image.fromarray(page).quantize(8) for page in (corners(), corners()[::-1])]
    settings = {"lossless": True} if kind == "WEBP" else {}
    if kind == "WEBP":
        pages = [page.convert("RGB") for page in pages]
    image = prepare(encoded(kind, pages[0], save_all=True, append_images=pages[1:], **settings), "a", None)
    assert "pages" in image.notes
    np.testing.assert_array_equal(decoded(image), np.asarray(pages[0].convert("RGB")))


def test_alpha_is_dropped_and_the_colors_behind_it_count():
    transparent = np.dstack([gradient(), np.zeros([HEIGHT, WIDTH], np.uint8)])
    for kind, settings in (("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        image = prepare(encoded(kind, transparent, **settings), "a", None)
        assert image.notes == ("converted", "alpha")
        np.testing.assert_array_equal(decoded(image), gradient())


def test_palettes_with_alpha():
    image = Image.fromarray(gradient()).quantize(8)
    colors = np.asarray(image.convert("RGB"))
    image.putalpha(128)
    assert image.mode == "PA"
    prepared = prepare(encoded("TIFF", image), "a.tif", None)
    assert prepared.notes == ("converted", "alpha")
    np.testing.assert_array_equal(decoded(prepared), colors)


def test_jpegs_that_tensorflow_does_not_read_become_png():
    """A lossless JPEG (ITU-T T.81, annex H) of 0, 50 / 200, 255."""
    lossless = bytes.fromhex(
        "ffd8ffe000104a46494600010100000100010000ffc3000b080002000201011100ffc400150001010000000000000000000000000000"
        "0608ffda00080101000100009fd9590dff00ffd9"
    )
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.io.decode_jpeg(lossless)
    image = prepare(lossless, "a.jpg", None)
    assert (image.format, image.notes) == ("png", ("converted",))
    assert decoded(image)[..., 0].tolist() == [[0, 50], [200, 255]]


def test_broken_exif_blocks_are_noted():
    data = encoded("WEBP", lossless=True, exif=b"Exif\0\0garbage, not EXIF")
    assert prepare(data, "a.webp", None).notes == ("converted", "damaged")


def test_printed_colors_become_rgb():
    printed = Image.fromarray(corners()).convert("CMYK")
    image = prepare(encoded("JPEG", printed), "a.jpg", None)
    assert (image.format, image.notes) == ("jpeg", ("cmyk",))
    assert close(decoded(image), corners())
    turned = prepare(encoded("JPEG", printed, orientation=6), "a.jpg", None)
    assert turned.notes == ("turned", "cmyk") and close(decoded(turned), upright(corners(), 6))
    assert prepare(encoded("TIFF", printed), "a.tif", None).notes == ("converted", "cmyk")


# --- More than 8 bits ---------------------------------------------------------------------------------------


def tiff(tags, pixels, next_page=0):
    """A TIFF of one strip, written by hand: Pillow writes no 16-bit colors."""
    start = 8 + 2 + 12 * len(tags) + 4
    values = b""
    entries = b""
    for tag, (kind, numbers) in sorted(tags.items()):
        if tag == 273:
            numbers = (start + 200,)
        packed = struct.pack(f"<{len(numbers)}{'BxHI'[TIFF_TYPES[kind] - 1]}", *numbers)
        if len(packed) > 4:
            packed, values = struct.pack("<I", start + len(values)), values + packed
        entries += struct.pack("<HHI", tag, TIFF_TYPES[kind], len(numbers)) + packed.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", next_page)
    return head + values.ljust(200, b"\0") + pixels


def tags_of(pixels, photometric, bits, **more):
    height, width, channels = pixels.shape
    tags = {
        256: ("long", (width,)),
        257: ("long", (height,)),
        258: ("short", (bits,) * channels),
        259: ("short", (1,)),
        262: ("short", (photometric,)),
        273: ("long", (0,)),
        277: ("short", (channels,)),
        278: ("long", (height,)),
        279: ("long", (pixels.nbytes,)),
    }
    return {**tags, **{int(tag[1:]): value for tag, value in more.items()}}


def deep(channels, high=255):
    """16-bit values whose upper bytes are `gradient() % high`."""
    return ((gradient(channels) % high).astype("<u2") << 8) + 0x7F


def test_sixteen_bits_keep_their_upper_byte():
    colors = prepare(tiff(tags_of(deep(3), 2, 16), deep(3).tobytes()), "a.tif", None)
    assert colors.notes == ("converted", "sixteen_bit")
    np.testing.assert_array_equal(decoded(colors), gradient() % 255)
    gray = prepare(tiff(tags_of(deep(1), 1, 16), deep(1).tobytes()), "a.tif", None)
    np.testing.assert_array_equal(decoded(gray)[..., 0], (gradient(1) % 255)[..., 0])
    negative = prepare(tiff(tags_of(deep(1), 0, 16), deep(1).tobytes()), "a.tif", None)
    np.testing.assert_array_equal(decoded(negative)[..., 0], 255 - (gradient(1) % 255)[..., 0])


def test_packed_twelve_bits_are_scaled_by_their_own_range():
    packed = np.zeros([1, 2, 1], np.uint8)  # for the shape only
    data = tiff({**tags_of(packed, 1, 12), 279: ("long", (3,))}, b"\xff\xf8\x00")  # 4095, 2048
    image = prepare(data, "a.tif", None)
    assert decoded(image)[0, :, 0].tolist() == [255, 128]
    assert image.notes == ("converted", "sixteen_bit")


def test_twelve_bit_data_in_sixteen_bits_are_pointed_out():
    for channels, photometric in ((1, 1), (3, 2)):
        dark = deep(channels, high=16)
        assert dark.max() < 4096
        image = prepare(tiff(tags_of(dark, photometric, 16), dark.tobytes()), "a.tif", None)
        assert image.notes == ("converted", "sixteen_bit", "dark")
    assert "`bands=all`" in NOTES["dark"] and "`magick IN.tif -evaluate multiply 16 OUT.png`" in NOTES["dark"]


def test_highest_value_of_a_ppm_is_white():
    image = prepare(b"P2\n3 1\n4095\n4095 2048 0\n", "a.pgm", None)
    assert decoded(image)[0, :, 0].tolist() == [255, 128, 0]
    assert image.notes == ("converted", "sixteen_bit")
    colors = prepare(b"P6\n1 1\n65535\n" + struct.pack(">3H", 0x80FF, 0x1200, 0xFFFF), "a.ppm", None)
    assert decoded(colors)[0, 0].tolist() == [128, 18, 255]
    assert colors.notes == ("converted", "sixteen_bit")


# --- Channels and values without a plain meaning ------------------------------------------------------------


def test_a_fourth_channel_that_is_no_alpha():
    data = tiff(tags_of(gradient(4), 2, 8, t338=("short", (0,))), gradient(4).tobytes())
    image = prepare(data, "a.tif", None)
    assert image.notes == ("converted", "channels")
    np.testing.assert_array_equal(decoded(image), gradient(4)[..., :3])


@pytest.mark.parametrize("channels", [5, 8])
def test_many_channels_are_refused(channels):
    extra = ("short", (0,) * (channels - 3))
    data = tiff(tags_of(gradient(channels), 2, 8, t338=extra), gradient(channels).tobytes())
    with raises("unsupported-pixels", where="a.tif") as caught:
        prepare(data, "a.tif", None)
    assert caught.value.value == channels
    assert "`bands=all`" in caught.value.hint and "`bands=3,2,1`" in caught.value.hint


@pytest.mark.parametrize(
    ("mode", "rule"), [("F", "floating-point values of 32 bits"), ("I", "signed values of 32 bits")]
)
def test_values_without_black_and_white_are_refused(mode, rule):
    with raises("unsupported-pixels", where="a.tif") as caught:
        prepare(encoded("TIFF", Image.new(mode, (4, 4))), "a.tif", None)
    assert rule in caught.value.rule


def test_sixteen_bit_channels_that_lie_apart_are_refused():
    """Pillow takes each byte for a value and gives a wrong image without a word."""
    data = tiff(tags_of(deep(3), 2, 16, t284=("short", (2,))), deep(3).tobytes())
    with raises("unsupported-pixels", where="a.tif") as caught:
        prepare(data, "a.tif", None)
    assert "3 channels of 16 bits apart" in caught.value.rule


# --- Bad files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_of_all_formats(kind, share):
    data = encoded(kind, gradient())
    with pytest.raises(UserError) as caught:
        prepare(data[: int(len(data) * share)], "a", None)
    assert caught.value.code in ("unreadable-image", "unsupported-format")  # the latter without even its first bytes
    assert caught.value.where == "a" and caught.value.hint


def test_damaged_compressed_data():
    data = encoded("TIFF", gradient(), compression="tiff_deflate")
    with raises("unreadable-image", where="a.tif"):
        prepare(data[:60] + bytes(20) + data[80:], "a.tif", None)


@pytest.mark.parametrize(("compression", "rows"), [(1, 1_000), (32773, 10_000), (5, 200_000), (8, 200_000)])
def test_tiffs_that_are_shorter_than_their_pixels(compression, rows):
    tags = {**tags_of(gradient(1), 1, 8), 257: ("long", (rows,)), 259: ("short", (compression,))}
    with raises("unreadable-image", where="a.tif") as caught:
        prepare(tiff(tags, gradient(1).tobytes()), "a.tif", None)
    assert f"is truncated: 40x{rows} pixels cannot come from 1," in caught.value.rule


@pytest.mark.parametrize("compression", ["raw", "packbits", "tiff_lzw", "tiff_deflate"])
def test_blank_tiffs_are_not_taken_for_truncated_ones(compression):
    data = encoded("TIFF", np.full([2000, 3000], 255, np.uint8), compression=compression)
    assert decoded(prepare(data, "a.tif", None)).min() == 255


@pytest.mark.parametrize(
    "data",
    [
        b"P6 99999 99999 255\n",
        encoded("BMP")[:18] + struct.pack("<ii", 60000, 60000) + encoded("BMP")[26:],
        encoded("GIF")[:6] + b"\xff\xff\xff\xff" + encoded("GIF")[10:],
    ],
)
def test_large_sizes_in_small_files_are_refused(data):
    with raises("image-too-large", where="a"):
        prepare(data, "a", None)


def test_pages_that_lead_in_a_circle_or_nowhere():
    tags = tags_of(gradient(1), 1, 8)
    for next_page in (8, 0xFFFFFFF0):
        image = prepare(tiff(tags, gradient(1).tobytes(), next_page), "a.tif", None)
        assert image.notes == ("converted",)


def test_smaller_copies_are_no_pages():
    small = encoded("TIFF", corners()[::2, ::2], tiffinfo={254: 1})
    with_copy = io.BytesIO()
    copy = Image.open(io.BytesIO(small))
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(corners()).save(with_copy, "TIFF", save_all=True, append_images=[copy])
    assert Image.open(io.BytesIO(with_copy.getvalue())).n_frames == 2
    assert "pages" not in prepare(with_copy.getvalue(), "a.tif", None).notes


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM"])
def test_damage_anywhere_is_an_error_in_words_or_an_image(kind):
    """Hundreds of files with one to four wrong bytes in the head, where libraries stumble."""
    data = encoded(kind, corners(), **({"orientation": 6} if kind in ("JPEG", "PNG", "TIFF", "WEBP") else {}))
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        bad = np.frombuffer(data, np.uint8).copy()
        bad[random.integers(0, min(len(bad), 200), random.integers(1, 5))] = random.choice([0, 1, 127, 128, 255])
        try:
            assert set(prepare(bad.tobytes(), "a", None).notes) <= set(NOTES)
        except UserError:
            refused += 1
    assert refused


@pytest.mark.parametrize(("kind", "settings"), [("AVIF", {"quality": 100}), ("JPEG2000", {"irreversible": False})])
def test_avif_and_jpeg_2000(kind, settings):
    image = prepare(encoded(kind, gradient(), **settings), "a", None)
    assert (image.format, image.notes) == ("png", ("converted",))
    if kind == "JPEG2000":
        np.testing.assert_array_equal(decoded(image), gradient())
    with raises("unreadable-image", where="a"):
        prepare(encoded(kind, gradient())[:-300], "a", None)


# --- For prediction -----------------------------------------------------------------------------------------

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


class TestFiles:
    def test_every_exif_orientation(self, tmp_path, capsys):
        """All eight turns and mirrorings, as Pillow does them."""
        path = tmp_path / "turned.jpg"
        Image.fromarray(RGB).save(path)
        as_stored = Image.fromarray(read_image(path))
        for orientation in range(1, 9):
            as_stored.getexif()[0x0112] = orientation
            Image.fromarray(RGB).save(path, exif=as_stored.getexif())
            np.testing.assert_array_equal(read_image(path), np.asarray(ImageOps.exif_transpose(as_stored)))
        assert capsys.readouterr().err.count("turned upright") == 7

    def test_exif_of_a_png(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(RGB, -1))

    def test_palette_and_gray_and_transparency(self, tmp_path, capsys):
        Image.fromarray(RGB[..., 0]).save(tmp_path / "gray.png")
        Image.fromarray(RGB).quantize(256).save(tmp_path / "palette.png")
        Image.fromarray(np.dstack([RGB, np.full((4, 6), 255, np.uint8)])).save(tmp_path / "opaque.png")
        Image.fromarray(np.dstack([RGB, np.full((4, 6), 9, np.uint8)])).save(tmp_path / "rgba.png")
        np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), np.stack([RGB[..., 0]] * 3, -1))
        for name in ("palette.png", "opaque.png", "rgba.png"):
            np.testing.assert_array_equal(read_image(tmp_path / name), RGB)
        told = capsys.readouterr().err
        assert "rgba.png: an image with an alpha channel" in told and "opaque" not in told

    def test_16_bit_gray_keeps_its_tones(self, tmp_path, capsys):
        deep = Image.fromarray(np.array([[0, 257, 65535]], np.uint16))
        deep.save(tmp_path / "deep.png")
        for image in (tmp_path / "deep.png", deep):
            np.testing.assert_array_equal(to_rgb(image)[0, :, 0], [0, 1, 255])
        assert capsys.readouterr().err.count("more than 8 bits") == 2

    def test_further_frames_are_told(self, tmp_path, capsys):
        frames = [Image.fromarray(frame).quantize(8) for frame in (corners(), corners()[::-1])]
        frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
        np.testing.assert_array_equal(read_image(tmp_path / "a.gif"), np.asarray(frames[0].convert("RGB")))
        assert "a.gif: an image with several pages or frames: only the first" in capsys.readouterr().err

    def test_bad_files_are_named(self, tmp_path):
        (tmp_path / "text.png").write_text("no image")
        (tmp_path / "cut.jpg").write_bytes(encoded("JPEG", gradient())[:700])
        for name, code in (
            ("text.png", "unsupported-format"), ("cut.jpg", "unreadable-image"), ("none.jpg", "file-not-found")
        ):  # fmt: skip
            with raises(code, where=name):
                read_image(tmp_path / name)


class TestRasters:
    """Images of any bands and types, read without loss."""

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    @pytest.mark.parametrize("suffix", ["npy", "npz"])
    def test_arrays(self, tmp_path, dtype, suffix):
        pixels, path = np.arange(4 * 3 * 5).reshape(4, 3, 5).astype(dtype), tmp_path / f"a.{suffix}"
        (np.save if suffix == "npy" else np.savez_compressed)(path, pixels)
        raster = read_raster(path)
        assert raster.pixels.dtype == dtype and raster.valid is None
        np.testing.assert_array_equal(raster.pixels, pixels)
        np.testing.assert_array_equal(read_raster(path, (5, 1)).pixels, pixels[..., [4, 0]])
        np.testing.assert_array_equal(read_raster(path, (), (1, 0, 2, 2)).pixels, pixels[1:3, :2])

    @pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint16), (3, np.uint16), (4, np.uint16), (4, np.uint8)])
    def test_png_keeps_16_bits_and_alpha(self, tmp_path, channels, dtype):
        pixels = RNG.integers(0, np.iinfo(dtype).max, (6, 5, channels)).astype(dtype)
        stored = pixels[..., [2, 1, 0, *range(3, channels)]] if channels > 1 else pixels
        assert cv2.imwrite(str(tmp_path / "a.png"), stored)
        raster = read_raster(tmp_path / "a.png")
        assert raster.pixels.dtype == dtype and raster.notes == (("alpha_kept",) if channels == 4 else ())
        np.testing.assert_array_equal(raster.pixels, pixels)

    def test_types_that_records_do_not_hold_become_float32(self, tmp_path):
        for dtype in (np.int16, np.float16, np.float64, np.int32):
            np.save(tmp_path / "a.npy", np.array([[-3, 4]], dtype))
            raster = read_raster(tmp_path / "a.npy")
            assert (raster.pixels.dtype, raster.notes) == (np.float32, ("as_float",))
            np.testing.assert_array_equal(raster.pixels[..., 0], [[-3, 4]])
        np.save(tmp_path / "a.npy", np.array([[2**24 + 1]], np.int32))
        with raises("unsupported-pixels", where="a.npy"):
            read_raster(tmp_path / "a.npy")

    def test_pixels_that_are_no_number_in_any_band_have_no_value(self, tmp_path):
        pixels = np.ones((2, 2, 2), np.float32)
        pixels[0, 0], pixels[1, 1, 0] = np.nan, np.nan
        np.save(tmp_path / "a.npy", pixels)
        np.testing.assert_array_equal(read_raster(tmp_path / "a.npy").valid, [[False, True], [True, True]])

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (np.zeros((4, 64, 64)), "unsupported-pixels"),  # channels first
            (np.zeros((2, 3, 4, 5)), "unsupported-pixels"),
            (np.zeros((0, 3)), "unsupported-pixels"),
            (np.zeros((4, 4), complex), "unsupported-pixels"),
            (np.array([[None]]), "unreadable-image"),  # pickled
        ],
    )
    def test_other_arrays_are_refused(self, tmp_path, content, code):
        np.save(tmp_path / "a.npy", content, allow_pickle=True)
        with raises(code, where="a.npy"):
            read_raster(tmp_path / "a.npy")

    def test_damaged_arrays_are_refused(self, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros((9, 9)))
        whole = (tmp_path / "a.npy").read_bytes()
        for damaged in (whole[:60], whole[:-9], whole.replace(b"(9, 9)", b"(9,10**9)"[:6])):
            (tmp_path / "a.npy").write_bytes(damaged)
            with raises("unreadable-image", where="a.npy"):
                read_raster(tmp_path / "a.npy")

    def test_bands_that_a_file_lacks_or_has_too_many_of_are_named(self, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros((20, 20, 17), np.uint8))
        with raises("unsupported-pixels", "bands", "a.npy"):
            read_raster(tmp_path / "a.npy")
        with raises("no-such-band", "bands", "a.npy") as error:
            read_raster(tmp_path / "a.npy", (2, 18))
        assert error.value.value == 18
        assert read_raster(tmp_path / "a.npy", (17,)).pixels.shape == (20, 20, 1)

    def test_a_turned_photo_is_upright(self, tmp_path):
        image = Image.fromarray(RNG.integers(0, 256, (8, 4, 3), np.uint8))
        exif = image.getexif()
        exif[274] = 6
        image.save(tmp_path / "a.png", exif=exif)
        assert read_raster(tmp_path / "a.png").pixels.shape == (4, 8, 3)
        assert read_raster(tmp_path / "a.png", mask_size=(8, 4)).pixels.shape == (8, 4, 3)


# --- Damaged and unusual files ----------------------------------------------------------------------------------


def test_arrays_are_one_page(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 3), np.uint8))
    assert count_pages((tmp_path / "a.npy").read_bytes(), "a.npy") == 1
    assert read_image(tmp_path / "a.npy").shape == (4, 5, 3)


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", b"RIFF\x04\0\0\0WEBPVP8L"]
)
def test_heads_of_files_alone_are_no_image_of_any_bands(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with raises("unreadable-image", where="a.png"):
        read_raster(tmp_path / "a.png")


@pytest.mark.parametrize(("limit", "is_read"), [(1, False), (None, True)])
def test_arrays_heed_the_limit_of_pillow(tmp_path, monkeypatch, limit, is_read):
    pytest.importorskip("rasterio", reason="needs the extra geo")
    Image.new("L", (5, 4)).save(tmp_path / "a.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    if is_read:
        assert read_raster(tmp_path / "a.tif").pixels.shape == (4, 5, 1)
        return
    with raises("image-too-large", field="tile_size"):
        read_raster(tmp_path / "a.tif")
