"""The pipelines: the reference's images, the order and its resumption, and records that are damaged."""

import gc
import io
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.errors import raises

import slim
from deeplab.config.augmentation_config import OPERATIONS, AugmentationConfig
from deeplab.config.data_config import ResizeConfig
from deeplab.data import augmentation, image_cache, pipeline, records, remapping, transforms
from deeplab.data.bands import RGB, ImageBands
from deeplab.utils.errors import UserError

GRAY = slim.MID_GRAY
ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def arrays(golden):
    return dict(np.load(golden / "preprocess.npz"))


def golden_case(golden, number):
    cases = json.loads((golden / "preprocess.json").read_text())["preprocess"]
    case = next(case for case in cases if case["case"] == number)
    settings = dict(case["kw"])
    resize = ResizeConfig(**{name: settings.pop(name) for name in list(settings) if "resize" in name})
    crop_size = settings.pop("crop_height"), settings.pop("crop_width")
    color = slim.find(case["variant"]).padding_color if case["variant"] else slim.IMAGENET_MEAN
    return case, {"crop_size": crop_size, "padding_color": color, "resize": resize, **settings}


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def record(image, label, name="a"):
    """A serialized example of arrays, or of bytes that are encoded already."""
    size = image.shape[:2] if isinstance(image, np.ndarray) else (0, 0)
    image = png(image) if isinstance(image, np.ndarray) else image
    label = png(label) if isinstance(label, np.ndarray) else label
    return records.encode_example(image, "png", name, *size, label)


def shards_of(folder, contents):
    """Writes one shard for each list of serialized examples; their paths."""
    for index, examples in enumerate(contents):
        with records.ShardWriter(folder, records.shard_name("train", index, len(contents))) as writer:
            for serialized in examples:
                writer.write(serialized)
            writer.publish()
    return records.list_shards(folder, "train")


def numbered(number):
    """A 6x5 image of one value, with a label of another."""
    return record(np.full([6, 5, 3], number, np.uint8), np.full([6, 5], number % 3, np.uint8), f"image {number}")


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """Three shards with 4, 0 and 6 records."""
    groups = [range(4), range(0), range(4, 10)]
    return shards_of(tmp_path_factory.mktemp("ten"), [[numbered(number) for number in group] for group in groups])


@pytest.fixture(scope="module")
def golden_shard(tmp_path_factory, arrays):
    return shards_of(tmp_path_factory.mktemp("golden"), [[record(arrays["img"], arrays["lab"], "golden")]])


def train(shards, **settings):
    defaults = {"crop_size": (8, 8), "batch_size": 4, "padding_color": GRAY, "ignore_label": 255, "num_classes": 5}
    return pipeline.train_batches(shards, **{**defaults, "seed": 1, **settings})


def contents(dataset, count):
    """Names, images and labels of some batches, as plain values that can be compared."""
    return [
        (batch["image_name"].numpy().tolist(), batch["image"].numpy().tobytes(), batch["label"].numpy().tobytes())
        for batch in dataset.take(count)
    ]


# --- The reference's images -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [24, 25, 26, 27])
def test_training_crops_are_the_reference_s(golden, golden_shard, arrays, number):
    case, settings = golden_case(golden, number)
    expected, expected_label = arrays[f"pp{number}_img"], arrays[f"pp{number}_lab"]
    if case["flipped"]:
        expected, expected_label = expected[:, ::-1], expected_label[:, ::-1]
    mirrored = 0
    for batch in train(golden_shard, batch_size=1, **settings).take(12):
        image, label = batch["image"][0].numpy(), batch["label"][0].numpy()
        if not np.array_equal(label, expected_label):
            image, label, mirrored = image[:, ::-1], label[:, ::-1], mirrored + 1
        np.testing.assert_allclose(image, expected, atol=1e-4)
        np.testing.assert_array_equal(label, expected_label)
    assert 0 < mirrored < 12


@pytest.mark.parametrize("number", [1, 6])
def test_evaluation_batches_are_the_reference_s(golden, golden_shard, arrays, number):
    """Resizing and padding of whole images, which prediction and evaluation consist of."""
    _, settings = golden_case(golden, number)
    (example,) = pipeline.eval_images(golden_shard, num_classes=5)
    assert (int(example["height"]), int(example["width"])) == (37, 53)
    resized = transforms.resize_to_range(example["image"], settings["resize"])
    assert tuple(resized.shape[:2]) == ((49, 65) if number == 1 else (37, 53))
    image = transforms.pad_to(tf.cast(resized, tf.float32), *settings["crop_size"], settings["padding_color"])
    np.testing.assert_allclose(image, arrays[f"pp{number}_img"], atol=1e-4)
    label = transforms.resize_label_to_range(example["label"], settings["resize"])
    label = transforms.pad_to(label, *settings["crop_size"], 255)
    np.testing.assert_array_equal(label, arrays[f"pp{number}_lab"])


