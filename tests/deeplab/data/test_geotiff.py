"""TIFF files of any bands, read and written in windows; these tests need rasterio (extra `geo`)."""

import sys

import numpy as np
import pytest
from support.errors import raises

from deeplab.data import geotiff, images
from deeplab.data.bands import ImageBands


@pytest.fixture
def rasterio():
    return pytest.importorskip("rasterio", reason="the extra `geo` is not installed")


def write(rasterio, path, pixels, **profile):
    """Writes [H, W, C] as tiled TIFF."""
    height, width, bands = pixels.shape
    size = {"height": height, "width": width, "count": bands, "dtype": str(pixels.dtype)}
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    with rasterio.open(path, "w", driver="GTiff", **{**size, **tiled, **profile}) as file:
        file.write(pixels.transpose(2, 0, 1))
    return str(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int16"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("bands", [1, 4, 16])
def test_bands_and_windows_of_any_tiff_are_read_as_they_are(rasterio, tmp_path, dtype, interleave, bands):
    pixels = (np.random.default_rng(0).random((50, 37, bands)) * 250).astype(dtype)
    path = write(rasterio, tmp_path / "a.tif", pixels, interleave=interleave)
    assert geotiff.size_and_bands(path) == images.raster_size(path) == (50, 37, bands)
    raster = images.read_raster(path)
    assert raster.valid is None and raster.pixels.dtype == ("float32" if dtype == "int16" else dtype)
    np.testing.assert_array_equal(raster.pixels, pixels)
    window = images.read_raster(path, (bands, 1) if bands > 1 else (1,), (20, 5, 17, 30)).pixels
    np.testing.assert_array_equal(window[..., 0], pixels[20:37, 5:35, -1])


def test_nodata_marks_pixels_without_a_value_in_all_bands(rasterio, tmp_path):
    pixels = np.ones((20, 20, 2), np.uint16)
    pixels[:3], pixels[5, 5, 0] = 0, 0
    path = write(rasterio, tmp_path / "a.tif", pixels, nodata=0)
    raster = images.read_raster(path)
    np.testing.assert_array_equal(raster.valid, (pixels > 0).any(2))
    assert raster.notes == ("nodata",)
    assert images.read_raster(path, (), (3, 0, 17, 20)).valid is None
    assert images.read_raster(write(rasterio, tmp_path / "b.tif", pixels)).valid is None


def test_labels_are_written_with_the_georeference_of_the_image(rasterio, tmp_path):
    place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(400000, 5e6, 10, 10)}
    path = write(rasterio, tmp_path / "a.tif", np.ones((20, 30, 1), np.uint8), **place)
    labels = np.random.default_rng(0).integers(0, 3, (20, 30)).astype(np.uint8)
    colors = np.arange(768).reshape(256, 3).astype(np.uint8)
    with geotiff.writing_labels(tmp_path / "m.tif", (20, 30), geotiff.georeference(path), colors, 255) as put:
        put((0, 0, 20, 17), labels[:, :17])
        put((0, 17, 20, 13), labels[:, 17:])
    with rasterio.open(tmp_path / "m.tif") as file:
        np.testing.assert_array_equal(file.read(1), labels)
        assert (file.crs.to_string(), file.transform, file.nodata) == ("EPSG:32633", place["transform"], 255)
        assert file.colormap(1)[2] == (6, 7, 8, 255)


def test_a_tiff_without_a_place_has_none(rasterio, tmp_path):
    path = write(rasterio, tmp_path / "a.tif", np.ones((20, 30, 1), np.uint8))
    assert geotiff.georeference(path) is None


def test_an_interrupted_file_does_not_appear(rasterio, tmp_path):
    colors = np.zeros((256, 3), np.uint8)
    with pytest.raises(KeyboardInterrupt), geotiff.writing_labels(tmp_path / "m.tif", (20, 30), None, colors):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with (
        raises("unwritable-file", where="m.tif"),
        geotiff.writing_labels(tmp_path / "no/m.tif", (20, 30), None, colors),
    ):
        pass


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: data[: len(data) // 2]])
def test_damaged_files_are_named(rasterio, tmp_path, damage):
    pixels = np.random.default_rng(0).integers(0, 60000, (64, 64, 4), np.uint16)
    path = write(rasterio, tmp_path / "a.tif", pixels)
    (tmp_path / "a.tif").write_bytes(damage((tmp_path / "a.tif").read_bytes()))
    with raises("unreadable-image", where="a.tif"):
        images.read_raster(path)


def test_what_is_no_tiff_is_not_taken_for_one(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"no TIFF")
    assert not geotiff.is_tiff(tmp_path / "a.tif") and not geotiff.is_tiff(tmp_path / "gone.tif")


def test_without_rasterio_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(40))
    assert not geotiff.is_available()
    with raises("missing-library", where="a.tif") as error:
        images.read_raster(tmp_path / "a.tif")
    assert "[geo]" in error.value.hint


def test_more_bands_than_models_take_can_be_chosen_from(rasterio, tmp_path):
    path = write(rasterio, tmp_path / "a.tif", np.ones((20, 20, 20), np.uint8))
    with raises("unsupported-pixels", "bands", "a.tif"):
        images.read_raster(path)
    assert images.read_bands(path, ImageBands(2, "uint8", (20, 1))).pixels.shape == (20, 20, 2)
