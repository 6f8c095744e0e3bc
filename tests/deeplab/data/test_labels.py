"""Masks: every kind of PNG read exactly, colors, maps, values that are no classes, palettes that viewers show."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab.data import labels
from deeplab.data.color_tables import ColorTable, read_color_table
from deeplab.data.colormaps import IGNORED
from deeplab.data.labels import LabelRule, decode_label, parse_label_map, read_label, spread_map, write_index_png
from deeplab.utils.errors import UserError

LABEL = np.array([[0, 1, 2], [255, 2, 1]], np.uint8)
LFW = ColorTable(("background", "hair", "skin"), ((0, 0, 255), (255, 0, 0), (0, 255, 0)), (0, 1, 2))


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def palette_png(values: np.ndarray, colors=((9, 9, 9), (8, 8, 8), (7, 7, 7))) -> bytes:
    picture = Image.fromarray(values)
    rest = [0] * (768 - 3 * len(colors))  # Pillow writes fewer bits a pixel for a short palette
    picture.putpalette([part for color in colors for part in color] + rest)
    return encoded(picture)


def raw_png(rows: list[bytes], width: int, depth: int, kind: int) -> bytes:
    """A PNG made by hand: Pillow writes no gray ones of 2 or 4 bits."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


# --- Kinds of PNG -------------------------------------------------------------------------------------------


def decode(data: bytes, rule: LabelRule = LabelRule()) -> np.ndarray:  # noqa: B008
    return decode_label(data, "mask.png", rule).label


def test_gray_png_goes_in_unchanged():
    data = encoded(Image.fromarray(LABEL))
    decoded = decode_label(data, "mask.png", LabelRule(3))
    np.testing.assert_array_equal(decoded.label, LABEL)
    assert decoded.gray_png == data
    assert decoded.counts[[0, 1, 2, 255]].tolist() == [1, 2, 2, 1]
    assert decoded.counts.sum() == 6


def test_palette_png_gives_indices_whatever_the_colors():
    decoded = decode_label(palette_png(LABEL), "mask.png", LabelRule(3))
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
        decoded = decode_label(data, "mask.png", LabelRule())
        np.testing.assert_array_equal(tf.io.decode_png(decoded.gray_png, channels=1)[..., 0], decoded.label)


def test_sixteen_bit_png_with_small_values():
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(LABEL.astype(np.uint16)))), LABEL)


def test_sixteen_bit_values_can_be_mapped():
    data = encoded(Image.fromarray(np.array([[0, 1000]], np.uint16)))
    np.testing.assert_array_equal(decode(data, LabelRule(2, mapping={1000: 1})), [[0, 1]])
    with pytest.raises(UserError, match="1000 on 1 pixel"):
        decode(data)


def test_gray_saved_as_rgb_needs_no_table():
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(np.stack([LABEL] * 3, -1)))), LABEL)


def test_opaque_alpha_is_dropped_and_partial_alpha_refused():
    alpha = np.full(LABEL.shape, 255, np.uint8)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(np.stack([LABEL, alpha], -1)))), LABEL)
    alpha[0, 0] = 0
    with pytest.raises(UserError, match="transparent"):
        decode(encoded(Image.fromarray(np.stack([LABEL, alpha], -1))))


def test_other_lossless_formats():
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(LABEL), "BMP")), LABEL)


WHOLE = encoded(Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)))


@pytest.mark.parametrize(
    "data", [b"", b"no picture", WHOLE[:-1], WHOLE[:-20], WHOLE[:60], WHOLE[:-30] + b"xx" + WHOLE[-28:]]
)
def test_unreadable_masks_are_named(data):
    with pytest.raises(UserError, match=r"mask.png: cannot be read as a picture"):
        decode(data)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"gone.png: cannot be read"):
        read_label(tmp_path / "gone.png")


# --- Colors ------------------------------------------------------------------------------------------------


def colored(*rows: list[tuple[int, int, int]]) -> bytes:
    return encoded(Image.fromarray(np.array(rows, np.uint8)))


def test_colors_become_indices():
    data = colored([(0, 0, 255), (255, 0, 0)], [(0, 255, 0), (0, 0, 255)])
    np.testing.assert_array_equal(decode(data, LabelRule(3, table=LFW)), [[0, 1], [2, 0]])


def test_rgb_without_table_lists_the_colors():
    with pytest.raises(UserError, match=r"(?s)RGB with 2 colors.*\(255, 0, 0\) on 2 pixels.*--palette"):
        decode(colored([(255, 0, 0), (0, 0, 255), (255, 0, 0)]))


