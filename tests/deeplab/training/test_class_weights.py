"""Class weights of a training: from dataset.yml, from the labels, or as given."""

import dataclasses

import numpy as np
import pytest
from conftest import disc_pair

from deeplab.config.training_config import LossConfig
from deeplab.data import dataset as datasets
from deeplab.data import records
from deeplab.losses import class_balance
from deeplab.losses.class_balance import ClassCounts
from deeplab.training import class_weights, record_statistics

LABELS = [disc_pair(number)[1] for number in range(12)]
PIXELS = tuple(np.bincount(np.concatenate([label.ravel() for label in LABELS]), minlength=3).tolist())


@pytest.fixture
def discs(disc_records):
    return datasets.load(disc_records / datasets.FILE_NAME), records.list_shards(disc_records, "train")


def weights(config, discs, **changes):
    return class_weights.weights_for(config, dataclasses.replace(discs[0], **changes), "train", discs[1])


def test_the_setting_allows_the_schemes_that_exist():
    field = next(field for field in dataclasses.fields(LossConfig) if field.name == "class_balance")
    assert field.metadata["choices"] == ("none", *class_balance.SCHEMES, class_balance.ADAPTIVE)


def test_without_a_scheme_there_are_none(discs):
    assert weights(LossConfig(), discs) == ()


def test_weights_of_each_batch_are_left_to_the_loss(discs, monkeypatch):
    monkeypatch.setattr(record_statistics, "count", None)
    assert weights(LossConfig(class_balance="adaptive"), discs) == ()
    assert weights(LossConfig(class_balance="adaptive", label_weights=(1, 2, 3)), discs) == (1, 2, 3)


def test_given_weights_win(discs, capsys):
    assert weights(LossConfig(label_weights=(1, 2, 3), class_balance="sqrt"), discs) == (1, 2, 3)
    assert "replace" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["inverse", "sqrt", "enet"])
def test_pixels_of_the_description_suffice(discs, scheme, monkeypatch):
    monkeypatch.setattr(record_statistics, "count", None)
    pixels = (900, 90, 10)
    expected = class_balance.class_weights(scheme, ClassCounts(pixels))
    given = weights(LossConfig(class_balance=scheme), discs, pixels={"train": pixels})
    assert given == pytest.approx(expected, rel=5e-3) and np.mean(given) == pytest.approx(1, rel=5e-3)


@pytest.mark.parametrize("scheme", list(class_balance.SCHEMES))
def test_without_a_description_the_labels_are_read(discs, scheme):
    around = [LABELS[0].size * number for number in (12, 6, 6)]
    expected = class_balance.class_weights(scheme, ClassCounts(PIXELS, (12, 6, 6), around, 12))
    assert weights(LossConfig(class_balance=scheme), discs) == pytest.approx(expected, rel=5e-3)


def test_classes_without_a_pixel_have_weight_one(discs):
    given = weights(LossConfig(class_balance="sqrt"), discs, pixels={"train": (900, 100, 0)})
    assert given[2] == 1.0 and given[0] < given[1]
