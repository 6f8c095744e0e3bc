"""Faults of records: each is found, by record, rule and hint, and nothing else is."""

import dataclasses
import gzip
import os
import re

import numpy as np
import pytest
import tensorflow as tf

from deeplab.config.validation_config import CheckConfig
from deeplab.data import dataset as datasets
from deeplab.data import records
from deeplab.data.validation import analysis, subject
from deeplab.utils.errors import UserError


def check(folder, config=None, **more):
    return analysis.check(subject.of_records(folder, **more), config)


@pytest.fixture
def folder(discs, tmp_path):
    return discs.records(tmp_path / "records")


def with_record(discs, folder, name="b0", **changes):
    """Writes a shard of val anew, in which one record is changed."""
    with records.ShardWriter(folder, records.shard_name("val", 0, 2)) as writer:
        for member in ("b0", "b1"):
            parts = {**discs.parts(member), **(changes if member == name else {})}
            writer.write(records.encode_example(**parts))
        writer.publish()
    return folder


def described(folder, **changes):
    path = folder / datasets.FILE_NAME
    datasets.save(dataclasses.replace(datasets.load(path), **changes), path)


def test_clean_records_raise_nothing(folder):
    report = check(folder)
    assert report.findings == []
    assert report.dataset.class_names == ("ground", "disc", "bar")
    assert list(report.splits) == ["train", "val"]
    assert report.splits["train"].images == 8


def test_records_and_files_tell_the_same(discs, folder):
    assert check(folder).splits == discs.check().splits


