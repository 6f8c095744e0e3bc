"""Records that are bad: each is found, by record, rule and hint, and nothing else is."""

import gzip
import os
import re

import numpy as np
import pytest
import tensorflow as tf
from support.disc_files import change_description, check_records, draw, encoded, only
from support.errors import raises

from deeplab.data import dataset as datasets
from deeplab.data import records


@pytest.fixture
def folder(discs, tmp_path):
    return discs.records(tmp_path / "records")


def test_clean_records(folder):
    report = check_records(folder)
    assert report.findings == []
    assert report.dataset.class_names == ("ground", "disc", "bar")
    assert list(report.splits) == ["train", "val"]
    assert report.splits["train"].images == 8


def test_records_and_files_tell_the_same(discs, folder):
    assert check_records(folder).splits == discs.check().splits


BAD_RECORDS = {
    "no label": ("record-without-label", lambda draw, encoded: {"label": b""}, "has no label"),
    "colors": (
        "label-not-gray-png",
        lambda draw, encoded: {"label": encoded(np.zeros((64, 80, 3), np.uint8))},
        "PNG, pixels of mode RGB",
    ),
    "palette": (
        "label-not-gray-png",
        lambda draw, encoded: {"label": encoded(np.zeros((64, 80), np.uint8), "gif")},
        "GIF",
    ),
    "not an image": ("mask-unreadable", lambda draw, encoded: {"label": b"nothing"}, "format is not known"),
    "another size": ("size-differs", lambda draw, encoded: {"label": encoded(draw(0)[1][:60])}, "mask is 60x80"),
    "a strange value": (
        "label-out-of-range",
        lambda draw, encoded: {"label": encoded(draw(0)[1] + np.uint8(1))},
        "3 on 192 pixels",
    ),
    "wrong size said": ("record-fields-wrong", lambda draw, encoded: {"height": 80, "width": 64}, "states 80x64"),
    "wrong format said": ("record-fields-wrong", lambda draw, encoded: {"image_format": "png"}, "the image is jpeg"),
    "image cut off": (
        "image-unreadable",
        lambda draw, encoded: {"image": encoded(draw(0)[0], "jpeg")[:900]},
        "truncated",
    ),
    "image of another kind": (
        "image-unreadable",
        lambda draw, encoded: {"image": encoded(draw(0)[0], "bmp")},
        "is BMP inside",
    ),
    "no image": ("record-unusable", lambda draw, encoded: {"image": b""}, "has no 'image/encoded'"),
}


@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_a_bad_record(discs, folder, kind):
    rule, change, text = BAD_RECORDS[kind]
    discs.change_record(folder, **change(draw, encoded))
    (found,) = only(check_records(folder), rule)
    named = "" if kind == "no image" else "b0 ("
    assert found.where.startswith(f"{named}val-00000-of-00002.tfrecord, record 0")
    assert found.split == "val"
    assert text in found.text
    assert found.hint


def test_fields_that_are_not_there_are_not_wrong(discs, folder):
    discs.change_record(folder, height=0, width=0, image_format="")
    assert check_records(folder).findings == []


def test_a_record_that_is_no_example(discs, folder):
    with tf.io.TFRecordWriter(str(folder / records.shard_name("val", 0, 2))) as writer:
        writer.write(b"\xff\xff")
        writer.write(records.encode_example(**discs.parts("b0")))
    found = [item for item in check_records(folder).findings if item.rule == "record-unusable"]
    assert [item.where for item in found] == ["val-00000-of-00002.tfrecord, record 0"]


def test_a_shard_cut_off(folder):
    shard = folder / records.shard_name("train", 1, 2)
    shard.write_bytes(shard.read_bytes()[:-100])
    report = check_records(folder)
    found = {item.rule: item for item in report.findings}
    assert set(found) == {"shard-damaged", "description-disagrees"}
    assert found["shard-damaged"].where == str(shard)
    assert "record 3" in found["shard-damaged"].text
    assert "states 8 images, there are 7 records" in found["description-disagrees"].text
    assert not report.may_train


@pytest.mark.parametrize("place", [0.5, 0.0])  # in an image, and in the first length
def test_a_damaged_byte(folder, place):
    shard = folder / records.shard_name("train", 0, 2)
    data = bytearray(shard.read_bytes())
    data[int(place * len(data))] ^= 1
    shard.write_bytes(bytes(data))
    (found,) = [item for item in check_records(folder).findings if item.rule == "shard-damaged"]
    assert found.where == str(shard)
    assert re.match(r"record \d \(counted from 0\) is damaged: corrupted record at \d+", found.text)
    assert "function_node" not in found.text and "Op:" not in found.text


NO_SHARDS = {
    "text": (lambda shard: shard.write_text("hello " * 50), "may be no TFRecord file at all"),
    "gzip": (lambda shard: shard.write_bytes(gzip.compress(shard.read_bytes())), "compressed by gzip"),
    "folder": (lambda shard: (shard.unlink(), shard.mkdir()), "is a folder, not a file"),
    "link": (lambda shard: (shard.unlink(), shard.symlink_to("nowhere")), "does not exist"),
}


@pytest.mark.parametrize("kind", NO_SHARDS)
def test_a_shard_that_is_none(folder, kind):
    shard = folder / records.shard_name("train", 1, 2)
    change, text = NO_SHARDS[kind]
    change(shard)
    (found,) = [item for item in check_records(folder).findings if item.rule == "shard-damaged"]
    assert found.where == str(shard)
    assert text in found.text


