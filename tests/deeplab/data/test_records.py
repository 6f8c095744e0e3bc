"""TFRecords: the reference's own shards, names, gaps, writers that are killed, damage that is located."""

import contextlib
import gzip
import os

import numpy as np
import pytest
import tensorflow as tf
from support.empty_files import touch
from support.errors import raises

from deeplab.data import records
from deeplab.data.records import ShardWriter, list_shards, read_shard, shard_name
from deeplab.utils.errors import UserError


def example(number: int = 0) -> bytes:
    return records.encode_example(b"image %d" % number, "jpg", f"name_{number}", 3, 4, b"label")


def write_shard(folder, name, number_of_records):
    with ShardWriter(folder, name) as writer:
        for number in range(number_of_records):
            writer.write(example(number))
        writer.publish()
    return folder / name


def test_keys_of_an_example():
    features = tf.train.Example.FromString(example(7)).features.feature
    assert {key: tuple(value.bytes_list.value) or tuple(value.int64_list.value) for key, value in features.items()} == {
        "image/encoded": (b"image 7",),
        "image/filename": (b"name_7",),
        "image/format": (b"jpeg",),
        "image/height": (3,),
        "image/width": (4,),
        "image/channels": (3,),
        "image/segmentation/class/encoded": (b"label",),
        "image/segmentation/class/format": (b"png",),
    }


def test_labels_of_16_bits_have_a_key_of_their_own():
    data = records.encode_example(b"image", "png", "a", 3, 4, b"label", label_bits=16)
    features = tf.train.Example.FromString(data).features.feature
    assert features["image/segmentation/class/encoded_uint16"].bytes_list.value == [b"label"]
    assert "image/segmentation/class/encoded" not in features  # where older readers would take high bytes for classes
    assert features["image/segmentation/class/format"].bytes_list.value == [b"png"]
    assert records.label_of(records.parse_example(data)) == b"label"
    assert records.label_of(records.parse_example(example())) == b"label" and records.label_of({}) == b""


@pytest.mark.parametrize("number", [0, 1, 127, 128, 2**31, 2**63 - 1])
@pytest.mark.parametrize("image", [b"", bytes(range(256)) * 70])
def test_examples_have_the_bytes_of_tensorflows_deterministic_serialization(number, image):
    ours = records.encode_example(image, "png", "Straße ü", number, 4, b"label")
    assert tf.train.Example.FromString(ours).SerializeToString(deterministic=True) == ours


def test_a_shard_without_records_is_an_empty_file(tmp_path):
    path = write_shard(tmp_path, shard_name("train", 0, 1), 0)
    assert path.read_bytes() == b"" and list(read_shard(path)) == []