RECORD_FAULTS = {
    "no label": ("record-without-label", lambda draw, encoded: {"label": b""}, "has no label"),
    "colors": (
        "label-not-gray-png",
        lambda draw, encoded: {"label": encoded(np.zeros((64, 80, 3), np.uint8))},
        "PNG, pixels of kind RGB",
    ),
    "palette": (
        "label-not-gray-png",
        lambda draw, encoded: {"label": encoded(np.zeros((64, 80), np.uint8), "gif")},
        "GIF",
    ),
    "no picture": ("mask-unreadable", lambda draw, encoded: {"label": b"nothing"}, "format is not known"),
    "another size": ("size-differs", lambda draw, encoded: {"label": encoded(draw(0)[1][:60])}, "mask is 60x80"),
    "a strange value": (
        "label-out-of-range",
        lambda draw, encoded: {"label": encoded(draw(0)[1] + np.uint8(1))},
        "3 on 192 pixels",
    ),
    "wrong size said": ("record-fields-wrong", lambda draw, encoded: {"height": 80, "width": 64}, "says 80x64"),
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


@pytest.mark.parametrize("fault", RECORD_FAULTS)
def test_a_faulty_record(discs, drawn, folder, only, fault):
    rule, change, text = RECORD_FAULTS[fault]
    with_record(discs, folder, **change(*drawn))
    (found,) = only(check(folder), rule)
    named = "" if fault == "no image" else "b0 ("
    assert found.where.startswith(f"{named}val-00000-of-00002.tfrecord, record 0")
    assert found.split == "val"
    assert text in found.text
    assert found.hint


def test_fields_that_are_not_there_are_not_wrong(discs, folder):
    with_record(discs, folder, height=0, width=0, image_format="")
    assert check(folder).findings == []


def test_a_record_that_is_no_example(discs, folder, only):
    with tf.io.TFRecordWriter(str(folder / records.shard_name("val", 0, 2))) as writer:
        writer.write(b"\xff\xff")
        writer.write(records.encode_example(**discs.parts("b0")))
    found = [item for item in check(folder).findings if item.rule == "record-unusable"]
    assert [item.where for item in found] == ["val-00000-of-00002.tfrecord, record 0"]


def test_a_shard_cut_off(folder):
    shard = folder / records.shard_name("train", 1, 2)
    shard.write_bytes(shard.read_bytes()[:-100])
    report = check(folder)
    found = {item.rule: item for item in report.findings}
    assert set(found) == {"shard-damaged", "description-disagrees"}
    assert found["shard-damaged"].where == str(shard)
    assert "record 3" in found["shard-damaged"].text
    assert "says 8 images, there are 7 records" in found["description-disagrees"].text
    assert not report.may_train


@pytest.mark.parametrize("place", [0.5, 0.0])  # in a picture, and in the first length
def test_a_damaged_byte(folder, place):
    shard = folder / records.shard_name("train", 0, 2)
    data = bytearray(shard.read_bytes())
    data[int(place * len(data))] ^= 1
    shard.write_bytes(bytes(data))
    (found,) = [item for item in check(folder).findings if item.rule == "shard-damaged"]
    assert found.where == str(shard)
    assert re.match(r"record \d \(counted from 0\) is damaged: corrupted record at \d+", found.text)
    assert "function_node" not in found.text and "Op:" not in found.text


NO_SHARDS = {
    "text": (lambda shard: shard.write_text("hello " * 50), "may be no TFRecord file at all"),
    "gzip": (lambda shard: shard.write_bytes(gzip.compress(shard.read_bytes())), "compressed by gzip"),
    "folder": (lambda shard: (shard.unlink(), shard.mkdir()), "record 0"),
    "link": (lambda shard: (shard.unlink(), shard.symlink_to("nowhere")), "record 0"),
}


@pytest.mark.parametrize("kind", NO_SHARDS)
def test_a_shard_that_is_none(folder, kind):
    shard = folder / records.shard_name("train", 1, 2)
    change, text = NO_SHARDS[kind]
    change(shard)
    (found,) = [item for item in check(folder).findings if item.rule == "shard-damaged"]
    assert found.where == str(shard)
    assert text in found.text


def test_a_shard_cut_between_two_records(discs, folder, only):
    with records.ShardWriter(folder, records.shard_name("train", 1, 2)) as writer:
        writer.write(records.encode_example(**discs.parts("a4")))
        writer.publish()
    (found,) = only(check(folder), "description-disagrees")
    assert "says 8 images, there are 5 records" in found.text


def test_shards_of_two_builds(folder):
    shard = folder / records.shard_name("train", 0, 2)
    (folder / records.shard_name("train", 0, 3)).write_bytes(shard.read_bytes())
    (found,) = [item for item in check(folder).findings if item.rule == "shards-incomplete"]
    assert "split 'train' has shards of two builds" in found.text


def test_a_shard_twice(folder):
    shards = [folder / records.shard_name("train", index, 2) for index in (0, 1)]
    shards[1].write_bytes(shards[0].read_bytes())
    report = check(folder)
    assert report.numbers == {"name-repeated": 4}
    assert report.findings[0].hint.endswith("; then build the records anew with --overwrite=true")


def test_files_of_a_stopped_build_are_no_shards(folder):
    name = records.shard_name("train", 0, 2)
    for other in (f".{name}.123.partial", f"{name}.tmp", "mine.tfrecord"):
        (folder / other).write_bytes(b"abc")
    assert check(folder).findings == []


@pytest.mark.parametrize(
    ("fault", "ending"),
    [
        ({"label": b"nothing"}, "; then build the records anew with --overwrite=true"),
        ({"label": b""}, "--split=NAME checks those that have them"),
    ],
)
def test_remedies_for_records(discs, folder, fault, ending):
    """What is mended in front of records changes nothing in them."""
    with_record(discs, folder, **fault)
    (found,) = check(folder).findings
    assert found.hint.endswith(ending)


def test_a_missing_shard(folder):
    os.remove(folder / records.shard_name("train", 0, 2))
    report = check(folder)
    assert set(report.numbers) == {"shards-incomplete", "description-disagrees"}
    assert "lacks 1 of 2 shards: train-00000-of-00002.tfrecord" in report.findings[0].text


def test_a_split_that_is_described_but_not_there(folder, only):
    for index in (0, 1):
        os.remove(folder / records.shard_name("val", index, 2))
    (found,) = only(check(folder), "description-disagrees")
    assert found.where == "dataset.yml, split val"
    assert "says 4 images, but the folder holds no shard" in found.text
    assert check(folder, CheckConfig(split="train"), splits=("train",)).findings == []


def test_a_split_that_is_not_described(folder, only):
    described(folder, splits={"train": 8})
    (found,) = only(check(folder), "description-disagrees")
    assert "does not know the split, of which there are 4 records" in found.text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"splits": {"train": 8, "val": 5}}, "says 5 images, there are 4 records"),
        ({"pixels": {"val": (1, 2, 3)}}, "says 1 pixels of ground (0)"),
        ({"ignored_pixels": {"val": 7}}, "says 7 ignored pixels, the labels hold 0"),
        (
            {"size_range": {"val": datasets.SizeRange(64, 64, 80, 90)}},
            "says images of 64x80 to 64x90, there are 64x80 (height x width)",
        ),
    ],
)
def test_a_description_that_disagrees(folder, only, changes, text):
    described(folder, **changes)
    (found,) = only(check(folder), "description-disagrees")
    assert text in found.text
    assert found.severity == "warning"