def test_a_shard_cut_between_two_records(discs, folder):
    with records.ShardWriter(folder, records.shard_name("train", 1, 2)) as writer:
        writer.write(records.encode_example(**discs.parts("a4")))
        writer.publish()
    (found,) = only(check_records(folder), "description-disagrees")
    assert "states 8 images, there are 5 records" in found.text


def test_shards_of_two_builds(folder):
    shard = folder / records.shard_name("train", 0, 2)
    (folder / records.shard_name("train", 0, 3)).write_bytes(shard.read_bytes())
    (found,) = [item for item in check_records(folder).findings if item.rule == "shards-incomplete"]
    assert "split 'train' has shards of two builds" in found.text


def test_a_shard_twice(folder):
    shards = [folder / records.shard_name("train", index, 2) for index in (0, 1)]
    shards[1].write_bytes(shards[0].read_bytes())
    report = check_records(folder)
    assert report.numbers == {"name-repeated": 4}
    assert report.findings[0].hint.endswith("; then build the records again with `overwrite=true`")


def test_files_of_a_stopped_build_are_no_shards(folder):
    name = records.shard_name("train", 0, 2)
    for other in (f".{name}.123.partial", f"{name}.tmp", "mine.tfrecord"):
        (folder / other).write_bytes(b"abc")
    assert check_records(folder).findings == []


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({"label": b"nothing"}, "; then build the records again with `overwrite=true`"),
        ({"label": b""}, "`split=NAME` limits the check to splits that have them"),
    ],
)
def test_hints_for_records(discs, folder, changes, ending):
    """What is fixed in the files before the records changes nothing in them."""
    discs.change_record(folder, **changes)
    (found,) = check_records(folder).findings
    assert found.hint.endswith(ending)


def test_a_missing_shard(folder):
    os.remove(folder / records.shard_name("train", 0, 2))
    report = check_records(folder)
    assert set(report.numbers) == {"shards-incomplete", "description-disagrees"}
    assert "lacks 1 of 2 shards: train-00000-of-00002.tfrecord" in report.findings[0].text


def test_a_description_whose_classes_count_the_ignored_pixels(discs, tmp_path):
    def with_border(label):
        label[0] = 255
        return label

    discs.change_labels(with_border)
    folder = discs.records(tmp_path / "records")
    change_description(folder, class_names=("ground", "disc", "bar", "ignore"))
    (found,) = only(check_records(folder), "ignore-counted-as-class")
    assert found.hint == "`num_classes=3`"


@pytest.mark.parametrize("content", ["", "a: [b\n c: }", "klasses: [a, b]\n", b"\x80\x81"])
def test_a_description_that_is_none(folder, content):
    (folder / datasets.FILE_NAME).write_bytes(content if isinstance(content, bytes) else content.encode())
    (found,) = only(check_records(folder), "description-unusable")
    assert found.where == str(folder / datasets.FILE_NAME)


def test_a_description_with_another_ignore_label(discs, tmp_path):
    def with_border(label):
        label[0] = 255
        return label

    discs.change_labels(with_border)
    folder = discs.records(tmp_path / "records")
    change_description(folder, ignore_label=254)
    assert set(check_records(folder).numbers) == {"label-out-of-range"}


def test_no_description(folder):
    os.remove(folder / datasets.FILE_NAME)
    (found,) = only(check_records(folder), "description-missing")
    assert found.severity == "warning"
    assert check_records(folder).dataset.class_names == ("background", "class_1", "class_2")


def test_a_broken_description(folder):
    (folder / datasets.FILE_NAME).write_text("classes: 3\n")
    (found,) = only(check_records(folder), "description-unusable")
    assert "must be a list of names" in found.text


def test_another_number_of_classes_than_described(folder):
    report = check_records(folder, num_classes=2)
    assert report.numbers == {"label-out-of-range": 12}
    assert "num_classes=3" in report.findings[0].hint and report.repair == {}
    report = check_records(folder, num_classes=4)
    assert report.numbers == {"class-absent": 1}


def test_no_records(tmp_path):
    (tmp_path / "notes.txt").touch()
    (found,) = [item for item in check_records(tmp_path).findings if item.rule == "nothing-to-check"]
    assert "no file matches" in found.text
    assert not check_records(tmp_path).may_train


def test_records_one_folder_deeper(folder):
    found = [item for item in check_records(folder.parent).findings if item.rule == "nothing-to-check"]
    assert found[0].hint.startswith("`dataset_dir=") or "one folder deeper" in found[0].hint


def test_an_empty_split(discs, folder):
    with records.ShardWriter(folder, records.shard_name("test", 0, 1)) as writer:
        writer.publish()
    found = [item for item in check_records(folder).findings if item.rule == "split-empty"]
    assert [item.split for item in found] == ["test"]


def test_an_unknown_split(folder):
    with raises("unknown-name", field="split") as info:
        check_records(folder, splits=("valid",))
    assert info.value.value == "valid" and info.value.hint == "its splits are train, val"


def test_no_folder(tmp_path):
    with raises("folder-not-found", where=tmp_path / "nowhere"):
        check_records(tmp_path / "nowhere")