def test_random_crops_are_parts_of_the_scaled_image(golden_shard, arrays):
    scaled = transforms.resize_bilinear(arrays["img"], [55, 79]).numpy()
    label = transforms.resize_nearest(arrays["lab"], [55, 79]).numpy()
    found = set()
    crops = train(golden_shard, crop_size=(16, 16), batch_size=1, min_scale_factor=1.5, max_scale_factor=1.5)
    for batch in crops.take(30):
        crop, crop_label = batch["image"][0].numpy(), batch["label"][0].numpy()
        mirrored, top, left = find(crop, scaled)
        part = label[top : top + 16, left : left + 16]
        np.testing.assert_array_equal(crop_label, part[:, ::-1] if mirrored else part)
        found.add((top, left))
    assert len(found) > 25 and max(top for top, _ in found) > 30 and max(left for _, left in found) > 45


def find(crop, image):
    """Whether the crop is mirrored, and where in the image it lies."""
    for mirrored in (False, True):
        wanted = crop[:, ::-1] if mirrored else crop
        near = np.abs(image[: -len(wanted) + 1, : -len(wanted) + 1] - wanted[0, 0]).sum(-1) < 1e-2
        for top, left in np.argwhere(near):
            if np.abs(image[top : top + len(wanted), left : left + len(wanted)] - wanted).max() < 1e-3:
                return mirrored, top, left
    raise AssertionError("the crop is no part of the image")


def test_scales_are_the_grid_s_and_equally_frequent(ten):
    widths = [
        int((batch["label"] != 255).numpy().any(axis=(0, 1)).sum())
        for batch in train(ten, batch_size=1, crop_size=(12, 10), scale_factor_step_size=0.5).take(200)
    ]
    values, counts = np.unique(widths, return_counts=True)
    assert values.tolist() == [2, 5, 7, 10]  # 5 pixels wide at 0.5, 1.0, 1.5, 2.0, cut to whole pixels
    assert counts.min() > 30


def test_scales_without_a_grid(ten):
    crops = train(ten, batch_size=1, crop_size=(12, 10), scale_factor_step_size=0.0)
    heights = {int((batch["label"] != 255).numpy().any(axis=(0, 2)).sum()) for batch in crops.take(100)}
    assert heights == set(range(3, 12))


