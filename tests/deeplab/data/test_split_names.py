"""What a split is for, from its name."""

import pytest

from deeplab.data.split_names import in_order, must_not_share, training_split


@pytest.mark.parametrize(
    ("one", "other", "spoils"),
    [
        ("train", "val", True),
        ("train_aug", "val", True),
        ("test", "train", True),
        ("training", "validation", True),
        ("trainval", "val", False),
        ("trainval", "test", False),
        ("train", "trainval", False),
        ("train", "train_aug", False),
        ("val", "test", False),
        ("train_0", "val_1", False),
        ("train_1", "val_1", True),
        ("left", "right", True),
    ],
)
def test_what_must_not_be_shared(one, other, spoils):
    assert must_not_share(one, other) is spoils


def test_order_of_splits():
    assert in_order(["test", "val", "train_aug", "train"]) == ["train", "train_aug", "val", "test"]


@pytest.mark.parametrize(
    ("splits", "training"),
    [(["val", "train", "train_aug"], "train"), (["test", "trainval"], "trainval"), (["a", "b"], "a"), ([], "")],
)
def test_the_training_split(splits, training):
    assert training_split(splits) == training
