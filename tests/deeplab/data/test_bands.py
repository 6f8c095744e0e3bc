"""Bands: scaling, statistics, quick looks, and the settings that choose them."""

import numpy as np
import pytest
from support.errors import raises

from deeplab.config.model_config import ModelConfig
from deeplab.data import transforms
from deeplab.data.bands import (
    RGB,
    BandHistogram,
    ImageBands,
    bands_of,
    describe_bands,
    model_settings,
    parse_bands,
    parse_scale,
    require_same_bands,
    stretched,
)

RANDOM = np.random.default_rng(0)
DEEP = ImageBands(2, "uint16", (), (100.0, 0.0), (1100.0, 65535.0))


def test_values_are_scaled_cut_and_never_nan():
    bands = ImageBands(1, "float32", (), (-1.0,), (1.0,))
    values = np.array([[-2, -1, 0, 1, 9, np.nan, np.inf, -np.inf]], np.float32)[..., np.newaxis]
    wanted = [0, 0, 127.5, 255, 255, 0, 255, 0]
    np.testing.assert_allclose(bands.scaled(values)[0, :, 0], wanted)
    np.testing.assert_array_equal(transforms.scale_values(values, bands).numpy()[0, :, 0], wanted)
    clipped = bands.clipped(values)
    np.testing.assert_allclose(bands.scaled(clipped), bands.scaled(values))
    assert np.isfinite(clipped).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_arrays_and_graphs_scale_alike(dtype):
    pixels = (RANDOM.random((5, 6, 3)) * 250).astype(dtype)
    bands = ImageBands(3, dtype, (), (10.0, 20.0, 0.5), (200.0, 90.0, 100.0))
    np.testing.assert_allclose(transforms.scale_values(pixels, bands), bands.scaled(pixels), atol=1e-4)


def test_rgb_is_left_as_it_is():
    pixels = RANDOM.integers(0, 256, (4, 4, 3), np.uint8)
    np.testing.assert_array_equal(transforms.scale_values(pixels, RGB), pixels.astype(np.float32))
    assert RGB.is_rgb and not ImageBands(3, "uint16", (), (0.0,) * 3, (1.0,) * 3).is_rgb


def test_a_quick_look_shows_the_first_three_bands_or_one_in_gray():
    bands = ImageBands(4, "uint16", (), (0.0,) * 4, (1000.0,) * 4)
    pixels = np.zeros((1, 1, 4), np.uint16)
    pixels[0, 0] = 0, 500, 1000, 7
    np.testing.assert_array_equal(bands.quick_look(pixels)[0, 0], [0, 128, 255])
    two = ImageBands(2, "uint16", (), (0.0,) * 2, (1000.0,) * 2)
    np.testing.assert_array_equal(two.quick_look(pixels[..., 1:3])[0, 0], [128] * 3)
    assert ImageBands(1, "float32").quick_look(np.full((2, 2, 1), np.nan, np.float32)).shape == (2, 2, 3)


def test_other_channels_and_types_are_refused_with_the_setting():
    with raises("wrong-channels", "input_channels", "a.tif") as error:
        DEEP.require(np.zeros((2, 2, 3), np.uint16), "a.tif")
    assert error.value.value == 3
    with raises("wrong-dtype", "input_dtype", "a.tif"):
        DEEP.require(np.zeros((2, 2, 2), np.uint8), "a.tif")
    with raises("unsupported-pixels", where="a.tif"):
        DEEP.require(np.zeros((2, 2), np.uint16), "a.tif")


def test_a_dataset_of_another_kind_than_the_model_takes_is_refused():
    require_same_bands(DEEP, DEEP, "run", "scenes")
    with raises("wrong-channels", "dataset"):
        require_same_bands(RGB, DEEP, "run", "photos")
    with raises("wrong-dtype", "dataset"):
        require_same_bands(ImageBands(2), DEEP, "run", "photos")


