"""A split of records as prepared batches."""

import dataclasses
import io
import pathlib

import numpy as np
from PIL import Image
from support.errors import raises
from support.golden_recipe import require_same_labels
from support.threshold_predictor import ByRed

from deeplab.config.data_config import ResizeConfig
from deeplab.data import records
from deeplab.data.dataset import SizeRange
from deeplab.evaluation import ConfusionMatrix, split_images
from deeplab.evaluation.evaluator import count
from deeplab.evaluation.split_images import original_labels, predict_labels, resized_label
from deeplab.inference.load import load


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def with_settings(images, **changes):
    settings = dataclasses.replace(images.settings, **changes)
    return dataclasses.replace(images, settings=settings)


def record(folder, split, *pairs):
    """Write pairs (image, label) of arrays as a split of one shard."""
    with records.ShardWriter(folder, records.shard_name(split, 0, 1)) as writer:
        for index, (image, label) in enumerate(pairs):
            height, width = image.shape[:2]
            writer.write(records.encode_example(png(image), "png", f"image_{index}", height, width, png(label)))
        writer.publish()


class TestBatches:
    def test_native_size(self, disc_images, disc_pairs):
        batches = list(disc_images.batches())
        assert len(batches) == len(disc_images) == 4
        image, label = disc_pairs["pair_101"]
        batch = batches[1]
        assert batch.pixels is None and batch.names == ["pair_101"] and batch.sizes == [(48, 64)]
        np.testing.assert_array_equal(batch.images[0], image)
        np.testing.assert_array_equal(batch.labels[0], label)

    def test_images_for_a_file_that_prepares_them_itself(self, disc_images, disc_pairs):
        batches = list(dataclasses.replace(disc_images, settings=None).batches())
        assert len(batches) == 4 and batches[1].pixels is None and batches[1].sizes == [(48, 64)]
        np.testing.assert_array_equal(batches[1].images[0], disc_pairs["pair_101"][0])

    def test_batches_with_a_crop(self, disc_images, disc_pairs):
        four = dataclasses.replace(with_settings(disc_images, crop_size=(50, 70)), batch_size=3)
        batches = list(four.batches())
        assert [batch.pixels.shape for batch in batches] == [(3, 50, 70, 3), (1, 50, 70, 3)]
        image, label = disc_pairs["pair_102"]
        padded = np.full([50, 70, 3], 127.5)
        padded[:48, :64] = image
        np.testing.assert_array_equal(batches[0].pixels[2], padded)
        np.testing.assert_array_equal(batches[0].labels[2], label)

    def test_batches_without_a_crop_hold_images_of_one_padded_size(self, disc_images, disc_pairs):
        batches = list(dataclasses.replace(disc_images, batch_size=3).batches())
        assert [batch.pixels.shape for batch in batches] == [(3, 49, 65, 3), (1, 49, 65, 3)]
        assert [batch.positions for batch in batches] == [[0, 1, 2], [3]]
        np.testing.assert_array_equal(batches[0].images[2], disc_pairs["pair_102"][0])
        np.testing.assert_array_equal(batches[1].labels[0], disc_pairs["pair_103"][1])

    def test_images_of_several_sizes_wait_for_others(self, disc_images, monkeypatch):
        sizes = [(1, 9, 9, 3), (1, 17, 9, 3), (1, 9, 9, 3), (1, 33, 9, 3), (1, 17, 9, 3), (1, 9, 9, 3)]
        stored = [{"image_name": [b"x"], "pixels": np.zeros(size)} for size in sizes]
        grouped = dataclasses.replace(disc_images, batch_size=2)
        assert [places for places, _ in grouped._grouped(stored)] == [[0, 2], [1, 4], [3], [5]]
        monkeypatch.setattr(split_images, "_MAX_WAITING", 1)  # at most two images wait
        assert [places for places, _ in grouped._grouped(stored)] == [[0], [1], [2], [3], [4], [5]]

    def test_every_other_image(self, disc_images):
        odd = dataclasses.replace(disc_images, part=(1, 2))
        batches = list(odd.batches())
        assert len(odd) == 2 and [batch.names for batch in batches] == [["pair_101"], ["pair_103"]]
        assert [batch.positions for batch in batches] == [[1], [3]]

    def test_batches_of_an_exported_file_are_refused(self, disc_images):
        with raises("settings-built-in", where="val") as caught:
            dataclasses.replace(disc_images, settings=None, batch_size=2)
        assert caught.value.value == 2

    def test_labels_are_resized_with_the_images(self, disc_images):
        resized = with_settings(disc_images, resize=ResizeConfig(24, 32))
        batch = next(iter(resized.batches()))
        assert batch.sizes == [(24, 32)] and batch.labels[0].shape == batch.images[0].shape[:2] == (48, 64)
        matrix = ConfusionMatrix(3)
        prediction = resized_label(batch.labels[0], resized.resize)
        count(batch, [prediction], resized, matrix)
        assert matrix.counts.sum() == np.trace(matrix.counts) == 24 * 32

    def test_an_image_larger_than_the_crop_is_named(self, disc_images):
        with raises("larger-than-crop", where="pair_100") as caught:
            list(with_settings(disc_images, crop_size=(40, 64)).batches())
        assert caught.value.value == (48, 64) and "`eval_crop_size=49,65`" in caught.value.hint

    def test_dataset_yml_tells_before_anything_is_done(self, disc_images):
        known = dataclasses.replace(disc_images.dataset, size_range={"val": SizeRange(10, 300, 20, 64)})
        small = dataclasses.replace(with_settings(disc_images, crop_size=(65, 65)), dataset=known)
        with raises("larger-than-crop", "eval_crop_size") as caught:
            small.require_crop_fits_all()
        assert "300 pixels high and 64 wide" in caught.value.rule and "`eval_crop_size=305,65`" in caught.value.hint
        with_settings(small, crop_size=None).require_crop_fits_all()
        with_settings(small, crop_size=(305, 65)).require_crop_fits_all()

    def test_damaged_records_are_named(self, disc_images, tmp_path):
        whole = pathlib.Path(disc_images.shards()[0]).read_bytes()
        (tmp_path / "val-00000-of-00001.tfrecord").write_bytes(whole[:200] + b"x" + whole[201:])
        with raises("bad-record", where="val-00000-of-00001.tfrecord"):
            list(dataclasses.replace(disc_images, folder=str(tmp_path)).batches())

    def test_labels_outside_the_classes_are_named(self, disc_images, disc_pairs, tmp_path):
        image, label = disc_pairs["pair_100"]
        record(tmp_path, "val", (image, label), (image, np.full_like(label, 7)))
        with raises("label-out-of-range", where="image_1"):
            list(dataclasses.replace(disc_images, folder=str(tmp_path)).batches())


