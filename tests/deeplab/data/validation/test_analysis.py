"""The check as a whole: which pairs are examined, what is kept, what is drawn."""

import io

import numpy as np
import pytest
from PIL import Image
from support.disc_files import check_records

from deeplab.config.validation_config import CheckConfig
from deeplab.data.validation import analysis, subject
from deeplab.data.validation.analysis import FindingLog
from deeplab.data.validation.rules import MAX_LISTED, finding


@pytest.fixture
def folder(discs, tmp_path):
    return discs.records(tmp_path / "records")


def test_facts_of_the_clean_set(discs):
    report = discs.check()
    assert report.may_train and report.findings == []
    for split, names in discs.names.items():
        labels = np.stack([discs.label(name) for name in names])
        facts = report.splits[split]
        assert facts.images == len(names)
        assert facts.pixels == tuple(np.bincount(labels.ravel(), minlength=3).tolist())
        assert facts.images_with == (len(names),) * 3
        assert facts.sizes == {(64, 80): len(names)}
        assert facts.kinds == {"jpeg, RGB": len(names)}


def test_of_each_rule_the_first_are_kept():
    log = FindingLog()
    log.add(finding("image-gray", str(number), "gray") for number in range(MAX_LISTED + 5))
    log.add([finding("size-differs", "x", "too small")])
    assert log.numbers == {"image-gray": MAX_LISTED + 5, "size-differs": 1}
    assert [item.rule for item in log.in_order()] == ["size-differs", *["image-gray"] * MAX_LISTED]
    assert not log.wants("image-gray")


def test_some_images_evenly_spread(folder):
    report = check_records(folder, CheckConfig(max_images=3))
    assert {split: facts.images for split, facts in report.splits.items()} == {"train": 3, "val": 3}
    assert report.checked.endswith("(6 of 12 images)")
    assert report.findings == []


def test_samples_are_among_the_images_that_are_looked_at(folder):
    report = analysis.check(subject.of_records(folder), CheckConfig(max_images=3), with_previews=True)
    assert len(report.samples) == 6


def test_leaks_between_records_have_previews(discs, tmp_path):
    discs.image("b1").write_bytes(discs.image("a3").read_bytes())
    discs.mask("b1").write_bytes(discs.mask("a3").read_bytes())
    found = subject.of_records(discs.records(tmp_path / "records"))
    report = analysis.check(found, with_previews=True)
    (leak,) = report.findings
    assert leak.rule == "image-in-two-splits"
    height, width = np.asarray(Image.open(io.BytesIO(leak.preview))).shape[:2]
    assert (height, width) == (64, 2 * 80 + 8)  # both, side by side
    assert len(report.samples) == 12
    assert {sample.split for sample in report.samples} == {"train", "val"}
