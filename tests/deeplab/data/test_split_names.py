"""Purposes of splits, told by their names."""

import pytest

from deeplab.data.split_names import in_order, is_training, must_not_share, suggestion, synonym_in, training_split


@pytest.mark.parametrize(
    ("wanted", "splits", "hint"),
    [
        ("validation", ["train", "val"], "did you mean split 'val'?"),
        ("valid", ["train", "val"], "did you mean split 'val'?"),
        ("dev", ["train", "validation"], "did you mean split 'validation'?"),
        ("default", ["train", "val"], "did you mean split 'val'?"),
        ("eval", ["train", "val", "test"], "did you mean split 'val'?"),
        ("testing", ["test", "train", "val"], "did you mean split 'test'?"),
        ("vla", ["train", "val"], "did you mean split 'val'?"),
        ("training", ["train", "val"], "did you mean split 'train'?"),
        ("train", ["training", "val"], "did you mean split 'training'?"),
        ("trian", ["train", "val"], "did you mean split 'train'?"),
        ("train_aug", ["train", "val"], "did you mean split 'train'?"),
        ("test", ["train", "val"], "choose from train, val"),
        ("minival", ["train", "trainval"], "choose from train, trainval"),
        ("val", ["train"], "choose from train"),
    ],
)
def test_the_split_that_was_meant(wanted, splits, hint):
    """The training split is proposed for nothing but a misspelled name of it."""
    assert suggestion(wanted, splits) == hint


def test_synonyms():
    assert synonym_in("Validation", ["train", "Val"]) == "Val"
    assert synonym_in("faces", ["faces2"]) is None


@pytest.mark.parametrize(
    ("split", "training"),
    [("train", True), ("train_aug", True), ("Training", True), ("trainval", False), ("val", False), ("faces", False)],
)
def test_training_splits(split, training):
    assert is_training(split) == training


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