def test_the_models_config_holds_all_of_it():
    bands = ImageBands(2, "uint16", (4, 1), (1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0))
    assert bands_of(ModelConfig(**model_settings(bands))) == bands
    assert bands_of(ModelConfig()) == RGB
    assert bands_of(ModelConfig(input_channels=2, input_dtype="uint16", input_range=(0, 9))).high == (9.0, 9.0)


@pytest.mark.parametrize(("text", "numbers"), [("", None), ("all", ()), ("4,3,2", (4, 3, 2)), (" 1 ", (1,))])
def test_bands_are_numbers_from_one(text, numbers):
    assert parse_bands(text) == numbers


@pytest.mark.parametrize("text", ["0,1", "1,1", "red", "1;2", "-1", ",".join(map(str, range(1, 18)))])
def test_other_bands_are_refused(text):
    with raises("invalid-bands", "bands"):
        parse_bands(text)


def test_a_scale_is_one_pair_or_one_per_band():
    assert parse_scale((0, 10), 2) == ((0, 0), (10, 10))
    assert parse_scale((0, 10, 1, 5), 2) == ((0, 1), (10, 5))
    for wrong in ((0,), (5, 5), (9, 1), (0, 1, 2, 3, 4, 5)):
        with raises("invalid-scale", "scale_from"):
            parse_scale(wrong, 2)


class TestStatistics:
    def test_percentiles_and_moments_of_whole_numbers_are_exact(self):
        pixels = np.stack([np.arange(10000), np.full(10000, 7)], -1).reshape(100, 100, 2).astype(np.uint16)
        histogram = BandHistogram(2, "uint16")
        histogram.add(pixels)
        bands = describe_bands(ImageBands(2, "uint16"), histogram, ())
        assert (bands.low, bands.high) == ((99, 7), (9899, 8))
        scaled = bands.scaled(pixels).reshape(-1, 2)
        np.testing.assert_allclose(bands.mean, scaled.mean(0, dtype=np.float64), rtol=1e-4)
        np.testing.assert_allclose(bands.std[0], scaled[:, 0].std(dtype=np.float64), rtol=1e-4)
        assert bands.std[1] == 1  # of a band that is the same everywhere

    @pytest.mark.parametrize("offset", [0.0, -5.0, 1e6, -1e-4])
    def test_those_of_floats_are_near(self, offset):
        pixels = (RANDOM.normal(0, 2, (200, 200, 1)) + offset).astype(np.float32)
        histogram = BandHistogram(1, "float32")
        histogram.add(pixels)
        (low,), (high,) = histogram.bounds()
        wanted = np.percentile(pixels, (1, 99))
        np.testing.assert_allclose((low, high), wanted, rtol=0.005, atol=0.03)
        assert low < high

    def test_pixels_without_a_value_do_not_count(self):
        pixels = np.array([[1.0, np.nan, np.inf, 3.0, -9999.0]], np.float32)[..., np.newaxis]
        histogram = BandHistogram(1, "float32")
        histogram.add(pixels, pixels[..., 0] != -9999)
        assert histogram.counts.sum() == 2

    def test_parts_add_up_to_the_whole_and_travel_as_text(self):
        pixels = RANDOM.integers(0, 65536, (40, 30, 2), np.uint16)
        whole, first, second = (BandHistogram(2, "uint16") for _ in range(3))
        whole.add(pixels)
        first.add(pixels[:13])
        second.add(pixels[13:])
        first.merge(BandHistogram.from_text(2, "uint16", second.to_text()))
        np.testing.assert_array_equal(first.counts, whole.counts)

    def test_8_bits_keep_their_values_unless_a_scale_is_given(self):
        histogram = BandHistogram(1, "uint8")
        histogram.add(np.full((4, 4, 1), 9, np.uint8))
        assert describe_bands(ImageBands(1), histogram, ()).low == ()
        assert describe_bands(ImageBands(1), histogram, (0, 100)).high == (100,)

    def test_an_image_alone_is_stretched_from_end_to_end(self):
        pixels = np.array([[[5.0, 1.0], [15.0, np.nan]]], np.float32)
        bands = stretched(pixels)
        assert (bands.low, bands.high) == ((5, 1), (15, 2))
