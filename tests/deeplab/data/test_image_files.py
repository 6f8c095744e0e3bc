"""Image files: formats, sizes, every way of being cut off or damaged, and the search for them in folders."""

import io
import os
import re
import socket
import sys
import types
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support.errors import raises

from deeplab.data.image_files import ImageFacts, check_jpeg_structure, find_images, inspect_image, kind_of

# The room turns Pillow's own warnings off; pytest turns them on again.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")


def noise(height=48, width=64, channels=3):
    return np.random.default_rng(0).integers(0, 256, [height, width, channels], np.uint8)


def encoded(kind, pixels=None, **settings):
    buffer = io.BytesIO()
    Image.fromarray(noise() if pixels is None else pixels).save(buffer, kind, **settings)
    return buffer.getvalue()


JPEG, PNG = encoded("JPEG"), encoded("PNG")
SIDEWAYS = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # EXIF: orientation 6


@pytest.mark.parametrize(("data", "kind"), [(JPEG, "jpeg"), (PNG, "png"), (encoded("JPEG", progressive=True), "jpeg")])
def test_whole_images(data, kind):
    for decode in (False, True):
        facts = inspect_image(data, "a.jpg", decode)
        assert facts == ImageFacts(kind, height=48, width=64)
        assert facts.orientation == 1 and facts.direct
        assert not any([facts.rotated, facts.alpha, facts.damaged, facts.deep, facts.pages, facts.cmyk])


def test_restart_markers_are_no_end():
    data = encoded("JPEG", restart_marker_blocks=1)
    assert b"\xff\xd0" in data
    check_jpeg_structure(data)


def test_bytes_after_the_end_are_let_pass():
    check_jpeg_structure(JPEG + b"second image of a phone")


@pytest.mark.parametrize("data", [JPEG, PNG, encoded("JPEG", progressive=True)])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_truncated_files_are_found_as_tensorflow_would(data, share):
    cut = data[: int(len(data) * share)]
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.io.decode_image(cut)
    with raises("unreadable-image", where="a.jpg"):
        inspect_image(cut, "a.jpg")


def test_file_filled_up_with_zeros_is_found():
    """What a copy that broke off leaves when the space was reserved before; Pillow alone reads it without a word."""
    half = len(JPEG) // 2
    with raises("unreadable-image") as caught:
        inspect_image(JPEG[:half] + bytes(len(JPEG) - half), "a.jpg")
    assert "truncated" in caught.value.rule


def test_foreign_bytes_within_the_image_are_found():
    half = len(JPEG) // 2
    with raises("unreadable-image"):
        inspect_image(JPEG[:half] + b"\xff\xc5 other file" + JPEG[half + 13 :], "a.jpg")


def test_odd_file_that_tensorflow_reads_is_only_noted():
    start = JPEG.index(b"\xff\xdb")
    odd = JPEG[:start] + b"\0\0" + JPEG[start:]  # junk between segments, which libjpeg skips
    assert inspect_image(odd, "a.jpg").damaged


def chunk(kind, body):
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png(height, width, *chunks, depth=8, colors=2, pixels=b"\0" * 100):
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colors, 0, 0, 0])
    body = chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + body


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "unreadable-image", "is empty"),
        (b"BM....", "unsupported-format", "is BMP inside and neither JPEG nor PNG"),
        (b"\xff\xd8\xff", "unreadable-image", "JPEG header is damaged"),
        (
            b"\0\0\0\x18ftypheic",
            "unsupported-format",
            r"HEIC.*deeplab-tensorflow\[heif\].* as JPEG",
        ),
        (b"\0\0\0\x18ftypisom", "unsupported-format", "a video.*ffmpeg"),
        (b"version https://git-lfs.github.com/spec/v1", "unsupported-format", "Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "unsupported-format", "web page"),
        (bytes(128) + b"DICM", "unsupported-format", "DICOM"),
        (b"no image\nat all", "unsupported-format", "it is text, 'no image at all'"),
        (bytes(range(128, 200)), "unsupported-format", "none of the formats"),
    ],
)
def test_other_files_are_called_by_their_name(data, code, words):
    with raises(code, where="a.jpg") as caught:
        inspect_image(data, "a.jpg")
    assert re.search(words, f"{caught.value.rule} {caught.value.hint}")


def test_heic_is_read_with_the_library_of_its_extra(monkeypatch):
    registered = []
    library = types.SimpleNamespace(register_heif_opener=lambda: registered.append(True))
    monkeypatch.setitem(sys.modules, "pillow_heif", library)
    assert kind_of(b"\0\0\0\x18ftypheic", "a.heic") == "heif"
    assert registered


