"""Which classes there are: names from files, and sources that contradict each other."""

import pytest

from deeplab.config.conversion_config import LabelConfig
from deeplab.data.dataset import Dataset
from deeplab.data.readers.classes import classes_from
from deeplab.data.readers.source import Pair, Source
from deeplab.utils.errors import UserError

PAIRS = {"train": [Pair("a", "a.jpg", "a.png")]}
DRAWN = Source(PAIRS, ("background", "skin", "hair"), drawn=True)


def names(root, content):
    (root / "names.txt").write_bytes(content)
    return classes_from(LabelConfig(class_names=str(root / "names.txt")), Source(PAIRS)).names


def test_files_of_names_that_windows_has_written(tmp_path):
    assert names(tmp_path, "\ufeffground\r\nhäuser\r\n\r\n".encode()) == ("ground", "häuser")


def test_remarks_are_left_out_but_not_a_sharp_within_a_name(tmp_path):
    text = b'# my classes\nground  # everything else\nC# code\n"quoted", with: signs\n'
    assert names(tmp_path, text) == ("ground", "C# code", '"quoted", with: signs')


def test_files_of_names_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"names\.txt: is not UTF-8 at byte 8"):
        names(tmp_path, b"ground\nh\xe4user\n")
    with pytest.raises(UserError, match="control characters"):
        names(tmp_path, b"ground\nh\x1b[2Jair\n")
    with pytest.raises(UserError, match="names no class"):
        names(tmp_path, b"\n# nothing\n")


def other(*class_names):
    return Dataset("there", class_names, splits={"train": 3})


def test_records_of_other_names_are_not_mixed():
    """The same numbers with other meanings would make the records that are there wrong."""
    config = LabelConfig(class_names="background,hair,skin")
    with pytest.raises(UserError, match=r"splits train\) have 'skin' as class 1, these would have 'hair'"):
        classes_from(config, Source(PAIRS), other("background", "skin", "hair"))
    assert classes_from(config, Source(PAIRS), other("background", "hair", "skin")).num_classes == 3


def test_names_that_nobody_gave_contradict_nobody():
    config = LabelConfig(class_names="ground,hair,skin")
    assert classes_from(config, Source(PAIRS), other("background", "class_1", "class_2")).names[0] == "ground"


def test_a_number_of_classes_that_annotations_do_not_have():
    with pytest.raises(UserError, match=r"--num_classes: is 2, but the annotations have 3 classes: background, skin"):
        classes_from(LabelConfig(num_classes=2), DRAWN)
    assert classes_from(LabelConfig(num_classes=3), DRAWN).names == ("background", "skin", "hair")


def test_an_unknown_class_is_compared_with_those_that_people_named():
    painter = classes_from(LabelConfig(), DRAWN).painter
    with pytest.raises(UserError, match=r"(?s)'void_' is no class.*choose from background, hair, skin \(or --on_bad"):
        painter.value("void_", "a.json")


def test_pascal_voc_is_guessed_aloud_only_once(capsys):
    voc = Source({"train": [Pair("2007_000032", "a.jpg", "a.png")]})
    assert classes_from(LabelConfig(), voc, tell=False).num_classes == 21
    assert capsys.readouterr().err == ""
    assert classes_from(LabelConfig(), voc).num_classes == 21
    assert "named as PASCAL VOC's" in capsys.readouterr().err