def test_jpeg_and_png_pass_alike(tmp_path):
    gradient = np.stack([np.mgrid[:40, :50][0] * 5] * 3, -1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(gradient).save(buffer, "JPEG", quality=95)
    label = np.zeros([40, 50], np.uint8)
    decoded = tf.io.decode_jpeg(buffer.getvalue(), channels=3).numpy()
    (tmp_path / "jpeg").mkdir(), (tmp_path / "png").mkdir()
    jpeg = shards_of(tmp_path / "jpeg", [[record(buffer.getvalue(), label)]])
    stored = shards_of(tmp_path / "png", [[record(decoded, label)]])
    assert contents(train(jpeg, crop_size=(33, 33)), 5) == contents(train(stored, crop_size=(33, 33)), 5)


class Darker:
    """An operation that halves an image, and keeps the seeds it was given."""

    geometric = False

    def __call__(self, image, label, seed):
        return image / 2, label


def test_further_augmentations_change_images_before_they_are_padded(ten):
    plain = next(iter(train(ten, crop_size=(12, 12))))
    darker = next(iter(train(ten, crop_size=(12, 12), augmentations=[Darker()])))
    padding = plain["label"].numpy() == 255
    assert 0 < padding.sum() < padding.size
    np.testing.assert_array_equal(darker["label"], plain["label"])
    np.testing.assert_array_equal(darker["image"][padding], plain["image"][padding])
    np.testing.assert_array_equal(darker["image"][~padding], plain["image"][~padding] / 2)


# --- Order --------------------------------------------------------------------------------------------------


def test_shapes_are_known_and_every_epoch_holds_every_image(ten):
    dataset = train(ten)
    assert dataset.element_spec["image"].shape == (4, 8, 8, 3) and dataset.element_spec["label"].shape == (4, 8, 8)
    assert dataset.element_spec["image"].dtype == tf.float32 and dataset.element_spec["label"].dtype == tf.int32
    names = [name for batch in contents(dataset, 15) for name in batch[0]]
    epochs = [names[start : start + 10] for start in range(0, 60, 10)]
    assert all(len(set(epoch)) == 10 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_the_same_seed_gives_the_same_batches(ten):
    first = contents(train(ten, seed=7), 6)
    tf.random.set_seed(123)  # must not matter
    assert contents(train(ten, seed=7), 6) == first
    assert contents(train(ten, seed=8), 6) != first
    assert contents(train(ten, seed=None), 6) != contents(train(ten, seed=None), 6)


@pytest.mark.parametrize("start", [1, 5, 7])
def test_a_later_start_goes_on_where_the_stream_stood(ten, start):
    assert contents(train(ten, start=start), 3) == contents(train(ten), start + 3)[start:]


def test_a_far_start_is_quick(ten):
    assert len(contents(train(ten, start=1_000_000_000), 1)) == 1  # reading the way there would take days


def test_eval_images_keep_the_order(ten):
    examples = list(pipeline.eval_images(ten, num_classes=3))
    assert [example["image_name"].numpy().decode() for example in examples] == [f"image {n}" for n in range(10)]
    assert examples[7]["image"].dtype == tf.uint8 and examples[7]["label"].dtype == tf.int32
    assert int(examples[7]["image"][5, 4, 2]) == 7 and int(examples[7]["label"][5, 4]) == 1
    assert (int(examples[0]["height"]), int(examples[0]["width"])) == (6, 5)


def test_images_without_labels(tmp_path):
    shards = shards_of(tmp_path, [[], [record(np.zeros([2, 3, 3], np.uint8), b"")]])
    assert "label" not in next(iter(pipeline.eval_images(shards)))


# --- Bad input ----------------------------------------------------------------------------------------------


def error_of(dataset, shards):
    """What `explain` makes of the error with which a dataset stops."""
    with pytest.raises(tf.errors.OpError) as caught:
        for _ in dataset.take(20):
            pass
    try:
        return pipeline.explain(caught.value, shards)
    except UserError as error:
        return error


def assert_user_error(error, code, where, *words):
    assert isinstance(error, UserError), error
    assert error.code == code and where in error.where, error
    for word in words:
        assert word in str(error)


def test_empty_split(tmp_path):
    shards = shards_of(tmp_path, [[], []])
    for make in (train, pipeline.eval_images):
        with raises("empty-split", where=tmp_path):
            make(shards)
    with raises("empty-split", where="records"):
        pipeline.eval_images([])


def test_truncated_shard_stops_before_the_first_batch(tmp_path):
    shards = shards_of(tmp_path, [[numbered(0)], [numbered(1), numbered(2)]])
    last = pathlib.Path(shards[1])
    last.write_bytes(last.read_bytes()[:-9])
    with raises("bad-record", where="train-00001-of-00002.tfrecord") as caught:
        train(shards)
    assert caught.value.value == 1


def test_flipped_bit_names_shard_and_record(tmp_path):
    shards = shards_of(tmp_path, [[numbered(0)], [numbered(1), numbered(2), numbered(3)]])
    last = pathlib.Path(shards[1])
    damaged = bytearray(last.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    last.write_bytes(damaged)
    for dataset in (train(shards), pipeline.eval_images(shards)):
        assert_user_error(error_of(dataset, shards), "bad-record", shards[1], "record 1 ")


def test_record_that_is_no_example(tmp_path):
    shards = shards_of(tmp_path, [[numbered(0), b"hello"]])
    assert_user_error(error_of(train(shards), shards), "bad-record", shards[0], "record 1 ", "tf.train.Example")


@pytest.mark.parametrize("kept", [0.5, 40])
def test_undecodable_image_is_named(tmp_path, kept):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, [40, 50, 3]).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    jpeg = jpeg[: int(len(jpeg) * kept)] if kept < 1 else jpeg[:kept]
    shards = shards_of(tmp_path, [[numbered(0), record(jpeg, np.zeros([40, 50], np.uint8), "broken")]])
    for dataset in (train(shards, crop_size=(65, 65)), pipeline.eval_images(shards)):
        assert_user_error(
            error_of(dataset, shards), "unreadable-image", "broken", "image cannot be decoded", "record 1", shards[0]
        )


def test_undecodable_label_is_named(tmp_path):
    label = png(np.random.default_rng(0).integers(0, 3, [40, 50]).astype(np.uint8))
    shards = shards_of(tmp_path, [[record(np.zeros([40, 50, 3], np.uint8), label[:150], "broken")]])
    assert_user_error(error_of(train(shards), shards), "unreadable-image", "broken", "label cannot be decoded")


def test_label_values_outside_the_classes(tmp_path, ten):
    label = np.zeros([6, 5], np.uint8)
    label[3, 3] = 77  # outside every crop at times, found all the same
    shards = shards_of(tmp_path, [[record(np.zeros([6, 5, 3], np.uint8), label, "häuser")]])
    assert_user_error(
        error_of(train(shards, crop_size=(2, 2)), shards),
        "label-out-of-range",
        "häuser",
        "must be 0..4",
        "found 77 on 1 pixel",
    )
    assert_user_error(
        error_of(pipeline.eval_images(shards, num_classes=5), shards), "label-out-of-range", "häuser", "found 77"
    )


def test_values_of_another_type_are_named(tmp_path):
    parsed = tf.train.Example.FromString(numbered(1))
    parsed.features.feature[records.FILENAME].CopyFrom(tf.train.Feature(int64_list=tf.train.Int64List(value=[1])))
    shards = shards_of(tmp_path, [[numbered(0), parsed.SerializeToString()]])
    for dataset in (train(shards), pipeline.eval_images(shards)):
        assert_user_error(error_of(dataset, shards), "bad-record", shards[0], "record 1 ", records.FILENAME)


def test_sizes_that_differ(tmp_path):
    shards = shards_of(tmp_path, [[record(np.zeros([6, 5, 3], np.uint8), np.zeros([5, 6], np.uint8), "b")]])
    assert_user_error(error_of(train(shards), shards), "size-mismatch", "b", "6x5", "5x6")


def test_removed_shard(tmp_path):
    shards = shards_of(tmp_path, [[numbered(0)]])
    dataset = train(shards)
    tmp_path.joinpath("train-00000-of-00001.tfrecord").unlink()
    assert_user_error(error_of(dataset, shards), "file-not-found", shards[0], "removed")


def test_an_error_that_is_no_one_s_fault_stays_as_it_is(ten):
    for error in (tf.errors.InvalidArgumentError(None, None, "else"), tf.errors.OutOfRangeError(None, None, "end")):
        assert pipeline.explain(error, ten) is error


# --- Repeated images ----------------------------------------------------------------------------------------


REPEATS = [1.0, 1.0, 3.0, 1.0, 1.0, 1.5, 1.0, 1.0, 1.0, 1.0]


def names_of(batches):
    return [name.decode() for batch in batches for name in batch["image_name"].numpy()]


def test_repeated_images_come_as_often_as_they_should(ten):
    names = names_of(train(ten, repeats=REPEATS, batch_size=25).take(20))  # 40 epochs of 12 or 13 images
    share = {number: names.count(f"image {number}") / 40 for number in range(10)}
    for number, factor in enumerate(REPEATS):
        assert share[number] == pytest.approx(factor, abs=0.3), number
    assert share[2] == pytest.approx(3.0, abs=0.1)


def test_without_repeats_each_image_comes_once_per_epoch(ten):
    names = names_of(train(ten, repeats=[1.0] * 10, batch_size=10).take(3))
    for epoch in range(3):
        assert sorted(names[10 * epoch : 10 * epoch + 10]) == sorted(f"image {number}" for number in range(10))


def test_a_training_with_all_options_resumes_exactly(ten):
    """Repeated images, chosen crops and every operation depend on seed and position alone."""
    values = dict.fromkeys(OPERATIONS, 0.2) | {"jpeg_quality": 60.0, "rotation": 20.0, "noise": 9.0, "elastic": 2.0}
    operations = augmentation.make(AugmentationConfig(**values), GRAY, 255, rare_classes=(2,))
    for way in ("class_centered", "max_one_class_0.75"):
        settings = {"augmentations": operations, "crop_sampling": way, "repeats": REPEATS}
        uninterrupted = contents(train(ten, **settings), 9)
        assert contents(train(ten, start=5, **settings), 4) == uninterrupted[5:]
        assert contents(train(ten, seed=2, **settings), 9) != uninterrupted


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"start": 2, "repeats": np.linspace(1, 2.5, 10)},
        {"augmentations": augmentation.make(AugmentationConfig(cutmix=1), GRAY, 255)},
    ],
    ids=["plain", "repeats", "mixture"],
)
def test_workers_together_have_the_batches_of_one(ten, more):
    """Each reads its own records alone; for a mixture all of the batch."""
    whole = contents(train(ten, **more), 6)
    for workers, pieces in ((2, 1), (2, 2), (4, 1), (1, 4)):
        of_workers = [train(ten, part=(number, workers), pieces=pieces, **more) for number in range(workers)]
        parts = [contents(batches, 6 * pieces) for batches in of_workers]
        for step, expected in enumerate(whole):
            found = [part for mine in parts for part in mine[step * pieces : (step + 1) * pieces]]
            images, labels = (b"".join(part[index] for part in found) for index in (1, 2))
            assert ([name for part in found for name in part[0]], images, labels) == expected, (workers, pieces)