def test_kinds_are_told_by_content():
    kinds = {"JPEG": "jpeg", "PNG": "png", "TIFF": "tiff", "BMP": "bmp", "GIF": "gif", "WEBP": "webp", "PPM": "ppm"}
    kinds |= {"AVIF": "avif", "JPEG2000": "jpeg2000"}
    assert {name: kind_of(encoded(name), "a.jpg") for name in kinds} == kinds


# --- Hostile sizes ------------------------------------------------------------------------------------------


def test_too_large_an_image_is_refused_with_the_limit():
    with raises("image-too-large", where="a.png") as caught:
        inspect_image(png(60000, 60000), "a.png")
    assert caught.value.rule == "has 3,600,000,000 pixels; more than 178,956,970 are not read"


def test_sizes_that_so_few_bytes_cannot_fill():
    with raises("unreadable-image") as caught:
        inspect_image(png(10000, 12000), "a.png")
    assert "truncated: 12000x10000 pixels cannot come from 69 bytes" in caught.value.rule
    size = JPEG.index(b"\xff\xc0") + 5
    with raises("unreadable-image") as caught:
        inspect_image(JPEG[:size] + b"\x23\x28\x23\x28" + JPEG[size + 4 :], "a.jpg")
    assert "truncated: 9000x9000 pixels" in caught.value.rule


def test_blank_images_are_not_taken_for_truncated_ones():
    blank = np.full([3000, 4000], 255, np.uint8)
    for data in (encoded("PNG", blank, compress_level=9), encoded("JPEG", blank, progressive=True)):
        assert not inspect_image(data, "a").damaged


def test_sides_that_tensorflow_does_not_read():
    with raises("unreadable-image") as caught:
        inspect_image(png(1, 1_000_001, colors=0), "a.png")
    assert "no side may be above 1,000,000" in caught.value.rule


def test_missing_pixels_or_palette_are_found():
    with raises("unreadable-image") as caught:
        inspect_image(png(1, 4, colors=3, pixels=b"\0\0\1\2\3"), "a.png")
    assert "palette are missing" in caught.value.rule


def test_png_with_too_few_pixels_is_found_by_decoding():
    short = png(8, 8, pixels=bytes(100))  # 200 are needed
    inspect_image(short, "a.png")
    with raises("unreadable-image") as caught:
        inspect_image(short, "a.png", decode=True)
    assert "pixels cannot be decoded" in caught.value.rule


# --- What is noted ------------------------------------------------------------------------------------------


def with_exif(block):
    """The JPEG with an EXIF block of these bytes."""
    body = b"Exif\0\0" + block
    return JPEG[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + JPEG[2:]


def test_orientation_and_alpha_are_noted():
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG"):
        turned = inspect_image(encoded(kind, exif=exif), "a.jpg")
        assert (turned.orientation, turned.rotated, turned.height, turned.width) == (6, True, 48, 64)
    assert inspect_image(encoded("PNG", noise(channels=4)), "a.png").alpha
    assert inspect_image(png(1, 1, chunk(b"tRNS", bytes(6)), pixels=bytes(4)), "a.png").alpha


def test_orientation_behind_the_pixels_of_a_png():
    exif = Image.Exif()
    exif[0x0112] = 8
    end = chunk(b"IEND", b"")
    assert inspect_image(PNG[: -len(end)] + chunk(b"eXIf", exif.tobytes()[6:]) + end, "a.png").orientation == 8


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"garbage, not EXIF",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x05\0\0\0\x01\xff\xff\xff\xff",  # a fraction, beyond the end
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x01\0\0\0A\0\0\0\0\0\0\0",  # text
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0\0\0\0\0",  # 9
    ],
)
def test_broken_exif_blocks_count_as_upright(block):
    facts = inspect_image(with_exif(block), "a.jpg")
    assert (facts.orientation, facts.height, facts.width) == (1, 48, 64)
    png_facts = inspect_image(PNG[:33] + chunk(b"eXIf", block) + PNG[33:], "a.png")
    assert (png_facts.orientation, png_facts.height, png_facts.width) == (1, 48, 64)


def test_a_png_with_a_broken_block_is_noted():
    assert inspect_image(PNG[:33] + chunk(b"eXIf", b"garbage, not EXIF") + PNG[33:], "a.png").damaged


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("XML:com.adobe.xmp", '<x:xmpmeta tiff:Orientation="6"/>'),
        (
            "Raw profile type exif",
            f"\nexif\n  32\n{(b'Exif' + bytes(2) + SIDEWAYS).hex()}\n",
        ),  # as ImageMagick writes it
    ],
)
def test_orientation_in_the_texts_of_a_png(keyword, text, compressed):
    texts = PngInfo()
    texts.add_itxt(keyword, text, zip=compressed)
    assert inspect_image(encoded("PNG", pnginfo=texts), "a.png").orientation == 6


