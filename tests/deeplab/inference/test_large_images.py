"""Prediction of TIFF files in windows; most of these tests need rasterio (extra `geo`)."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from support.errors import raises

from deeplab.data.bands import ImageBands
from deeplab.inference import large_images
from deeplab.inference.postprocess import PostprocessedPredictor
from deeplab.inference.predictor import Prediction, Predictor
from deeplab.inference.tiles import TiledPredictor

BANDS = ImageBands(2, "uint16", (2, 1), (0.0, 0.0), (999.0, 999.0))


class BrightOrDark(Predictor):
    """Class 1 where a pixel is brighter than its tile's mean: what it predicts depends on the tile."""

    bands = BANDS

    def __init__(self, bands=BANDS):
        super().__init__("bright", 2)
        self.bands = bands

    def _predict(self, image, probabilities):
        values = image.astype(np.float32).mean(-1)
        bright = 1 / (1 + np.exp(-(values - values.mean()) / 300))
        scores = np.stack([1 - bright, bright], -1).astype(np.float32)
        return Prediction(scores.argmax(-1).astype(np.int32), scores)


@pytest.fixture
def rasterio():
    return pytest.importorskip("rasterio", reason="the extra `geo` is not installed")


@pytest.fixture
def tiff(rasterio, tmp_path):
    """Writes [H, W, C] as a georeferenced TIFF; its path."""

    def write(pixels, **profile):
        height, width, bands = pixels.shape
        place = {"crs": "EPSG:4326", "transform": rasterio.transform.from_origin(10, 50, 0.001, 0.001)}
        size = {"height": height, "width": width, "count": bands, "dtype": str(pixels.dtype)}
        with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **{**place, **size, **profile}) as file:
            file.write(pixels.transpose(2, 0, 1))
        return str(tmp_path / "a.tif")

    return write


def read(rasterio, path):
    with rasterio.open(path) as file:
        return file.read(1), file.crs, file.transform, file.nodata


@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [
        ((70, 90), 32, 8),
        ((70, 90), 33, 16),
        ((33, 90), 32, 0),
        ((40, 40), 64, 8),
        ((64, 64), 32, 0),
        ((31, 200), 30, 15),
    ],
)
def test_windows_give_the_labels_of_tiles_in_memory(rasterio, tiff, tmp_path, size, tile, overlap):
    pixels = np.random.default_rng(1).integers(0, 1000, (*size, 2), np.uint16)
    path = tiff(pixels)
    steps = []
    large_images.predict_file(path, tmp_path / "m.tif", BrightOrDark(), tile, overlap, lambda *done: steps.append(done))
    expected = TiledPredictor(BrightOrDark(), tile, overlap).predict(pixels[..., ::-1].copy()).labels
    labels, crs, transform, nodata = read(rasterio, tmp_path / "m.tif")
    np.testing.assert_array_equal(labels, expected)
    with rasterio.open(path) as image:
        assert (crs, transform, nodata) == (image.crs, image.transform, 255)
    assert steps[-1][0] == steps[-1][1] == len(steps)


def test_pixels_without_a_value_have_no_class(rasterio, tiff, tmp_path):
    pixels = np.random.default_rng(1).integers(1, 1000, (60, 70, 2), np.uint16)
    pixels[:7, :9] = 0
    found = large_images.predict_file(tiff(pixels, nodata=0), tmp_path / "m.tif", BrightOrDark(), 32, 8)
    labels, *_ = read(rasterio, tmp_path / "m.tif")
    np.testing.assert_array_equal(labels == 255, (pixels == 0).all(2))
    assert found.counts.sum() == 60 * 70 - 63


@pytest.mark.parametrize("size", [(50, 80), (2500, 2049)])
def test_images_to_look_at_are_reduced(rasterio, tiff, tmp_path, size):
    pixels = np.zeros((*size, 2), np.uint16)
    pixels[size[0] // 2 :] = 999
    found = large_images.predict_file(tiff(pixels), tmp_path / "m.tif", BrightOrDark(), 1000, 0)
    step = -(-max(size) // 2048)
    labels, *_ = read(rasterio, tmp_path / "m.tif")
    np.testing.assert_array_equal(found.labels, labels[::step, ::step])
    np.testing.assert_array_equal(found.image[..., 0], (pixels[::step, ::step, 0] / 999 * 255).round())


def test_rgb_models_take_ordinary_tiffs(rasterio, tiff, tmp_path):
    predictor = BrightOrDark(ImageBands())
    for bands in (1, 3, 4):
        pixels = np.random.default_rng(1).integers(0, 256, (40, 50, bands), np.uint8)
        path = tiff(pixels)
        assert large_images.is_read_in_windows(path, predictor.bands, None)
        large_images.predict_file(path, tmp_path / "m.tif", predictor, 64, 8)
        rgb = np.repeat(pixels, 3, 2) if bands == 1 else pixels[..., :3]
        np.testing.assert_array_equal(read(rasterio, tmp_path / "m.tif")[0], predictor.predict(rgb).labels)
    assert not large_images.is_read_in_windows(tiff(np.zeros((9, 9, 3), np.uint16)), predictor.bands, None)


def test_small_tiffs_without_a_place_are_predicted_as_other_images_are(rasterio, tiff):
    path = tiff(np.zeros((40, 50, 2), np.uint16), crs=None, transform=None)
    assert not large_images.is_read_in_windows(path, BANDS, None)
    assert large_images.is_read_in_windows(path, BANDS, 33)
    assert not large_images.is_read_in_windows(__file__, BANDS, 33)


def test_what_does_not_go_with_tiles_is_refused(rasterio, tiff, tmp_path):
    path = tiff(np.zeros((40, 50, 2), np.uint16))
    with raises("conflicting-settings", "postprocess", path):
        large_images.predict_file(path, tmp_path / "m.tif", PostprocessedPredictor(BrightOrDark(), []), 33)
    with raises("out-of-range", "tile_overlap"):
        large_images.predict_file(path, tmp_path / "m.tif", BrightOrDark(), 33, 20)
    with raises("wrong-dtype", "input_dtype", path):
        large_images.predict_file(tiff(np.zeros((40, 50, 2), np.float32)), tmp_path / "m.tif", BrightOrDark(), 33, 8)
    assert not (tmp_path / "m.tif").exists()


def test_memory_does_not_grow_with_the_image(rasterio, tmp_path):
    """An image whose probabilities would take 768 MB, in less than 150 MB beyond what the imports take."""
    code = f"""
        import resource, sys
        sys.path[:0] = {sys.path!r}
        import numpy as np, rasterio
        from deeplab.inference import large_images
        from deeplab.data.bands import ImageBands
        from deeplab.inference.predictor import Prediction, Predictor
        class Flat(Predictor):
            bands = ImageBands(2, "uint16", (), (0, 0), (9, 9))
            def _predict(self, image, probabilities):
                return Prediction(None, np.ones((*image.shape[:2], 16), np.float32))
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        profile = dict(driver="GTiff", height=4000, width=3000, count=2, dtype="uint16", tiled=True, compress="deflate")
        with rasterio.open({str(tmp_path / "a.tif")!r}, "w", **profile) as file:
            for top in range(0, 4000, 256):
                rows = min(256, 4000 - top)
                file.write(np.full((2, rows, 3000), top % 999, np.uint16), window=((top, top + rows), (0, 3000)))
        before = peak()
        large_images.predict_file({str(tmp_path / "a.tif")!r}, {str(tmp_path / "m.tif")!r}, Flat("flat", 16), 512, 32)
        print(peak() - before)
    """
    root = str(tmp_path.joinpath(__file__).parents[3])
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) < 150