def test_strange_color_is_named_with_the_nearest_class():
    data = colored([(0, 0, 255), (250, 3, 0)])
    with pytest.raises(UserError) as fault:
        decode(data, LabelRule(3, table=LFW))
    assert "(250, 3, 0) on 1 pixel, nearest hair (255, 0, 0)" in fault.value.rule
    assert "--color_tolerance=6" in fault.value.hint  # the distance is 5.8
    np.testing.assert_array_equal(decode(data, LabelRule(3, table=LFW, tolerance=6)), [[0, 1]])


def test_ignored_colors_and_classes_of_several_colors():
    table = ColorTable(("road", "car"), ((1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)), (0, 1, 0, None))
    data = colored([(1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)])
    np.testing.assert_array_equal(decode(data, LabelRule(2, ignore_label=9, table=table)), [[0, 1, 0, 9]])


def test_palette_png_whose_colors_contradict_the_table_is_refused():
    blue_is_one = palette_png(np.array([[0, 1]], np.uint8), ((255, 0, 0), (0, 0, 255)))
    with pytest.raises(UserError, match=r"(?s)index 0 is drawn in \(255, 0, 0\).*hair.*convert_color_masks"):
        decode(blue_is_one, LabelRule(3, table=LFW))
    np.testing.assert_array_equal(decode(blue_is_one, LabelRule(3, table=LFW, by_color=True)), [[1, 0]])


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
    ("text", "fault"),
    [("1 2\n", "line 1"), ("1 2 3 a\n1 2 300 b", "line 2"), ("1 2 3 a\n1 2 3 b", "twice"), ("#", "no class")],
)
def test_faults_of_palette_files(tmp_path, text, fault):
    path = tmp_path / "a.palette"
    path.write_text(text)
    with pytest.raises(UserError, match=fault):
        read_color_table(path)


def test_dataset_file_as_palette(tmp_path):
    path = tmp_path / "d.yml"
    path.write_text("classes: [{name: a, color: [1, 2, 3]}, {name: b, color: [4, 5, 6]}]")
    assert read_color_table(path).colors == ((1, 2, 3), (4, 5, 6), IGNORED)
    path.write_text("classes: [a, b]")
    with pytest.raises(UserError, match="no colors"):
        read_color_table(path)


# --- Values -------------------------------------------------------------------------------------------------


def test_values_are_replaced_all_at_once():
    data = encoded(Image.fromarray(np.array([[0, 1, 255]], np.uint8)))
    np.testing.assert_array_equal(decode(data, LabelRule(2, mapping={0: 1, 1: 0})), [[1, 0, 255]])
    np.testing.assert_array_equal(decode(data, LabelRule(2, mapping={255: 1, 1: 255})), [[0, 255, 1]])


@pytest.mark.parametrize(
    ("values", "num_classes", "rule", "hint"),
    [
        ([0, 150, 250], 3, "150 on 1 pixel, 250 on 1 pixel", "--label_map=150:1,250:2"),
        ([0, 1, 3], 3, "(0 to 2, and 255 for ignored pixels): 3 on 1 pixel", "--num_classes=4 if 3 is a class"),
        ([0, 1, 3], 3, "3 on 1 pixel", "--label_map=3:255"),
        ([0, 1, 2, 3, 4, 9], 3, "9 on 1 pixel", "--num_classes=10"),
    ],
)
def test_values_outside_the_classes(values, num_classes, rule, hint):
    with pytest.raises(UserError) as fault:
        decode(encoded(Image.fromarray(np.array([values], np.uint8))), LabelRule(num_classes))
    assert rule in fault.value.rule
    assert hint in fault.value.hint


def test_bad_values_can_be_ignored():
    decoded = decode_label(
        encoded(Image.fromarray(np.array([[0, 7, 255]], np.uint8))), "m", LabelRule(2, ignore_bad=True)
    )
    assert decoded.label.tolist() == [[0, 255, 255]]
    assert decoded.counts[[0, 7, 255]].tolist() == [1, 0, 2]


def test_label_map_text():
    assert parse_label_map(" 255:1, 11:255,") == {255: 1, 11: 255}
    assert spread_map([0, 150, 250]) == "150:1,250:2"
    for bad in ("255", "a:1", "1:256", "-1:0", "1:2,1:3"):
        with pytest.raises(UserError, match="--label_map"):
            parse_label_map(bad)


def test_counting_large_values_and_small():
    assert labels.count_values(np.array([[3, 3, 700]], np.uint16))[[3, 700]].tolist() == [2, 1]
    assert labels.count_values(LABEL)[[0, 1, 2, 255]].tolist() == [1, 2, 2, 1]


# --- Writing ------------------------------------------------------------------------------------------------


