"""TFRecords: the reference's own shards, names, gaps, writers that are killed, damage that is located."""

import pytest
import tensorflow as tf

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


def test_the_references_shards_hold_the_same_examples_as_ours(golden):
    for path in sorted((golden / "records").glob("*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)):
            theirs = tf.train.Example.FromString(record.numpy())
            values = records._decode(path, 0, record.numpy())
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


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


def test_shard_name():
    assert shard_name("train", 2, 10) == "train-00002-of-00010.tfrecord"


def test_shards_are_sorted_and_splits_kept_apart(tmp_path):
    touch(tmp_path, *(shard_name("train", index, 3) for index in (2, 0, 1)), shard_name("train-aug", 0, 1))
    assert list_shards(tmp_path, "train") == [str(tmp_path / shard_name("train", index, 3)) for index in range(3)]
    assert len(list_shards(tmp_path, "train-aug")) == 1


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        list_shards(tmp_path / "no", "train")


def test_missing_split_names_what_is_there_and_the_nearest(tmp_path):
    touch(tmp_path, shard_name("train", 0, 1), shard_name("validation", 0, 2), shard_name("validation", 1, 2))
    with pytest.raises(UserError) as fault:
        list_shards(tmp_path, "valid")
    assert "valid-?????-of-?????.tfrecord" in fault.value.rule
    assert "train (1 shards), validation (2 shards)" in fault.value.rule
    assert fault.value.hint == "did you mean split 'validation'?"


def test_empty_folder_and_records_one_folder_deeper(tmp_path):
    with pytest.raises(UserError, match="build records first"):
        list_shards(tmp_path, "train")
    (tmp_path / "tfrecord").mkdir()
    touch(tmp_path / "tfrecord", shard_name("train", 0, 1))
    with pytest.raises(UserError, match=r"--dataset_dir=.*tfrecord"):
        list_shards(tmp_path, "train")


def test_gap_in_a_set_of_shards(tmp_path):
    touch(tmp_path, *(shard_name("train", index, 4) for index in (0, 1, 2)))
    with pytest.raises(UserError, match="lacks 1 of 4 shards: train-00003-of-00004"):
        list_shards(tmp_path, "train")


def test_shards_of_two_builds(tmp_path):
    touch(tmp_path, shard_name("train", 0, 1), shard_name("train", 0, 2), shard_name("train", 1, 2))
    with pytest.raises(UserError, match="of-00001 and of-00002"):
        list_shards(tmp_path, "train")


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


def test_left_overs_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    touch(tmp_path, ".train-00000-of-00001.tfrecord.123.partial", ".dataset.yml.4.partial", "notes.partial", ".hidden")
    removed = records.remove_partial_files(tmp_path)
    assert removed == [".dataset.yml.4.partial", ".train-00000-of-00001.tfrecord.123.partial"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "notes.partial"]


# --- Damage -------------------------------------------------------------------------------------------------


def test_truncated_shard_names_file_and_record(tmp_path):
    path = write_shard(tmp_path, shard_name("train", 0, 1), 3)
    path.write_bytes(path.read_bytes()[:-10])
    for reader in (records.count_records, records.check_shard):
        with pytest.raises(UserError, match=r"train-00000-of-00001.tfrecord: record 2 \(counted from 0\) is damaged"):
            reader(path)


def test_flipped_bit_names_file_and_record(tmp_path):
    path = write_shard(tmp_path, shard_name("train", 0, 1), 3)
    content = bytearray(path.read_bytes())
    content[len(content) // 3 + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"record 1 .* is damaged.*corrupted"):
        records.check_shard(path)


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
    with pytest.raises(UserError, match="'image/encoded'"):
        records.check_shard(path)