def test_a_worker_explains_damaged_records(tmp_path):
    shards = shards_of(tmp_path, [[numbered(number) for number in range(4)]])
    path = pathlib.Path(shards[0])
    damaged = bytearray(path.read_bytes())
    damaged[records.offsets(path)[2] + 40] ^= 1
    path.write_bytes(damaged)
    error = error_of(train(shards, part=(0, 2)), shards)
    assert error.code == "bad-record"


# --- Decoded images in memory -------------------------------------------------------------------------------


ALL = 1 << 30  # bytes
SOME = 30_000  # of those that follow


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """JPEG and PNG of different sizes, in two shards."""
    draw, examples = np.random.default_rng(0), []
    for number in range(9):
        size = draw.integers(20, 70, 2).tolist()
        image, label = draw.integers(0, 256, (*size, 3), np.uint8), draw.integers(0, 5, size, np.uint8)
        content = tf.io.encode_jpeg(image).numpy() if number % 2 else png(image)
        examples.append(records.encode_example(content, "jpeg", str(number), *size, png(label)))
    return shards_of(tmp_path_factory.mktemp("varied"), [examples[:4], examples[4:]])


LIGHT = augmentation.make(AugmentationConfig("light"), GRAY, 255)
STRONG = augmentation.make(AugmentationConfig("strong"), GRAY, 255, rare_classes=(2,))
RESIZE = ResizeConfig(min_resize_value=40, max_resize_value=60)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"augmentations": LIGHT, "crop_sampling": "class_centered", "repeats": np.linspace(1, 2.5, 9), "start": 2},
        {"augmentations": STRONG, "crop_sampling": "max_one_class_0.75", "resize": RESIZE},
        {"augmentations": STRONG, "part": (1, 2), "pieces": 2},
        {"augmentations": [Darker()], "part": (0, 2), "resize": RESIZE},
    ],
    ids=["plain", "repeats", "mixtures", "worker", "foreign"],
)
def test_batches_are_the_same_with_images_in_memory(varied, more):
    settings = {"crop_size": (48, 40), "batch_size": 4, **more}
    expected = contents(train(varied, **settings), 9)
    for size in (ALL, SOME):
        dataset = train(varied, **settings, cache_bytes=size)
        assert contents(dataset, 9) == expected, size
        assert contents(dataset, 9) == expected, size  # another iterator, which finds images from the first moment on


