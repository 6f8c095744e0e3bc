"""Mask files: every kind of PNG read exactly, colors, palettes that viewers show."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support.errors import raises

from deeplab.data import mask_files
from deeplab.data.colormaps import IGNORED, ColorTable, read_color_table
from deeplab.data.labels import LabelSpec
from deeplab.data.mask_files import decode_label, read_mask, write_index_png
from deeplab.utils.errors import UserError

LABEL = np.array([[0, 1, 2], [255, 2, 1]], np.uint8)
LFW = ColorTable(("background", "hair", "skin"), ((0, 0, 255), (255, 0, 0), (0, 255, 0)), (0, 1, 2))


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def palette_png(values: np.ndarray, colors=((9, 9, 9), (8, 8, 8), (7, 7, 7))) -> bytes:
    image = Image.fromarray(values)
    rest = [0] * (768 - 3 * len(colors))  # Pillow writes fewer bits a pixel for a short palette
    image.putpalette([part for color in colors for part in color] + rest)
    return encoded(image)


def raw_png(rows: list[bytes], width: int, depth: int, kind: int) -> bytes:
    """A PNG made by hand: Pillow writes no gray ones of 2 or 4 bits."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def read_label(path, rule: LabelSpec = LabelSpec()) -> np.ndarray:  # noqa: B008
    return decode_label(read_mask(str(path)), str(path), rule).label


def decode(data: bytes, rule: LabelSpec = LabelSpec()) -> np.ndarray:  # noqa: B008
    return decode_label(data, "mask.png", rule).label


@pytest.mark.parametrize("mode", ["L", "P"])
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"transparency": 0}, {"pnginfo": PngInfo()}])
def test_plain_pngs_have_the_values_that_pillow_reads(mode, options):
    """OpenCV decodes them faster; what their other chunks say must not change the values."""
    if "pnginfo" in options:
        options["pnginfo"].add_text("gamma", "2.2")
    rng = np.random.default_rng(0)
    values = np.sort(rng.integers(0, 5, (40, 50), dtype=np.uint8), axis=1)
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "png", **options)
    np.testing.assert_array_equal(decode(buffer.getvalue()), values)


def test_rows_that_are_missing_are_not_filled(capfd):
    """Pillow fills them with zeros, which would be background; TensorFlow would stop training at the record."""
    rows = [bytes([1] * 30)] * 20
    assert decode(raw_png(rows, 30, 8, 0)).all()
    short = raw_png(rows[:10], 30, 8, 0)
    header = struct.pack(">IIBBBBB", 30, 20, 8, 0, 0, 0, 0)
    whole = b"IHDR" + header
    start = short.index(b"IHDR")
    short = short[:start] + whole + zlib.crc32(whole).to_bytes(4, "big") + short[start + len(whole) + 4 :]
    with raises("unreadable-image", where="mask.png"):
        decode(short)


def test_gray_png_goes_in_unchanged():
    data = encoded(Image.fromarray(LABEL))
    decoded = decode_label(data, "mask.png", LabelSpec(3))
    np.testing.assert_array_equal(decoded.label, LABEL)
    assert decoded.gray_png == data
    assert decoded.counts[[0, 1, 2, 255]].tolist() == [1, 2, 2, 1]
    assert decoded.counts.sum() == 6


def test_palette_png_gives_indices_whatever_the_colors():
    decoded = decode_label(palette_png(LABEL), "mask.png", LabelSpec(3))
    np.testing.assert_array_equal(decoded.label, LABEL)
    # What records hold must say the same to TensorFlow, which reads the colors of palette PNGs.
    np.testing.assert_array_equal(tf.io.decode_png(decoded.gray_png, channels=1)[..., 0], LABEL)
    assert Image.open(io.BytesIO(decoded.gray_png)).mode == "L"


def test_one_bit_png_is_0_and_1():
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(LABEL[:, :2] == 1))), [[0, 1], [0, 0]])


def test_gray_png_of_two_and_four_bits_gives_raw_values():
    two = raw_png([bytes([0b00011011])], width=4, depth=2, kind=0)
    four = raw_png([bytes([0x0F, 0x21])], width=4, depth=4, kind=0)
    np.testing.assert_array_equal(decode(two), [[0, 1, 2, 3]])
    np.testing.assert_array_equal(decode(four), [[0, 15, 2, 1]])
    for data in (two, four):  # TensorFlow would spread these values over 0..255
        decoded = decode_label(data, "mask.png", LabelSpec())
        np.testing.assert_array_equal(tf.io.decode_png(decoded.gray_png, channels=1)[..., 0], decoded.label)


