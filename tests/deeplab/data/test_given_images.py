"""Whatever is given as an image: arrays, bytes, open files, PIL images, and what is none."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.errors import raises

from deeplab.data.bands import ImageBands
from deeplab.data.given_images import to_pixels, to_rgb
from deeplab.data.images import read_image

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3
RNG = np.random.default_rng(0)


class TestArrays:
    def test_rgb_stays(self):
        np.testing.assert_array_equal(to_rgb(RGB), RGB)

    @pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1)])
    def test_gray_is_repeated(self, shape):
        gray = RGB[..., 0].reshape(shape)
        np.testing.assert_array_equal(to_rgb(gray), np.stack([RGB[..., 0]] * 3, -1))

    def test_alpha_is_dropped(self):
        np.testing.assert_array_equal(to_rgb(np.dstack([RGB, RGB[..., 0]])), RGB)

    @pytest.mark.parametrize(
        ("array", "value", "hint"),
        [
            (RGB / 255.0, "float64", "(array * 255)"),
            (RGB / 127.5 - 1, "float64", "((array + 1) * 127.5)"),
            (RGB.astype(np.float32), "float32", "0..255: give array.astype('uint8')"),
            (np.full((4, 6, 3), np.nan), "float64", "NaN"),
            (RGB.astype(np.int32), "int32", "0..255: give array.astype('uint8')"),
            (RGB.astype(np.int32) - 300, "int32", "scale them to 0..255"),
            (RGB.astype(np.uint16) * 257, "uint16", "(array >> 8)"),
            (RGB.astype(np.uint16) * 16, "uint16", "(array >> 4)"),
            (RGB > 9, "bool", "array.astype('uint8') * 255"),
            (RGB.astype(complex), "complex128", "an array of uint8"),
            (np.full((4, 6), None), "object", "an array of uint8"),
            (np.full((4, 6), "a"), "<U1", "an array of uint8"),
            (RGB[np.newaxis], (1, 4, 6, 3), "array[0]"),
            (RGB[np.newaxis, ..., 0], (1, 4, 6), "array[0]"),
            (np.stack([RGB, RGB]), (2, 4, 6, 3), "call once per image"),
            (RGB.transpose(2, 0, 1), (3, 4, 6), "array.transpose(1, 2, 0)"),
            (RGB[..., :2], (4, 6, 2), "red, green and blue"),
            (RGB[:0], (0, 6, 3), "no pixels"),
            (RGB[0, 0], (3,), "[H, W, 3]"),
        ],
    )
    def test_others_are_refused_with_a_hint(self, array, value, hint):
        with raises("unsupported-pixels", where="the image") as caught:
            to_rgb(array)
        assert caught.value.value == value
        assert hint in caught.value.hint

    @pytest.mark.parametrize(
        ("given", "hint"),
        [
            (None, "cv2.imread"),
            (["a.jpg", "b.jpg"], "once per image"),
            ([RGB, RGB], "once per image"),
            ([[1, 2], [3]], "an array of uint8"),
            ({"image": RGB}, "an array of uint8"),
            (3, "an array of uint8"),
            ((pixel for pixel in RGB), "an array of uint8"),
            ("https://example.org/a.jpg", "download"),
            (io.StringIO("text"), "'rb'"),
        ],
        ids=["None", "paths", "arrays", "ragged", "dict", "number", "generator", "address", "text file"],
    )
    def test_what_is_no_image_is_refused_with_a_hint(self, given, hint):
        with raises("not-an-image") as caught:
            to_rgb(given)
        assert hint in caught.value.hint

    def test_a_closed_file(self):
        closed = io.BytesIO(b"x")
        closed.close()
        with raises("not-an-image", where="the image"):
            to_rgb(closed)

    def test_a_nested_list_of_numbers_is_an_array(self):
        with raises("unsupported-pixels") as caught:  # Python's numbers have 64 bits
            to_rgb(RGB.tolist())
        assert caught.value.value == "int64"


class TestOneJpegDecoder:
    """A JPEG has the same pixels by path, as bytes and as PIL image: those that TensorFlow decodes from records."""

    @pytest.fixture
    def path(self, tmp_path):
        rng = np.random.default_rng(0)
        path = tmp_path / "a.jpg"
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(path, quality=75)
        assert np.abs(np.asarray(Image.open(path), int) - read_image(path)).max() > 0  # else this would prove nothing
        return path

    def test_pil_images(self, path):
        wanted = read_image(path)
        np.testing.assert_array_equal(to_rgb(Image.open(path)), wanted)
        np.testing.assert_array_equal(to_rgb(Image.open(io.BytesIO(path.read_bytes()))), wanted)
        loaded = Image.open(path)
        loaded.load()
        np.testing.assert_array_equal(to_rgb(loaded), wanted)
        multi_picture = io.BytesIO()
        Image.open(path).save(multi_picture, "MPO", save_all=True, append_images=[Image.open(path)], quality=75)
        by_bytes = to_rgb(multi_picture.getvalue())
        np.testing.assert_array_equal(by_bytes, tf.io.decode_jpeg(multi_picture.getvalue()))
        np.testing.assert_array_equal(to_rgb(Image.open(multi_picture)), by_bytes)

    def test_pil_images_that_were_changed_keep_the_change(self, path):
        changed = Image.open(path)
        changed.load()
        changed.putpixel((3, 2), (1, 2, 3))
        assert to_rgb(changed)[2, 3].tolist() == [1, 2, 3]
        np.testing.assert_array_equal(to_rgb(changed), np.asarray(changed))


def test_bytes_and_open_files(tmp_path):
    path = tmp_path / "a.jpg"
    image = Image.fromarray(RNG.integers(0, 256, (24, 40, 3), np.uint8))
    exif = image.getexif()
    exif[274] = 6
    image.save(path, exif=exif)
    wanted = read_image(path)
    np.testing.assert_array_equal(to_rgb(path.read_bytes()), wanted)
    np.testing.assert_array_equal(to_rgb(memoryview(path.read_bytes())), wanted)
    with open(path, "rb") as file:
        np.testing.assert_array_equal(to_rgb(file), wanted)


def test_a_model_gets_its_own_bands_from_whatever_it_is_given(tmp_path):
    bands = ImageBands(2, "uint16", (3, 1), (0.0,) * 2, (9.0,) * 2)
    pixels = RNG.integers(0, 9, (4, 5, 3)).astype(np.uint16)
    np.save(tmp_path / "a.npy", pixels)
    wanted, data = pixels[..., [2, 0]], (tmp_path / "a.npy").read_bytes()
    for given in (tmp_path / "a.npy", data, io.BytesIO(data), np.ascontiguousarray(wanted)):
        np.testing.assert_array_equal(to_pixels(given, bands), wanted)
    with raises("wrong-channels", "input_channels"):
        to_pixels(pixels, bands)
    np.save(tmp_path / "a.npy", pixels.astype(np.uint8))
    with raises("wrong-dtype", "input_dtype", "a.npy"):
        to_pixels(tmp_path / "a.npy", bands)
