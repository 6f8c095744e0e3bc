"""Conversion of one pair, whole and in tiles."""

import io
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.errors import raises

from deeplab.config.conversion_config import LabelConfig, RecordConfig
from deeplab.data import records
from deeplab.data.conversion import local
from deeplab.data.conversion.encode import Recipe, convert, convert_tiles, read_pair, tile_starts
from deeplab.data.labels import LabelSpec
from deeplab.data.readers.shapes import ShapesMask, rectangle
from deeplab.data.readers.source import Painter, Pair, Source

RNG = np.random.default_rng(0)
IMAGE, LABEL = RNG.integers(0, 256, (100, 70, 3), np.uint8), RNG.integers(0, 3, (100, 70), np.uint8)


def write(folder, kind="png", image=IMAGE, label=LABEL):
    """Image and mask in files; their pair."""
    paths = folder / f"a.{kind}", folder / "a_mask.png"
    Image.fromarray(image).save(paths[0])
    Image.fromarray(label).save(paths[1])
    return Pair("a", *map(str, paths))


def recipe(**tiles):
    return Recipe(Painter((), LabelSpec(3)), **tiles)


def parts_of(converted):
    """Name, pixels and label of an example."""
    values = records.parse_example(converted.example)
    image = tf.io.decode_image(values[records.IMAGE], channels=3).numpy()
    return values[records.FILENAME].decode(), image, np.asarray(Image.open(io.BytesIO(values[records.LABEL])))


@pytest.mark.parametrize(
    ("length", "size", "overlap", "starts"),
    [
        (100, 40, 0, [0, 30, 60]),
        (100, 50, 0, [0, 50]),
        (101, 50, 0, [0, 26, 51]),
        (100, 50, 10, [0, 25, 50]),
        (40, 40, 0, [0]),
        (7, 40, 39, [0]),
    ],
)
def test_tiles_cover_a_side_evenly(length, size, overlap, starts):
    assert tile_starts(length, size, overlap) == starts


@pytest.mark.parametrize("seed", range(20))
def test_tiles_leave_no_gap_and_overlap_enough(seed):
    draw = np.random.default_rng(seed)
    size = int(draw.integers(33, 200))
    length, overlap = int(draw.integers(size, 2000)), int(draw.integers(0, size // 2))
    starts = tile_starts(length, size, overlap)
    assert starts[0] == 0 and starts[-1] == length - size
    assert all(other - one <= size - overlap for one, other in itertools.pairwise(starts))


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_tiles_are_parts_of_image_and_label(tmp_path, kind):
    pair = write(tmp_path, kind)
    _, whole, _ = parts_of(convert(pair, recipe()))
    tiles = convert_tiles(pair, recipe(tile_size=40, tile_overlap=5))
    assert len(tiles) == 3 * 2
    for tile in tiles:
        name, image, label = parts_of(tile)
        top, left = map(int, name.split("_")[1:])
        np.testing.assert_array_equal(image, whole[top : top + 40, left : left + 40])
        np.testing.assert_array_equal(label, LABEL[top : top + 40, left : left + 40])
        np.testing.assert_array_equal(tile.counts, np.bincount(label.ravel(), minlength=256))


def test_images_that_fit_and_builds_without_tiles_are_unchanged(tmp_path):
    pair = write(tmp_path, "jpg")
    for settings in ({}, {"tile_size": 100}):
        assert [tile.example for tile in convert_tiles(pair, recipe(**settings))] == [convert(pair, recipe()).example]


def test_tiles_of_an_image_stay_in_its_split(tmp_path):
    pair = write(tmp_path)
    source = Source({"train": [pair], "val": [Pair("b", pair.image, pair.mask)]})
    settings = RecordConfig(num_shards=1, tile_size=50)
    built = local.build(source, tmp_path / "out", LabelConfig(num_classes=3), settings)
    assert dict(built.splits) == {"train": 4, "val": 4}
    assert sum(built.pixels["train"]) == 4 * 50 * 50
    for split, name in (("train", b"a_"), ("val", b"b_")):
        found = [record for path in records.list_shards(tmp_path / "out", split) for record in records.read_shard(path)]
        assert all(record[records.FILENAME].startswith(name) for record in found) and len(found) == 4
    assert local.is_built(source, tmp_path / "out", tiles=True)


def test_tile_settings_that_do_not_fit():
    with raises("missing-setting", field="tile_overlap"):
        RecordConfig(tile_overlap=3)
    with raises("out-of-range", field="tile_overlap"):
        RecordConfig(tile_size=65, tile_overlap=65)
    with raises("out-of-range", field="tile_size"):
        RecordConfig(tile_size=7)


def test_outlines_of_another_size_are_scaled_not_resized(tmp_path):

    path = str(tmp_path / "a.png")
    Image.new("RGB", (6, 4)).save(path)
    pair = Pair("a", path, ShapesMask("a.json", (rectangle("hair", 0, 0, 6, 4),), (8, 12)))
    with raises("size-mismatch", where="a.json") as caught:
        read_pair(pair, Recipe(Painter(("background", "hair"), LabelSpec())))
    assert caught.value.value == (8, 12) and "`scale_annotations=true`" in caught.value.hint
