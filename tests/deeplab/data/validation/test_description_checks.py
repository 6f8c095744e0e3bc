"""dataset.yml and records that disagree."""

import os

import pytest
from support.disc_files import change_description, check_records, only

from deeplab.config.validation_config import CheckConfig
from deeplab.data import dataset as datasets
from deeplab.data import records


@pytest.fixture
def folder(discs, tmp_path):
    return discs.records(tmp_path / "records")


def test_a_split_that_is_described_but_not_there(folder):
    for index in (0, 1):
        os.remove(folder / records.shard_name("val", index, 2))
    (found,) = only(check_records(folder), "description-disagrees")
    assert found.where == "dataset.yml, split val"
    assert "states 4 images, but the folder holds no shard" in found.text
    assert check_records(folder, CheckConfig(split="train"), splits=("train",)).findings == []


def test_a_split_that_is_not_described(folder):
    change_description(folder, splits={"train": 8})
    (found,) = only(check_records(folder), "description-disagrees")
    assert "does not list the split, of which there are 4 records" in found.text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"splits": {"train": 8, "val": 5}}, "states 5 images, there are 4 records"),
        ({"pixels": {"val": (1, 2, 3)}}, "states 1 pixels of ground (0)"),
        ({"ignored_pixels": {"val": 7}}, "states 7 ignored pixels, the labels hold 0"),
        (
            {"size_range": {"val": datasets.SizeRange(64, 64, 80, 90)}},
            "states images of 64x80 to 64x90, there are 64x80 (height x width)",
        ),
    ],
)
def test_a_description_that_disagrees(folder, changes, text):
    change_description(folder, **changes)
    (found,) = only(check_records(folder), "description-disagrees")
    assert text in found.text
    assert found.severity == "warning"
