"""Pictures as people have them."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from deeplab.inference import input_images
from deeplab.utils.errors import UserError

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


class TestArrays:
    def test_rgb_stays(self):
        np.testing.assert_array_equal(input_images.to_rgb(RGB), RGB)

    @pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1)])
    def test_gray_is_repeated(self, shape):
        gray = RGB[..., 0].reshape(shape)
        np.testing.assert_array_equal(input_images.to_rgb(gray), np.stack([RGB[..., 0]] * 3, -1))

    def test_alpha_is_dropped(self):
        np.testing.assert_array_equal(input_images.to_rgb(np.dstack([RGB, RGB[..., 0]])), RGB)

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (RGB / 255.0, r"not float64\n.*array \* 255"),
            (RGB.astype(np.int32), r"not int32\n.*astype\('uint8'\)"),
            (RGB[np.newaxis], r"not \[1, 4, 6, 3\]"),
            (RGB[..., :2], r"not \[4, 6, 2\]"),
            (RGB[:0], r"not \[0, 6, 3\]"),
        ],
    )
    def test_others_are_refused_with_a_hint(self, array, words):
        with pytest.raises(UserError, match=words):
            input_images.to_rgb(array)


class TestFiles:
    def test_every_exif_mark(self, tmp_path, capsys):
        """All eight turns and mirrorings, as Pillow does them."""
        path = tmp_path / "turned.jpg"
        Image.fromarray(RGB).save(path)
        as_stored = Image.fromarray(input_images.read(path))
        for mark in range(1, 9):
            as_stored.getexif()[0x0112] = mark
            Image.fromarray(RGB).save(path, exif=as_stored.getexif())
            np.testing.assert_array_equal(input_images.read(path), np.asarray(ImageOps.exif_transpose(as_stored)))
        assert capsys.readouterr().err.count("turned upright") == 7

    def test_exif_of_a_png(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
        np.testing.assert_array_equal(input_images.read(tmp_path / "a.png"), np.rot90(RGB, -1))

    def test_palette_and_gray_and_transparency(self, tmp_path, capsys):
        Image.fromarray(RGB[..., 0]).save(tmp_path / "gray.png")
        Image.fromarray(RGB).quantize(256).save(tmp_path / "palette.png")
        Image.fromarray(np.dstack([RGB, np.full((4, 6), 9, np.uint8)])).save(tmp_path / "rgba.png")
        np.testing.assert_array_equal(input_images.read(tmp_path / "gray.png"), np.stack([RGB[..., 0]] * 3, -1))
        np.testing.assert_array_equal(input_images.read(tmp_path / "palette.png"), RGB)
        np.testing.assert_array_equal(input_images.read(tmp_path / "rgba.png"), RGB)
        assert "rgba.png: its transparency is dropped" in capsys.readouterr().err

    def test_16_bit_gray_keeps_its_tones(self, tmp_path, capsys):
        Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "deep.png")
        np.testing.assert_array_equal(input_images.read(tmp_path / "deep.png")[0, :, 0], [0, 1, 255])
        assert "16-bit gray" in capsys.readouterr().err

    def test_bad_files_are_named(self, tmp_path):
        (tmp_path / "text.png").write_text("no picture")
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "a.jpg")
        (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:1500])
        with pytest.raises(UserError, match=r"text\.png: cannot be read as a picture"):
            input_images.read(tmp_path / "text.png")
        with pytest.raises(UserError, match=r"cut\.jpg: cannot be read as a picture"):
            input_images.read(tmp_path / "cut.jpg")
        with pytest.raises(UserError, match=r"none\.jpg: no such file"):
            input_images.read(tmp_path / "none.jpg")


class TestFind:
    @pytest.fixture
    def album(self, tmp_path):
        (tmp_path / "day").mkdir()
        for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "day/c.jpeg"):
            (tmp_path / name).touch()
        return tmp_path

    def test_folder(self, album):
        assert [picture.name for picture in input_images.find([str(album)])] == ["a", "b"]

    def test_recursive(self, album):
        assert [picture.name for picture in input_images.find([str(album)], recursive=True)] == ["a", "b", "day/c"]

    def test_files_patterns_and_commas(self, album):
        found = input_images.find([f"{album}/b.jpg,{album}/a.PNG", f"{album}/day/*.jpeg", f"{album}/b.jpg"])
        assert [picture.name for picture in found] == ["b", "a", "c"]

    def test_nothing_there(self, album):
        with pytest.raises(UserError, match=r"no file, folder or match of '.*c\.jpg'\n.*holds .*a\.PNG"):
            input_images.find([f"{album}/c.jpg"])
        (album / "day" / "c.jpeg").rename(album / "c.jpeg")
        with pytest.raises(UserError, match="holds no picture"):
            input_images.find([f"{album}/day"])

    def test_pictures_one_folder_deeper(self, album):
        for name in ("a.PNG", "b.jpg"):
            (album / name).unlink()
        with pytest.raises(UserError, match=r"--recursive=true looks into its folders, too \(day\)"):
            input_images.find([str(album)])

    def test_two_results_of_one_name(self, album):
        (album / "b.png").touch()
        with pytest.raises(UserError, match=r"b\.jpg and .*b\.png would both be written as 'b'"):
            input_images.find([str(album)])
