"""Inputs of every kind become pixels; bad ones are named."""

import io
import sys
import types

import numpy as np
import pytest
from PIL import Image
from support.errors import raises
from support.file_server import FileServer

from deeplab.inference import inputs


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


@pytest.fixture
def server():
    server = FileServer(png(PIXELS), "photo_one.png")
    yield server
    server.close()


def pipe(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))


def test_standard_input(monkeypatch):
    pipe(monkeypatch, png(PIXELS))
    (file,) = inputs.find_inputs(["-"])
    assert file.name == "stdin"
    np.testing.assert_array_equal(inputs.read(file), PIXELS)
    pipe(monkeypatch, b"no image")
    with raises("unsupported-format", where="standard input"):
        inputs.read(file)


def test_standard_input_has_a_limit(monkeypatch):
    monkeypatch.setattr(inputs, "_MAX_BYTES", 10)
    pipe(monkeypatch, bytes(11))
    with raises("file-too-large", where="standard input"):
        inputs.read(inputs.find_inputs(["-"])[0])


def test_an_address(server):
    (file,) = inputs.find_inputs([server.address])
    assert file.name == "photo_one"
    np.testing.assert_array_equal(inputs.read(file), PIXELS)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x.png"])
def test_an_address_that_leads_elsewhere_is_not_followed(server, target):
    server.redirect = target
    with raises("download-failed") as caught:
        inputs.read(inputs.RemoteImage(server.address, "x"))
    assert "edirect" in str(caught.value)


def test_an_address_that_is_too_large_or_missing(server, monkeypatch):
    address = server.address
    monkeypatch.setattr(inputs, "_LIMIT", inputs.download.SizeLimit(20, "images are not that large", ""))
    with raises("file-too-large"):
        inputs.read(inputs.RemoteImage(address, "x"))
    server.statuses = [404]
    with raises("download-failed"):
        inputs.read(inputs.RemoteImage(address, "x"))


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://a.b/c/d.e.jpg?x=/y.png#z", "d.e"),
        ("https://a.b", "image"),
        ("https://a.b/..%2f..%2fetc", "etc"),
        ("https://a.b/%5c..%5cevil.png", "evil"),
        ("https://a.b/a%3Ab%00.png", "a_b_"),
    ],
)
def test_names_from_addresses_stay_inside_the_folder(address, name):
    assert inputs.find_inputs([address])[0].name == name


@pytest.mark.parametrize(("suffix", "kind"), [(".tif", "TIFF"), (".gif", "GIF"), (".webp", "WEBP"), (".png", "PNG")])
def test_pages(tmp_path, suffix, kind):
    frames = [Image.fromarray(np.full((5, 7, 3), value, np.uint8)) for value in (0, 120, 250)]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(tmp_path / f"book{suffix}", kind, save_all=True, append_images=frames[1:], **options)
    found = inputs.find_inputs([str(tmp_path / f"book{suffix}")], all_pages=True)
    assert [file.name for file in found] == ["book_0000", "book_0001", "book_0002"]
    pixels = [inputs.read(file) for file in found]
    assert [abs(int(one.mean()) - value) < 3 for one, value in zip(pixels, (0, 120, 250), strict=True)] == [True] * 3
    assert all(one.shape == (5, 7, 3) for one in pixels)
    assert len(inputs.find_inputs([str(tmp_path / f"book{suffix}")])) == 1


def test_files_of_one_page_keep_their_name(tmp_path):
    (tmp_path / "one.png").write_bytes(png(PIXELS))
    (tmp_path / "broken.tif").write_bytes(b"II*\0 broken")
    found = inputs.find_inputs([str(tmp_path)], all_pages=True)
    assert [file.name for file in found] == ["broken", "one"]
    np.testing.assert_array_equal(inputs.read(found[1]), PIXELS)


def test_two_results_of_one_name(tmp_path):
    (tmp_path / "a.png").write_bytes(png(PIXELS))
    with raises("duplicate-names", "input"):
        inputs.find_inputs([str(tmp_path / "a.png"), "https://a.b/a.jpg"])


def test_videos_among_the_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.mp4", "a.MP4", "3"):
        (tmp_path / name).touch()
    videos, others = inputs.find_videos(["*.mp4, x.jpg", "0", "3", "none.mov"])
    assert videos == ["b.mp4", "0", "none.mov"] and others == ["x.jpg", "3"]
    assert inputs.is_video("a.MP4") and not inputs.is_video("-") and not inputs.is_video("٣")