def test_the_references_shards_hold_the_same_examples_as_ours(golden):
    for path in sorted((golden / "records").glob("*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)):
            theirs = tf.train.Example.FromString(record.numpy())
            values = records.parse_example(record.numpy())
            ours = records.encode_example(
                values[records.IMAGE],
                "jpg",
                values[records.FILENAME].decode(),
                values[records.HEIGHT],
                values[records.WIDTH],
                values[records.LABEL],
            )
            assert tf.train.Example.FromString(ours) == theirs


def test_feature_spec_parses_the_references_records(golden):
    dataset = tf.data.TFRecordDataset(list_shards(golden / "records", "val"))
    parsed = [tf.io.parse_single_example(record, records.feature_spec()) for record in dataset]
    assert [item[records.FILENAME].numpy() for item in parsed] == [b"2007_000006", b"2007_000007", b"2007_000008"]
    assert [int(item[records.HEIGHT]) for item in parsed] == [33, 180, 100]


def test_counts_without_reading(golden):
    shards = list_shards(golden / "records", "train")
    assert [records.count_records(path) for path in shards] == [2, 2, 2, 0]
    assert records.count(shards) == 6
    assert sum(map(records.check_shard, shards)) == 6


# --- Names and gaps -----------------------------------------------------------------------------------------


def test_offsets_are_the_places_of_records(tmp_path):
    with ShardWriter(tmp_path, "train-00000-of-00001.tfrecord") as writer:
        for length in (5, 0, 300):
            writer.write(b"x" * length)
        writer.publish()
    (path,) = list_shards(tmp_path, "train")
    assert records.offsets(path).tolist() == [0, 21, 37] and records.count_records(path) == 3


def test_shard_name():
    assert shard_name("train", 2, 10) == "train-00002-of-00010.tfrecord"


def test_shards_are_sorted_and_splits_kept_apart(tmp_path):
    touch(tmp_path, *(shard_name("train", index, 3) for index in (2, 0, 1)), shard_name("train-aug", 0, 1))
    assert list_shards(tmp_path, "train") == [str(tmp_path / shard_name("train", index, 3)) for index in range(3)]
    assert len(list_shards(tmp_path, "train-aug")) == 1


def test_missing_folder(tmp_path):
    with raises("folder-not-found", where="no"):
        list_shards(tmp_path / "no", "train")


def test_missing_split_names_what_is_there_and_the_nearest(tmp_path):
    touch(tmp_path, shard_name("train", 0, 1), shard_name("validation", 0, 2), shard_name("validation", 1, 2))
    with raises("unknown-split", where=tmp_path) as caught:
        list_shards(tmp_path, "valid")
    assert "valid-?????-of-?????.tfrecord" in caught.value.rule
    assert "train (1 shard), validation (2 shards)" in caught.value.rule
    assert caught.value.hint == "did you mean split 'validation'?"


def test_empty_folder_and_records_one_folder_deeper(tmp_path):
    with raises("unknown-split", where=tmp_path) as caught:
        list_shards(tmp_path, "train")
    assert "build records first" in caught.value.hint
    (tmp_path / "tfrecord").mkdir()
    touch(tmp_path / "tfrecord", shard_name("train", 0, 1))
    with raises("unknown-split", where=tmp_path) as caught:
        list_shards(tmp_path, "train")
    assert f"`dataset_dir={tmp_path / 'tfrecord'}`" in caught.value.hint


def test_gap_in_a_set_of_shards(tmp_path):
    touch(tmp_path, *(shard_name("train", index, 4) for index in (0, 1, 2)))
    with raises("incomplete-split", where=tmp_path) as caught:
        list_shards(tmp_path, "train")
    assert "lacks 1 of 4 shards: train-00003-of-00004" in caught.value.rule


def test_shards_of_two_builds(tmp_path):
    touch(tmp_path, shard_name("train", 0, 1), shard_name("train", 0, 2), shard_name("train", 1, 2))
    with raises("incomplete-split", where=tmp_path) as caught:
        list_shards(tmp_path, "train")
    assert "of-00001 and of-00002" in caught.value.rule


# --- Writing ------------------------------------------------------------------------------------------------


def test_nothing_looks_like_a_shard_before_publish(tmp_path):
    with ShardWriter(tmp_path, shard_name("train", 0, 1)) as writer:
        writer.write(example())
        assert records.shards_by_split(tmp_path) == {}
        assert list(tmp_path.glob("train-*")) == []  # the reference's pattern
        writer.publish()
    assert [record[records.FILENAME] for record in read_shard(tmp_path / shard_name("train", 0, 1))] == [b"name_0"]


def test_failed_writer_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), ShardWriter(tmp_path, shard_name("train", 0, 1)) as writer:
        writer.write(example())
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


# --- Damage -------------------------------------------------------------------------------------------------


def test_truncated_shard_names_file_and_record(tmp_path):
    path = write_shard(tmp_path, shard_name("train", 0, 1), 3)
    path.write_bytes(path.read_bytes()[:-10])
    for reader in (records.count_records, records.check_shard):
        with raises("bad-record", where="train-00000-of-00001.tfrecord") as caught:
            reader(path)
        assert caught.value.value == 2


def test_flipped_bit_names_file_and_record(tmp_path):
    path = write_shard(tmp_path, shard_name("train", 0, 1), 3)
    content = bytearray(path.read_bytes())
    content[len(content) // 3 + 40] ^= 1
    path.write_bytes(content)
    with raises("bad-record", where=path) as caught:
        records.check_shard(path)
    assert caught.value.value == 1 and "corrupted" in caught.value.rule


def test_find_damage_looks_through_all_shards(tmp_path):
    whole = write_shard(tmp_path, shard_name("train", 0, 2), 2)
    cut = write_shard(tmp_path, shard_name("train", 1, 2), 2)
    assert records.find_damage([whole, cut]) is None
    cut.write_bytes(cut.read_bytes()[:30])
    assert records.find_damage([whole, cut]).where == str(cut)


def test_records_of_something_else(tmp_path):
    path = tmp_path / shard_name("train", 0, 1)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(tf.train.Example().SerializeToString())
    with raises("bad-record", where=path) as caught:
        records.check_shard(path)
    assert "'image/encoded'" in caught.value.rule


def masked_crc(data: bytes) -> bytes:
    """The checksum of a TFRecord: CRC-32C, bit by bit, then rotated."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


@pytest.mark.parametrize("length", [2**20, 2**40, 2**62, 2**64 - 16])
def test_a_length_beyond_the_file(tmp_path, length):
    """TensorFlow's reader ends the process at such a length if its checksum is right."""
    path = write_shard(tmp_path, shard_name("train", 0, 1), 2)
    header = length.to_bytes(8, "little")
    path.write_bytes(path.read_bytes() + header + masked_crc(header) + b"content and checksum")
    read = []
    with raises("bad-record", where=path) as caught:
        for record in read_shard(path):
            read.append(record[records.FILENAME])
    assert read == [b"name_0", b"name_1"]
    assert caught.value.rule == "record 2 (counted from 0) is damaged: the file ends within it"
    with raises("bad-record", where=path):
        records.count_records(path)


def write_example(folder, **features):
    path = folder / shard_name("train", 0, 1)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return path


@pytest.mark.parametrize("key", [records.IMAGE, records.LABEL, records.FILENAME, records.HEIGHT])
def test_values_of_another_type(tmp_path, key):
    floats = tf.train.Feature(float_list=tf.train.FloatList(value=[1.0]))
    features = {records.IMAGE: tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"image"]))}
    path = write_example(tmp_path, **{**features, key: floats})
    with raises("bad-record", where=path) as caught:
        records.check_shard(path)
    assert f"'{key}'" in caught.value.rule and "float_list" in caught.value.rule


