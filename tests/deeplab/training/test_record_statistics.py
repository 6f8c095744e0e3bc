"""What is counted in the labels of records, once, and how often images are repeated."""

import pathlib

import numpy as np
import pytest
from conftest import disc_pair
from support.errors import raises

from deeplab.config.augmentation_config import AugmentationConfig
from deeplab.data import dataset as datasets
from deeplab.data import pipeline, records
from deeplab.losses.class_balance import ClassCounts
from deeplab.training import record_statistics

LABELS = [disc_pair(number)[1] for number in range(12)]
PIXELS = np.bincount(np.concatenate([label.ravel() for label in LABELS]), minlength=3).tolist()


@pytest.fixture
def discs(disc_records):
    return datasets.load(disc_records / datasets.FILE_NAME), records.list_shards(disc_records, "train")


def test_labels_are_counted_once(discs, monkeypatch):
    found = record_statistics.count(*discs)
    monkeypatch.setattr(pipeline, "eval_images", None)  # a second pass would fail
    size = LABELS[0].size
    images_with = found.present.sum(0).tolist()
    assert images_with == [sum(bool((label == index).any()) for label in LABELS) for index in range(3)]
    assert found.counts == ClassCounts(PIXELS, images_with, [size * number for number in images_with], 12)
    assert record_statistics.count(*discs) is found
    assert record_statistics.repeats_for(AugmentationConfig(sampling="repeat_factor"), *discs) is not None
    assert record_statistics.repeats_for(AugmentationConfig(), *discs) is None


def test_a_damaged_record_is_named(discs, tmp_path):
    dataset, shards = discs
    copy = tmp_path / "train-00000-of-00001.tfrecord"
    content = bytearray(pathlib.Path(shards[0]).read_bytes())
    content[len(content) // 2] ^= 255
    copy.write_bytes(content)
    with raises("bad-record", where=copy.name):
        record_statistics.count(dataset, [str(copy)])


def test_images_with_rare_classes_are_repeated():
    """By hand: fractions 1, 0.5 and 0.05; the root of 0.2 / 0.05 is 2."""
    present = np.zeros((20, 4), bool)
    present[:, 0], present[:10, 1], present[0, 2] = True, True, True
    assert record_statistics.repeat_factors(present, 0.2).tolist() == [2.0] + [1.0] * 19