def test_index_png_is_exact_and_colored(tmp_path):
    write_index_png(tmp_path / "m.png", LABEL, [(0, 0, 255), (255, 0, 0), (0, 255, 0)])
    picture = Image.open(tmp_path / "m.png")
    np.testing.assert_array_equal(np.asarray(picture), LABEL)
    shown = np.asarray(picture.convert("RGB"))
    assert shown[0].tolist() == [[0, 0, 255], [255, 0, 0], [0, 255, 0]]
    assert tuple(shown[1, 0]) == IGNORED
    np.testing.assert_array_equal(read_label(tmp_path / "m.png", LabelRule(3, table=LFW)), LABEL)


def test_index_png_wants_uint8(tmp_path):
    with pytest.raises(UserError, match="int64"):
        write_index_png(tmp_path / "m.png", LABEL.astype(np.int64))
    assert list(tmp_path.iterdir()) == []


def test_encoded_labels_come_back():
    np.testing.assert_array_equal(tf.io.decode_png(labels.encode_label(LABEL), channels=1)[..., 0], LABEL)


GRAYS = ColorTable(("background", "hair", "skin"), ((0, 0, 0), (255, 255, 255), (128, 128, 128)), (0, 1, 2))


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_grays_of_a_gray_table_are_classes_in_masks_of_any_kind(mode):
    """The CelebA masks: 255 is hair there, not the ignore label."""
    gray = Image.fromarray(np.array([[0, 128, 255]], np.uint8))
    for kind in ("BMP", "PNG"):
        decoded = decode_label(encoded(gray.convert(mode), kind), "a.bmp", LabelRule(3, table=GRAYS))
        np.testing.assert_array_equal(decoded.label, [[0, 2, 1]])
        np.testing.assert_array_equal(Image.open(io.BytesIO(decoded.gray_png)), [[0, 2, 1]])


def test_indices_stay_indices_beside_a_gray_table():
    label = decode_label(
        encoded(Image.fromarray(np.array([[0, 1, 2]], np.uint8))), "a.png", LabelRule(3, table=GRAYS)
    ).label
    np.testing.assert_array_equal(label, [[0, 1, 2]])


def test_stray_grays_are_snapped_and_counted():
    data = encoded(Image.fromarray(np.array([[0, 9, 130, 255]], np.uint8)))
    with pytest.raises(UserError, match="colors that are not in the palette"):
        decode_label(data, "a.png", LabelRule(3, table=GRAYS))
    decoded = decode_label(data, "a.png", LabelRule(3, table=GRAYS, tolerance=20))
    np.testing.assert_array_equal(decoded.label, [[0, 0, 2, 1]])
    assert decoded.snapped == 2


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ([0, 150, 250], "--label_map=150:1,250:2 if these are the classes in order"),
        ([0, 2, 3], "--num_classes=4 if 3 is a class"),
        ([0, 1, 77], "--num_classes=78 if all are classes, --label_map=77:255 if these are to be ignored"),
        ([0, 1, 2, 9, 11], "--num_classes=12 if all are classes, --label_map=9:255,11:255 if these are to be ignored"),
    ],
)
def test_hint_for_values_that_are_no_classes(values, hint):
    """One strange value among class indices must not number the good ones anew."""
    with pytest.raises(UserError) as fault:
        labels.to_label(np.array([values], np.uint8), "a.png", LabelRule(3))
    assert fault.value.hint.startswith(hint)


def test_palette_file_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.palette").write_bytes(b"\xef\xbb\xbf0 0 255 ground\r\n255 0 0 hair\r\n")
    assert read_color_table(tmp_path / "a.palette").names == ("ground", "hair")


VOC_START = ColorTable(("background", "aeroplane", "bicycle"), ((0, 0, 0), (128, 0, 0), (0, 128, 0)), (0, 1, 2))


def test_indices_saved_as_rgb_are_indices_beside_a_table_of_colors():
    """No class has the color (2, 2, 2); black alone stays a color, which this table has not."""
    rgb = np.repeat(np.array([[[0], [2], [1]]], np.uint8), 3, axis=2)
    np.testing.assert_array_equal(
        decode_label(encoded(Image.fromarray(rgb)), "a.png", LabelRule(3, table=LFW)).label, [[0, 2, 1]]
    )
    with pytest.raises(UserError, match="colors that are not in the palette"):
        decode_label(encoded(Image.fromarray(rgb * 0)), "a.png", LabelRule(3, table=LFW))
    near_black = decode_label(encoded(Image.fromarray(rgb // 2)), "a.png", LabelRule(3, table=VOC_START, tolerance=9))
    np.testing.assert_array_equal(near_black.label, [[0, 0, 0]])