def test_sixteen_bit_png_with_small_values():
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(LABEL.astype(np.uint16)))), LABEL)


def test_sixteen_bit_values_can_be_mapped():
    data = encoded(Image.fromarray(np.array([[0, 1000]], np.uint16)))
    np.testing.assert_array_equal(decode(data, LabelSpec(2, mapping={1000: 1})), [[0, 1]])
    with raises("label-out-of-range") as caught:
        decode(data)
    assert caught.value.value == [1000]


def test_gray_saved_as_rgb_needs_no_table():
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(np.stack([LABEL] * 3, -1)))), LABEL)


def test_an_alpha_channel_that_is_the_mask_is_read():
    """Cut-outs show one color where the object is, and nothing elsewhere."""
    alpha = np.where(LABEL > 0, 255, 0).astype(np.uint8)
    for mode, color in (("RGBA", (250, 10, 10)), ("LA", (0,))):
        pixels = np.stack([*(np.full(LABEL.shape, part, np.uint8) for part in color), alpha], -1)
        image = Image.fromarray(np.where(alpha[..., None] > 0, pixels, 0).astype(np.uint8))
        assert image.mode == mode
        np.testing.assert_array_equal(decode(encoded(image), LabelSpec(mapping={255: 1})), alpha > 0)


def test_opaque_alpha_is_dropped_and_partial_alpha_refused():
    alpha = np.full(LABEL.shape, 255, np.uint8)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(np.stack([LABEL, alpha], -1)))), LABEL)
    alpha[0, 0] = 0
    with raises("not-a-mask", where="mask.png"):
        decode(encoded(Image.fromarray(np.stack([LABEL, alpha], -1))))


def test_other_lossless_formats():
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(LABEL), "BMP")), LABEL)


WHOLE = encoded(Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)))


@pytest.mark.parametrize(
    "data", [b"", b"no image", WHOLE[:28], WHOLE[:-1], WHOLE[:-20], WHOLE[:60], WHOLE[:-30] + b"xx" + WHOLE[-28:]]
)
def test_unreadable_masks_are_named(data):
    with raises("unreadable-image", where="mask.png"):
        decode(data)


def test_an_empty_mask_is_called_so():
    with raises("unreadable-image", where="mask.png") as info:
        decode(b"")
    assert info.value.rule == "is empty" and info.value.hint


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"gone.png: "):
        read_label(tmp_path / "gone.png")


def colored(*rows: list[tuple[int, int, int]]) -> bytes:
    return encoded(Image.fromarray(np.array(rows, np.uint8)))


def test_colors_become_indices():
    data = colored([(0, 0, 255), (255, 0, 0)], [(0, 255, 0), (0, 0, 255)])
    np.testing.assert_array_equal(decode(data, LabelSpec(3, table=LFW)), [[0, 1], [2, 0]])


def test_rgb_without_table_lists_the_colors():
    with raises("missing-palette", where="mask.png") as caught:
        decode(colored([(255, 0, 0), (0, 0, 255), (255, 0, 0)]))
    assert "RGB with 2 colors ((255, 0, 0) on 2 pixels," in caught.value.rule
    assert "`palette=FILE`" in caught.value.hint


def test_strange_color_is_named_with_the_nearest_class():
    data = colored([(0, 0, 255), (250, 3, 0)])
    with raises("unknown-color", where="mask.png") as caught:
        decode(data, LabelSpec(3, table=LFW))
    assert "(250, 3, 0) on 1 pixel, nearest hair (255, 0, 0)" in caught.value.rule
    assert "`color_tolerance=6`" in caught.value.hint  # the distance is 5.8
    np.testing.assert_array_equal(decode(data, LabelSpec(3, table=LFW, tolerance=6)), [[0, 1]])


def test_ignored_colors_and_classes_of_several_colors():
    table = ColorTable(("road", "car"), ((1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)), (0, 1, 0, None))
    data = colored([(1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)])
    np.testing.assert_array_equal(decode(data, LabelSpec(2, ignore_label=9, table=table)), [[0, 1, 0, 9]])