def test_images_in_memory_where_opencv_does_not_sample_exactly(varied, monkeypatch):
    monkeypatch.setattr(remapping, "is_exact", lambda: False)
    settings = {"crop_size": (48, 40), "augmentations": LIGHT}
    assert contents(train(varied, **settings, cache_bytes=ALL), 7) == contents(train(varied, **settings), 7)


@pytest.mark.parametrize("part", [(0, 1), (1, 2)])
def test_records_are_not_read_again_once_all_images_are_in_memory(varied, tmp_path, part):
    copies = [str(shutil.copy(path, tmp_path)) for path in varied]
    expected = contents(train(copies, part=part), 40)
    stream = iter(train(copies, part=part, cache_bytes=ALL))
    found = [next(stream) for _ in range(25)]
    for path in copies:
        pathlib.Path(path).unlink()
    found += [next(stream) for _ in range(15)]
    assert [batch["image"].numpy().tobytes() for batch in found] == [image for _, image, _ in expected]


def test_the_memory_is_free_when_the_pipeline_is_gone(varied, monkeypatch):
    caches = []
    make = image_cache.ImageCache
    monkeypatch.setattr(pipeline, "ImageCache", lambda *arguments: caches.append(make(*arguments)) or caches[-1])
    dataset = train(varied, cache_bytes=ALL)
    stream = iter(dataset.map(lambda batch: batch["image"]))
    del dataset
    gc.collect()
    for _ in range(8):
        next(stream)
    assert caches[0].is_complete
    del stream
    gc.collect()
    assert not caches[0].is_complete and caches[0].find(0) is None and not caches[0].has_room


