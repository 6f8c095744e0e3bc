"""How much memory decoded images get, and what the user is told."""

import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises

from deeplab.config.data_config import ResizeConfig
from deeplab.data import records
from deeplab.data.bands import ImageBands
from deeplab.data.dataset import Dataset
from deeplab.data.mask_files import encode_label
from deeplab.training import cache_plan
from deeplab.utils import resources

DATASET = Dataset("d", ("a", "b"))
IMAGE = 40 * 50 * 4  # bytes of a decoded image with its label


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder, label = tmp_path_factory.mktemp("records"), encode_label(np.zeros((40, 50), np.uint8))
    content = tf.io.encode_jpeg(np.zeros((40, 50, 3), np.uint8)).numpy()
    for index in range(2):
        with records.ShardWriter(folder, records.shard_name("train", index, 2)) as writer:
            for number in range(5):  # sizes that records state may be wrong
                writer.write(records.encode_example(content, "jpeg", str(number), 1, 1, label))
            writer.publish()
    return records.list_shards(folder, "train")


@pytest.fixture
def told(shards, monkeypatch, capsys):
    """A function that asks for memory, with some of it free, and returns the answer and what is printed."""

    def ask(way, free, to_come=1000, **more):
        monkeypatch.setattr(resources, "available_memory", lambda: free)
        found = cache_plan.cache_bytes(way, shards, DATASET, ResizeConfig(), to_come=to_come, **more)
        return found, "".join(capsys.readouterr())

    return ask


def test_mean_bytes_of_images(shards):
    assert cache_plan.decoded_bytes(shards, DATASET, ResizeConfig()) == IMAGE
    resized = ResizeConfig(min_resize_value=80)  # float32
    assert cache_plan.decoded_bytes(shards, DATASET, resized) == 80 * 100 * (3 * 4 + 1)
    wide = Dataset("d", ("a", "b"), ignore_label=65535)
    assert cache_plan.decoded_bytes(shards, wide, ResizeConfig()) == 40 * 50 * 5
    others = Dataset("d", ("a", "b"), image_bands=ImageBands(2, "uint16"))
    assert cache_plan.decoded_bytes(shards, others, ResizeConfig()) == 1  # records that the pipeline will refuse


def test_auto_takes_a_quarter_of_what_is_free(told):
    limit, text = told("auto", 100 * IMAGE)
    assert limit == 25 * IMAGE and "all 10 images" in text
    limit, text = told("auto", 24 * IMAGE)
    assert limit == 6 * IMAGE and "about 6 of 10 images" in text and "`image_cache=memory`" in text
    assert told("auto", 24 * IMAGE, reserved=8 * IMAGE)[0] == 4 * IMAGE
    assert told("auto", 24 * IMAGE, reserved=8 * IMAGE, processes=2)[0] == 2 * IMAGE
    assert told("auto", 10**15)[0] == 4 << 30
    assert told("auto", None)[0] == 1 << 30  # the system does not tell what is free
    assert told("auto", None, processes=4)[0] == 1 << 28


def test_nothing_is_kept_that_is_of_no_use(told):
    assert told("none", 10**12) == (0, "")
    assert told("auto", 10**12, to_come=10) == (0, "")  # no image comes twice
    assert told("auto", 3 * IMAGE) == (0, "")  # not even one fits
    assert told("auto", 10 * IMAGE, reserved=11 * IMAGE) == (0, "")


def test_memory_keeps_all_or_is_refused(told):
    limit, text = told("memory", 10 * IMAGE)
    assert limit == 10 * IMAGE and "all 10 decoded images" in text
    assert told("memory", None)[0] >= 10 * IMAGE
    for more in ({"free": 10 * IMAGE - 1}, {"free": 12 * IMAGE, "reserved": 3 * IMAGE}):
        with raises("out-of-memory", "image_cache"):
            told("memory", **more)