def test_palette_png_whose_colors_contradict_the_table_is_refused():
    blue_is_one = palette_png(np.array([[0, 1]], np.uint8), ((255, 0, 0), (0, 0, 255)))
    with raises("palette-disagrees", where="mask.png") as caught:
        decode(blue_is_one, LabelSpec(3, table=LFW))
    assert caught.value.value == 0
    assert "(255, 0, 0)" in caught.value.rule and "hair" in caught.value.rule
    np.testing.assert_array_equal(decode(blue_is_one, LabelSpec(3, table=LFW, by_color=True)), [[1, 0]])


def test_whole_numbers_of_float_masks_are_indices():
    """TIFF files of float32, as programs for microscopes and maps write them."""

    def tiff(values) -> bytes:
        file = io.BytesIO()
        Image.fromarray(np.array(values, np.float32)).save(file, "tiff")
        return file.getvalue()

    np.testing.assert_array_equal(decode(tiff([[0, 1], [2, 255]]), LabelSpec(3)), [[0, 1], [2, 255]])
    for wrong in (0.5, -1, np.nan, np.inf, 1e6):
        with raises("not-a-mask"):
            decode(tiff([[0, wrong]]), LabelSpec(3))


def test_palette_file(tmp_path):
    path = tmp_path / "a.palette"
    path.write_text(
        "# remark\n0 0 255 background\n\n255,0,0 hair  # red\n0 255 0 skin tone\n9 9 9 ignore\n8 8 8 hair\n"
    )
    table = read_color_table(path)
    assert table.names == ("background", "hair", "skin tone")
    assert table.classes == (0, 1, 2, None, 1)
    assert table.class_colors() == ((0, 0, 255), (255, 0, 0), (0, 255, 0))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("1 2\n", "line 1"),
        ("1 2 3 a\n1 2 300 b", "line 2"),
        ("# a\n1 2 3 a\n\n1 2 3 b", "line 4"),
        ("name,r,g,b\na,1,2,3\nb,1,2,3", "line 3"),
        ("GIMP Palette\nName: x\n#\n1 2 3 a\n1 2 3 b", "line 5"),
        ("#", "a.palette"),
    ],
)
def test_malformed_palette_files(tmp_path, text, where):
    path = tmp_path / "a.palette"
    path.write_text(text)
    with raises("invalid-palette", where=where) as caught:
        read_color_table(path)
    assert caught.value.hint


def test_dataset_file_as_palette(tmp_path):
    path = tmp_path / "d.yml"
    path.write_text("classes: [{name: a, color: [1, 2, 3]}, {name: b, color: [4, 5, 6]}]")
    assert read_color_table(path).colors == ((1, 2, 3), (4, 5, 6), IGNORED)
    path.write_text("classes: [a, b]")
    with raises("missing-colors", where="d.yml"):
        read_color_table(path)


MANY = np.array([[0, 255, 256], [299, 65535, 44]], np.uint16)  # 300 classes; 299 % 256 = 43, 300 % 256 = 44


def test_masks_of_16_bits_are_gray_png(tmp_path):
    write_index_png(tmp_path / "a.png", MANY, [(1, 2, 3)] * 300)
    image = Image.open(tmp_path / "a.png")
    assert image.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(image), MANY)
    np.testing.assert_array_equal(read_label(tmp_path / "a.png", LabelSpec(300, 65535)), MANY)


def test_index_png_is_exact_and_colored(tmp_path):
    write_index_png(tmp_path / "m.png", LABEL, [(0, 0, 255), (255, 0, 0), (0, 255, 0)])
    image = Image.open(tmp_path / "m.png")
    np.testing.assert_array_equal(np.asarray(image), LABEL)
    shown = np.asarray(image.convert("RGB"))
    assert shown[0].tolist() == [[0, 0, 255], [255, 0, 0], [0, 255, 0]]
    assert tuple(shown[1, 0]) == IGNORED
    np.testing.assert_array_equal(read_label(tmp_path / "m.png", LabelSpec(3, table=LFW)), LABEL)


def test_index_png_wants_uint8(tmp_path):
    with raises("not-a-mask", where="m.png"):
        write_index_png(tmp_path / "m.png", LABEL.astype(np.int64))
    assert list(tmp_path.iterdir()) == []


def test_encoded_labels_come_back():
    np.testing.assert_array_equal(tf.io.decode_png(mask_files.encode_label(LABEL), channels=1)[..., 0], LABEL)