@pytest.mark.parametrize("exact", [False, True])
def test_colors_and_covers_where_opencv_samples_points_exactly_and_where_not(ten, exact, monkeypatch):
    """Both ways to sample give the same batches, but for rounding."""
    config = AugmentationConfig("light", augmentation_probability=1, gamma=0.5, cutout=0.5)
    operations = augmentation.make(config, GRAY, 255)
    expected = list(train(ten, crop_size=(12, 12), augmentations=operations).take(2))
    monkeypatch.setattr(remapping, "is_exact", lambda: exact)
    for one, other in zip(expected, train(ten, crop_size=(12, 12), augmentations=operations).take(2), strict=True):
        np.testing.assert_allclose(one["image"], other["image"], atol=1e-3)
        np.testing.assert_array_equal(one["label"], other["label"])


class TestBands:
    BANDS = ImageBands(2, "uint16", (), (0.0, 0.0), (1000.0, 2000.0), (100.0, 50.0), (9.0, 9.0))

    def shard(self, folder, pixels, **fields):
        values = fields.get("values", (pixels.shape[2], str(pixels.dtype)))
        size = fields.get("size", pixels.shape[:2])
        label = io.BytesIO()
        Image.fromarray(np.zeros(pixels.shape[:2], np.uint8)).save(label, "png")
        data = records.encode_values(pixels)
        example = records.encode_example(data, records.VALUES, "a", *size, label.getvalue(), values=values)
        path = str(folder / "train-00000-of-00001.tfrecord")
        with tf.io.TFRecordWriter(path) as writer:
            writer.write(example)
        return [path]

    def batches(self, shards, bands=BANDS):
        return pipeline.train_batches(
            shards,
            crop_size=(9, 11),
            batch_size=1,
            padding_color=bands.mean,
            ignore_label=255,
            num_classes=2,
            min_scale_factor=1,
            max_scale_factor=1,
            seed=1,
            bands=bands,
        )

    def test_crops_are_scaled_and_padded_with_the_mean(self, tmp_path):
        pixels = np.full((5, 6, 2), 500, np.uint16)
        batch = next(iter(self.batches(self.shard(tmp_path, pixels))))
        assert batch["image"].shape == (1, 9, 11, 2)
        values = np.unique(batch["image"].numpy().reshape(-1, 2), axis=0)
        np.testing.assert_allclose(values, [[100, 50], [127.5, 63.75]])
        assert (batch["label"].numpy() == 0).sum() == 30

    def test_evaluation_gets_the_values_as_they_are_stored(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 65536, (5, 6, 2), np.uint16)
        (example,) = pipeline.eval_images(self.shard(tmp_path, pixels), num_classes=2, bands=self.BANDS)
        np.testing.assert_array_equal(example["image"], pixels)

    @pytest.mark.parametrize(
        ("bands", "fields", "code"),
        [
            (ImageBands(3, "uint16", (), (0.0,) * 3, (1.0,) * 3), {}, "wrong-channels"),
            (ImageBands(2, "float32", (), (0.0,) * 2, (1.0,) * 2), {}, "wrong-dtype"),
            (RGB, {}, "unsupported-format"),
            (BANDS, {"size": (5, 7)}, "bad-record"),
        ],
    )
    def test_records_of_another_kind_are_refused_by_name(self, tmp_path, bands, fields, code):
        shards = self.shard(tmp_path, np.zeros((5, 6, 2), np.uint16), **fields)
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            next(iter(pipeline.eval_images(shards, num_classes=2, bands=bands)))
        found = pipeline.explain(error.value, shards)
        assert (found.code, found.where) == (code, "a")


def test_a_program_may_end_while_an_iterator_reads(disc_records):
    """It hung or was aborted in two of five runs, when a thread of the pipeline called Python after its end."""
    program = f"""
import atexit, gc, deeplab, tensorflow as tf
def count():
    iterators = [found for found in gc.get_objects() if issubclass(type(found), tf.data.Iterator)]
    print(len(iterators), "alive", sum(bool(vars(one)) for one in iterators), "with threads")
atexit.register(count)  # what is registered first runs last
iterator = iter(deeplab.load_dataset({str(disc_records)!r}).train_batches(crop_size=65, batch_size=4))
next(iterator)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert (ended.returncode, ended.stdout) == (0, "1 alive 0 with threads\n"), ended.stderr