def test_a_description_whose_classes_count_the_ignored_pixels(discs, tmp_path, only):
    def with_border(label):
        label[0] = 255
        return label

    discs.change_labels(with_border)
    folder = discs.records(tmp_path / "records")
    described(folder, class_names=("ground", "disc", "bar", "ignore"))
    (found,) = only(check(folder), "ignore-counted-as-class")
    assert found.hint == "--num_classes=3"


@pytest.mark.parametrize("content", ["", "a: [b\n c: }", "klasses: [a, b]\n", b"\x80\x81"])
def test_a_description_that_is_none(folder, only, content):
    (folder / datasets.FILE_NAME).write_bytes(content if isinstance(content, bytes) else content.encode())
    (found,) = only(check(folder), "description-unusable")
    assert found.where == str(folder / datasets.FILE_NAME)


def test_a_description_with_another_ignore_label(discs, tmp_path):
    def with_border(label):
        label[0] = 255
        return label

    discs.change_labels(with_border)
    folder = discs.records(tmp_path / "records")
    described(folder, ignore_label=254)
    assert set(check(folder).numbers) == {"label-out-of-range"}


def test_no_description(folder, only):
    os.remove(folder / datasets.FILE_NAME)
    (found,) = only(check(folder), "description-missing")
    assert found.severity == "warning"
    assert check(folder).dataset.class_names == ("background", "class_1", "class_2")


def test_a_broken_description(folder, only):
    (folder / datasets.FILE_NAME).write_text("classes: 3\n")
    (found,) = only(check(folder), "description-unusable")
    assert "must be a list of names" in found.text


def test_another_number_of_classes_than_described(folder):
    report = check(folder, num_classes=2)
    assert report.numbers == {"label-out-of-range": 12}
    assert "--num_classes=3" in report.findings[0].hint
    report = check(folder, num_classes=4)
    assert report.numbers == {"class-absent": 1}


def test_no_records(tmp_path, only):
    (tmp_path / "notes.txt").touch()
    (found,) = [item for item in check(tmp_path).findings if item.rule == "nothing-to-check"]
    assert "no file matches" in found.text
    assert not check(tmp_path).may_train


def test_records_one_folder_deeper(folder):
    found = [item for item in check(folder.parent).findings if item.rule == "nothing-to-check"]
    assert found[0].hint.startswith("--dataset_dir=") or "records lie one folder deeper" in found[0].hint


def test_an_empty_split(discs, folder, only):
    with records.ShardWriter(folder, records.shard_name("test", 0, 1)) as writer:
        writer.publish()
    found = [item for item in check(folder).findings if item.rule == "split-empty"]
    assert [item.split for item in found] == ["test"]


def test_an_unknown_split(folder):
    with pytest.raises(UserError, match=r"has no split 'valid'(?s:.*)the splits there are train, val"):
        check(folder, splits=("valid",))


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        check(tmp_path / "nowhere")


def test_some_images_evenly_spread(folder):
    report = check(folder, CheckConfig(max_images=3))
    assert {split: facts.images for split, facts in report.splits.items()} == {"train": 3, "val": 3}
    assert report.checked.endswith("(6 of 12 images)")
    assert report.findings == []


def test_samples_are_among_the_images_that_are_looked_at(folder):
    report = analysis.check(subject.of_records(folder), CheckConfig(max_images=3), with_pictures=True)
    assert len(report.samples) == 6


def test_leaks_between_records_have_pictures(discs, tmp_path):
    discs.image("b1").write_bytes(discs.image("a3").read_bytes())
    discs.mask("b1").write_bytes(discs.mask("a3").read_bytes())
    found = subject.of_records(discs.records(tmp_path / "records"))
    report = analysis.check(found, with_pictures=True)
    (leak,) = report.findings
    assert leak.rule == "picture-in-two-splits"
    height, width = tf.io.decode_jpeg(leak.picture).shape[:2]
    assert (height, width) == (64, 2 * 80 + 8)  # both, side by side
    assert len(report.samples) == 12
    assert {sample.split for sample in report.samples} == {"train", "val"}