GRAYS = ColorTable(("background", "hair", "skin"), ((0, 0, 0), (255, 255, 255), (128, 128, 128)), (0, 1, 2))


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_grays_of_a_gray_table_are_classes_in_masks_of_any_kind(mode):
    """The CelebA masks: 255 is hair there, not the ignore label."""
    gray = Image.fromarray(np.array([[0, 128, 255]], np.uint8))
    for kind in ("BMP", "PNG"):
        decoded = decode_label(encoded(gray.convert(mode), kind), "a.bmp", LabelSpec(3, table=GRAYS))
        np.testing.assert_array_equal(decoded.label, [[0, 2, 1]])
        np.testing.assert_array_equal(Image.open(io.BytesIO(decoded.gray_png)), [[0, 2, 1]])


def test_indices_stay_indices_beside_a_gray_table():
    label = decode_label(
        encoded(Image.fromarray(np.array([[0, 1, 2]], np.uint8))), "a.png", LabelSpec(3, table=GRAYS)
    ).label
    np.testing.assert_array_equal(label, [[0, 1, 2]])


def test_stray_grays_are_snapped_and_counted():
    data = encoded(Image.fromarray(np.array([[0, 9, 130, 255]], np.uint8)))
    with raises("unknown-color"):
        decode_label(data, "a.png", LabelSpec(3, table=GRAYS))
    decoded = decode_label(data, "a.png", LabelSpec(3, table=GRAYS, tolerance=20))
    np.testing.assert_array_equal(decoded.label, [[0, 0, 2, 1]])
    assert decoded.snapped == 2


def test_palette_file_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.palette").write_bytes(b"\xef\xbb\xbf0 0 255 ground\r\n255 0 0 hair\r\n")
    assert read_color_table(tmp_path / "a.palette").names == ("ground", "hair")


VOC_START = ColorTable(("background", "aeroplane", "bicycle"), ((0, 0, 0), (128, 0, 0), (0, 128, 0)), (0, 1, 2))


def test_indices_saved_as_rgb_are_indices_beside_a_table_of_colors():
    """No class has the color (2, 2, 2); black alone stays a color, which this table has not."""
    rgb = np.repeat(np.array([[[0], [2], [1]]], np.uint8), 3, axis=2)
    np.testing.assert_array_equal(
        decode_label(encoded(Image.fromarray(rgb)), "a.png", LabelSpec(3, table=LFW)).label, [[0, 2, 1]]
    )
    with raises("unknown-color"):
        decode_label(encoded(Image.fromarray(rgb * 0)), "a.png", LabelSpec(3, table=LFW))
    near_black = decode_label(encoded(Image.fromarray(rgb // 2)), "a.png", LabelSpec(3, table=VOC_START, tolerance=9))
    np.testing.assert_array_equal(near_black.label, [[0, 0, 0]])


class TestArrays:
    """Masks that are arrays."""

    LABEL = np.arange(12).reshape(3, 4) % 3

    def read(self, path):
        return decode_label(read_mask(str(path)), str(path), LabelSpec(3)).label

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
    def test_numpy(self, tmp_path, dtype):
        np.save(tmp_path / "a.npy", self.LABEL.astype(dtype))
        np.savez(tmp_path / "a.npz", self.LABEL[..., np.newaxis].astype(dtype))
        for name in ("a.npy", "a.npz"):
            np.testing.assert_array_equal(self.read(tmp_path / name), self.LABEL)

    def test_matlab(self, tmp_path):
        scipy_io = pytest.importorskip("scipy.io")
        scipy_io.savemat(tmp_path / "a.mat", {"mask": self.LABEL.astype(np.uint8), "size": 3})
        np.testing.assert_array_equal(self.read(tmp_path / "a.mat"), self.LABEL)
        scipy_io.savemat(tmp_path / "a.mat", {"mask": self.LABEL, "other": self.LABEL})
        with raises("not-a-mask", where="a.mat"):
            self.read(tmp_path / "a.mat")
        (tmp_path / "a.mat").write_bytes((tmp_path / "a.mat").read_bytes()[:200])
        with raises("unreadable-image", where="a.mat"):
            self.read(tmp_path / "a.mat")

    @pytest.mark.parametrize("values", [[[0.5]], [[-1]], [[70000]], [[np.nan]], [1, 2], [[[1, 2]]]])
    def test_what_holds_no_indices_is_refused(self, tmp_path, values):
        np.save(tmp_path / "a.npy", np.array(values))
        with raises("not-a-mask", where="a.npy"):
            self.read(tmp_path / "a.npy")