class TestPredictions:
    def test_one_image_and_a_batch_agree(self, disc_images, small_run):
        predictor = load(small_run, crop_size=(49, 65))
        one = dataclasses.replace(disc_images, settings=predictor.settings)
        three = dataclasses.replace(one, batch_size=3)
        singly = [labels for batch in one.batches() for labels in predict_labels(predictor, batch)]
        together = [labels for batch in three.batches() for labels in predict_labels(predictor, batch)]
        assert [labels.shape for labels in singly] == [(48, 64)] * 4
        images = [image for batch in one.batches() for image in batch.images]
        for alone, beside, image in zip(singly, together, images, strict=True):
            require_same_labels(alone, beside, predictor.predict(image).probabilities, 1e-6)

    def test_any_predictor(self, disc_images, disc_pairs):
        batch = list(disc_images.batches())[2]
        np.testing.assert_array_equal(predict_labels(ByRed(), batch)[0], disc_pairs["pair_102"][1])

    def test_back_to_the_stored_size(self):
        labels = np.array([[0, 1], [2, 3]], np.int32)
        resized = original_labels(labels, (2, 4), ResizeConfig(2))
        np.testing.assert_array_equal(resized, [[0, 0, 1, 1], [2, 2, 3, 3]])
        assert original_labels(labels, (2, 2), ResizeConfig()) is labels
