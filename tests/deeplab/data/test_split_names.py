"""Purposes of splits, told by their names."""

import pytest

from deeplab.data.split_names import is_training, suggestion, synonym_in


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