def test_gzip_and_what_is_no_tfrecord_file(tmp_path):
    path = write_shard(tmp_path, shard_name("train", 0, 1), 1)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with raises("bad-record", where=path) as caught:
        records.check_shard(path)
    assert "compressed by gzip" in caught.value.rule
    path.write_text("a text")
    with raises("bad-record", where=path) as caught:
        records.check_shard(path)
    assert "may be no TFRecord file at all" in caught.value.rule


@pytest.mark.parametrize("reader", [records.check_shard, records.count_records])
def test_what_is_no_file(tmp_path, reader):
    with raises("file-not-found", where="gone"):
        reader(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    with raises("not-a-file", where="pipe"):
        reader(tmp_path / "pipe")


def test_random_damage_is_an_error_in_words_or_nothing(tmp_path):
    path = write_shard(tmp_path, shard_name("train", 0, 1), 3)
    content, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        bad = np.frombuffer(content, np.uint8).copy()
        bad[random.integers(0, len(bad), random.integers(1, 4))] = random.choice([0, 1, 127, 128, 255])
        path.write_bytes(bad[: random.integers(1, len(bad) + 1)].tobytes())
        with contextlib.suppress(UserError):
            records.check_shard(path)


class TestValues:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    @pytest.mark.parametrize("channels", [1, 3, 16])
    def test_any_bands_are_stored_without_loss(self, dtype, channels):
        pixels = (np.random.default_rng(0).random((5, 7, channels)) * 60000).astype(dtype)
        if dtype == "float32":
            pixels[0, 0] = np.nan
        data = records.encode_values(pixels)
        example = records.encode_example(data, records.VALUES, "a", 5, 7, b"x", values=(channels, dtype))
        record = records.parse_example(example)
        assert (record[records.CHANNELS], record[records.DTYPE]) == (channels, dtype.encode())
        found = records.decode_values(record)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, pixels)

    def test_records_of_images_have_the_keys_of_the_reference_alone(self):
        record = records.parse_example(records.encode_example(b"i", "jpeg", "a", 1, 2, b"x"))
        assert sorted(record) == [
            *("image/channels", "image/encoded", "image/filename", "image/format", "image/height"),
            *("image/segmentation/class/encoded", "image/segmentation/class/format", "image/width"),
        ]
        assert record["image/channels"] == 3

    @pytest.mark.parametrize(
        "change",
        [
            {records.HEIGHT: 2**40},
            {records.WIDTH: -1},
            {records.CHANNELS: 0},
            {records.DTYPE: b"float64"},
            {records.DTYPE: b"uint8"},
            {records.IMAGE: b"no zlib"},
            {records.IMAGE: records.encode_values(np.zeros((2, 2, 3), np.uint16))[:-4]},
        ],
    )
    def test_fields_that_do_not_fit_the_content_are_refused(self, change):
        data = records.encode_values(np.zeros((2, 2, 3), np.uint16))
        record = {
            records.IMAGE: data,
            records.HEIGHT: 2,
            records.WIDTH: 2,
            records.CHANNELS: 3,
            records.DTYPE: b"uint16",
        }
        with pytest.raises(ValueError, match="image"):
            records.decode_values({**record, **change})


def test_shards_of_the_same_size_are_told_apart(tmp_path):
    found = []
    for number, contents in enumerate(([b"one", b"two"], [b"one", b"twa"], [b"two", b"one"], [b"one", b"two"], [])):
        path = tmp_path / f"shard-{number}"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for content in contents:
                writer.write(content)
        found.append(records.fingerprint(path))
    assert found[0] == found[3] and len(set(found)) == 4
