"""Images in, masks out."""

import asyncio
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from support import golden_recipe
from support.errors import raises

from deeplab import Segmenter
from deeplab.config.model_config import ModelConfig
from deeplab.inference import timing
from deeplab.inference.segmenter import Segmentation
from deeplab.model.segmentation_model import SegmentationModel

IMAGE = golden_recipe.image(40, 52)[0]


@pytest.fixture(scope="module")
def segmenter(small_run):
    return Segmenter(small_run)


class TestSegmenter:
    def test_prediction(self, segmenter):
        result = segmenter(IMAGE)
        assert result.labels.shape == (40, 52) and result.labels.dtype == np.uint8
        np.testing.assert_allclose(result.probabilities.sum(-1), 1, atol=1e-5)
        np.testing.assert_array_equal(result.probabilities.argmax(-1), result.labels)
        assert result.class_names == ("ground", "disc", "square")
        assert len(np.unique(result.labels)) > 1  # or the comparisons below mean nothing

    def test_all_kinds_of_images_agree(self, segmenter, tmp_path):
        Image.fromarray(IMAGE).save(tmp_path / "a.png")
        expected = segmenter(IMAGE).labels
        rgba = np.dstack([IMAGE, np.full([40, 52], 255, np.uint8)])
        data = (tmp_path / "a.png").read_bytes()
        for given in (
            tmp_path / "a.png",
            str(tmp_path / "a.png"),
            Image.fromarray(IMAGE),
            rgba,
            data,
            io.BytesIO(data),
        ):
            np.testing.assert_array_equal(segmenter(given).labels, expected)

    def test_without_probabilities(self, segmenter):
        result = segmenter(IMAGE, probabilities=False)
        assert result.probabilities is None
        np.testing.assert_array_equal(result.labels, segmenter(IMAGE).labels)

    def test_scales_and_mirror_images_change_the_prediction(self, segmenter, small_run):
        other = Segmenter(small_run, eval_scales=[0.5, 1.0], add_flipped_images=True)
        assert np.abs(other(IMAGE).probabilities - segmenter(IMAGE).probabilities).max() > 0.01

    def test_crop(self, small_run):
        small = Segmenter(small_run, crop_size=33)
        with raises("larger-than-crop", where="the image"):
            small(IMAGE)
        assert Segmenter(small_run, crop_size=33, shrink_large_images=True)(IMAGE).labels.shape == (40, 52)

    def test_wrong_settings(self, small_run):
        with raises("unknown-name") as caught:
            Segmenter(small_run, eval_scale=1.0)
        assert caught.value.value == "eval_scale" and "'eval_scales'" in caught.value.hint
        with raises("checkpoint-mismatch", where="config.yml") as caught:
            Segmenter(small_run, model_variant="xception_65")
        assert "trained with mobilenet_v2" in caught.value.rule

    def test_other_channels_are_refused(self):
        model = SegmentationModel(ModelConfig(depth_multiplier=0.25, input_channels=4), 3)
        segmenter = Segmenter(model)
        with raises("wrong-channels", "input_channels"):
            segmenter(IMAGE)
        four = np.dstack([IMAGE, IMAGE[..., :1]])
        assert segmenter(four).labels.shape == IMAGE.shape[:2]
        assert segmenter(four).image.shape == IMAGE.shape

    def test_several_threads(self, segmenter):
        expected = segmenter(IMAGE).labels
        results = []
        threads = [threading.Thread(target=lambda: results.append(segmenter(IMAGE).labels)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 4 and all((labels == expected).all() for labels in results)

    def test_folder(self, segmenter, tmp_path):
        for name, height in (("b", 20), ("a", 30)):
            Image.fromarray(IMAGE[:height]).save(tmp_path / f"{name}.png")
        shapes = [(path[-5:], result.labels.shape) for path, result in segmenter.folder(tmp_path)]
        assert shapes == [("a.png", (30, 52)), ("b.png", (20, 52))]
        (tmp_path / "c.png").write_text("no image")
        with raises("unsupported-format", where="c.png"):
            list(segmenter.folder(tmp_path))


class TestSegmentation:
    @pytest.fixture
    def result(self):
        colors = np.zeros([256, 3], np.uint8)
        colors[1] = 10, 20, 30
        image = np.full([1, 4, 3], 100, np.uint8)
        return Segmentation(image, np.array([[0, 1, 1, 0]], np.uint8), None, ("ground", "disc", "square"), colors)

    def test_colors_and_overlay(self, result):
        np.testing.assert_array_equal(result.color_mask()[0, :2], [[0, 0, 0], [10, 20, 30]])
        np.testing.assert_array_equal(result.overlay(0.25, background=True)[0, :2], [[75, 75, 75], [78, 80, 82]])
        untouched, outlined = [100, 100, 100], [10, 20, 30]
        np.testing.assert_array_equal(result.overlay(0.25)[0], [untouched, outlined, outlined, untouched])

    def test_fractions(self, result):
        assert result.fractions() == {"ground": 0.5, "disc": 0.5, "square": 0.0}

    def test_save(self, result, tmp_path):
        paths = result.save(tmp_path, "day/one")
        mask = Image.open(tmp_path / "mask" / "day" / "one.png")
        assert mask.mode == "P" and mask.getpalette()[3:6] == [10, 20, 30]
        np.testing.assert_array_equal(np.asarray(mask), result.labels)
        np.testing.assert_array_equal(np.asarray(Image.open(paths["overlay"])), result.overlay())
        assert sorted(paths) == ["color", "mask", "overlay"]


def test_cutouts_have_soft_edges():
    scores = np.array([[[1, 0, 0], [0.6, 0.4, 0], [0.4, 0.3, 0.3], [0, 0.1, 0.9]]], np.float32)
    image = np.arange(12, dtype=np.uint8).reshape(1, 4, 3)
    result = Segmentation(image, scores.argmax(-1).astype(np.uint8), scores, ("a", "b", "c"), np.zeros((256, 3)))
    cutout = result.cutout()
    np.testing.assert_array_equal(cutout[..., :3], image)
    assert cutout[0, :, 3].tolist() == [0, 76, 179, 255]  # 2 p - 1/2 of 0, 0.4, 0.6 and 1
    assert result.cutout([2])[0, :, 3].tolist() == [0, 0, 26, 255]
    hard = Segmentation(image, result.labels, None, (), np.zeros((256, 3)))
    assert hard.cutout()[0, :, 3].tolist() == [0, 0, 0, 255] and hard.cutout([0])[0, 0, 3] == 255
    assert result.areas() == {"a": 3, "b": 0, "c": 1}
    assert [(region.index, region.area) for region in result.regions()] == [(2, 1)]


class TestBatches:
    def test_equal_to_single_images_in_their_order(self, small_run):
        segmenter = Segmenter(small_run)
        images = [golden_recipe.image(height, 52)[0] for height in (40, 33, 40)]
        found = segmenter.batch(images)
        for image, result in zip(images, found, strict=True):
            np.testing.assert_array_equal(result.image, image)
            assert result.probabilities is None and result.labels.shape == image.shape[:2]
            assert (result.labels != segmenter(image).labels).sum() < 5  # undecided pixels
        scores = segmenter.batch(images[:1], probabilities=True)[0].probabilities
        np.testing.assert_array_equal(scores, segmenter(images[0]).probabilities)
        assert segmenter.batch([]) == []

    def test_a_bad_image_is_named(self, small_run):
        with raises("unsupported-pixels"):
            Segmenter(small_run).batch([golden_recipe.image(40, 52)[0], np.zeros((4, 5), np.float64)])


def test_a_block_closes_the_segmenter(small_run):
    image = golden_recipe.image(40, 52)[0]
    with Segmenter(small_run).warm_up(33, 33) as segmenter:
        assert segmenter(image).labels.shape == (40, 52)
    with raises("used-after-close"):
        segmenter(image)
    with raises("used-after-close"):
        segmenter.batch([image])


def test_eight_threads_and_asyncio(small_run):
    segmenter = Segmenter(small_run)
    images = [golden_recipe.image(height, 52)[0] for height in range(33, 49)]
    alone = [segmenter(image).labels for image in images]
    with ThreadPoolExecutor(8) as pool:
        for label, result in zip(alone, pool.map(segmenter, images), strict=True):
            np.testing.assert_array_equal(label, result.labels)

    async def both():
        return await asyncio.gather(*(asyncio.to_thread(segmenter, image) for image in images[:2]))

    for label, result in zip(alone, asyncio.run(both()), strict=False):
        np.testing.assert_array_equal(label, result.labels)


def test_memory_does_not_grow_with_the_number_of_predictions(small_run, request):
    """Eight threads share one model; 2,000 predictions with `--long`. Kept results would take 250 kB each."""
    number = 2000 if request.config.getoption("--long") else 160
    segmenter = Segmenter(small_run)
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, (128, 160, 3), np.uint8) for _ in range(8)]
    expected = [segmenter(image).labels for image in images]

    def predict(index):
        return np.array_equal(segmenter(images[index % 8]).labels, expected[index % 8])

    def megabytes():
        timing.reset_peak_memory()  # gives free memory back
        return timing.peak_memory()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(predict, range(48)))  # the threads' own memory, and the allocator's
        if not timing.reset_peak_memory():
            pytest.skip("this system cannot measure the memory from a point in time")
        before = megabytes()
        assert all(pool.map(predict, range(number)))
        grown = megabytes() - before
    print(f"{number} predictions: {grown:.1f} MB more")
    assert grown < 15