def test_the_same_block_unbroken_counts():
    assert inspect_image(with_exif(SIDEWAYS), "a.jpg").orientation == 6


def test_deep_printed_and_animated_images_are_noted():
    assert inspect_image(png(1, 2, depth=16, colors=0, pixels=bytes(5)), "a.png").deep
    printed = io.BytesIO()
    Image.new("CMYK", (4, 4)).save(printed, "JPEG")
    assert inspect_image(printed.getvalue(), "a.jpg").cmyk
    moving = io.BytesIO()
    Image.fromarray(noise()).save(moving, "PNG", save_all=True, append_images=[Image.fromarray(noise()[::-1])])
    assert inspect_image(moving.getvalue(), "a.png").pages


# --- Finding files ------------------------------------------------------------------------------------------


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    (folder / "day").mkdir(parents=True)
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "day/c.jpeg"):
        (folder / name).touch()
    return folder


def names(files):
    return [file.name for file in files]


def test_images_of_a_folder(album):
    assert names(find_images([str(album)])) == ["a", "b"]


def test_images_of_inner_folders(album):
    assert names(find_images([str(album)], recursive=True)) == ["a", "b", "day/c"]


def test_files_patterns_and_commas(album):
    found = find_images([f"{album}/b.jpg,{album}/a.PNG", f"{album}/day/*.jpeg", f"{album}/b.jpg"])
    assert names(found) == ["b", "a", "c"]


def test_nothing_is_found(album):
    with raises("file-not-found", field="input") as caught:
        find_images([f"{album}/c.jpg"])
    assert caught.value.value == f"{album}/c.jpg"
    assert "a.PNG" in caught.value.hint
    (album / "day" / "c.jpeg").rename(album / "c.jpeg")
    with raises("no-images", where=album / "day"):
        find_images([f"{album}/day"])


def test_images_one_folder_deeper(album):
    for name in ("a.PNG", "b.jpg"):
        (album / name).unlink()
    with raises("no-images", where=album) as caught:
        find_images([str(album)])
    assert caught.value.hint == "`recursive=true` searches its folders as well (day)"


def test_two_results_of_one_name(album):
    (album / "b.png").touch()
    with raises("duplicate-names", field="input") as caught:
        find_images([str(album)])
    assert caught.value.value == "b"


def test_files_that_are_left_out_are_counted(album, capsys):
    for name in ("phone.heic", "web.avif", "scan.jp2", "clip.mp4", "other.mp4", "no_suffix"):
        (album / name).touch()
    assert names(find_images([str(album)])) == ["a", "b", "phone", "scan", "web"]
    assert "4 files left out: .mp4 2, no extension 1, .txt 1" in capsys.readouterr().err


def test_patterns_search_below(album):
    (album / "up").symlink_to("..")
    folder = album.parent
    assert names(find_images([f"{album}/**/c.*"])) == ["c"]
    assert names(find_images([f"{folder}/**/day/**/*.jp*g"])) == ["c"]
    with raises("file-not-found", field="input"):
        find_images([f"{folder}/**/day/*.png"])


def test_folders_that_links_lead_to_are_searched_once(album):
    """Two links would make 2**40 folders."""
    (album / "up").symlink_to("..")
    (album / "here").symlink_to(".")
    (album / "day" / "again").symlink_to("..")
    assert names(find_images([str(album)], recursive=True)) == ["a", "b", "day/c"]


@pytest.mark.skipif(os.name == "nt", reason="there are no pipes in folders")
def test_what_is_no_file_is_left_out_of_folders_and_refused_by_name(album, capsys):
    os.mkfifo(album / "pipe.jpg")
    (album / "zero.jpg").symlink_to("/dev/zero")
    (album / "gone.jpg").symlink_to("nowhere.jpg")
    (album / "folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(album / "socket.jpg"))
        assert names(find_images([str(album)])) == ["a", "b"]
        assert "no regular file 4" in capsys.readouterr().err
        for name in ("pipe.jpg", "zero.jpg", "socket.jpg"):
            with raises("not-a-file", where=name):
                find_images([str(album / name)])
    with raises("file-not-found", where="gone.jpg"):
        find_images([str(album / "gone.jpg")])
