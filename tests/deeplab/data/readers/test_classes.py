"""Which classes the labels have: names from files, sources that contradict each other, and what settles them."""

import dataclasses

import numpy as np
import pytest
from support.errors import raises

from deeplab.config.conversion_config import LabelConfig
from deeplab.data import dataset as datasets
from deeplab.data.dataset import Dataset
from deeplab.data.labels import to_label
from deeplab.data.readers.classes import classes_from, require_several_classes, settle
from deeplab.data.readers.source import Pair, Source

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
    with raises("not-utf-8", where="names.txt"):
        names(tmp_path, b"ground\nh\xe4user\n")
    with raises("control-characters", field="class_names"):
        names(tmp_path, b"ground\nh\x1b[2Jair\n")
    with raises("missing-class-names", where="names.txt"):
        names(tmp_path, b"\n# nothing\n")
    with raises("duplicate-name", field="class_names") as caught:
        names(tmp_path, b"ground\nhair\nhair\n")
    assert caught.value.value == ("hair",)
    with raises("file-not-found", field="class_names"):
        classes_from(LabelConfig(class_names="nowhere.txt"), Source(PAIRS))


def test_files_with_label_values_are_ordered_by_them(tmp_path):
    assert names(tmp_path, b"Pixel Value, Class\n0, background\n2, wall\n1, road\n") == ("background", "road", "wall")


def merged(text, source, **settings):
    return classes_from(LabelConfig(classes=(text,), **settings), source)


def test_classes_of_shapes_are_merged_by_name():
    found = merged("ignore=skin,part=hair", dataclasses.replace(DRAWN, colors=((0, 0, 0), (1, 1, 1), (2, 2, 2))))
    assert (found.num_classes, found.names, found.colors) == (2, ("background", "part"), ((0, 0, 0), (2, 2, 2)))
    values = [found.painter.value(name, "a.json") for name in ("hair", "skin", "Background", "void")]
    assert values == [1, 255, 0, 255] and found.painter.background == 0
    with raises("unknown-class", where="a.json"):
        found.painter.value("nose", "a.json")


def test_more_shape_classes_than_labels_hold_can_be_merged():
    many = Source(PAIRS, ("background", *(f"class {number}" for number in range(65535))), drawn=True)
    with raises("too-many-classes"):
        classes_from(LabelConfig(), many)
    found = merged("seven=class 7,background=*", many)
    assert found.names == ("background", "seven") and found.painter.value("class 65534", "") == 0


def test_many_classes_have_labels_of_16_bits(capsys):
    names = ("background", *(f"class {number}" for number in range(1, 300)))
    found = classes_from(LabelConfig(), Source(PAIRS, names, drawn=True))
    assert (found.num_classes, found.rule.bits, found.rule.ignore_label) == (300, 16, 65535)
    assert found.painter.value("class 299", "a.json") == 299 and found.painter.value("void", "a.json") == 65535
    assert "65535" in capsys.readouterr().err
    assert classes_from(LabelConfig(ignore_label=0), Source(PAIRS, names)).rule.ignore_label == 0
    described = Dataset("", tuple(map(str, range(300))), ignore_label=255)  # states that class 255 is ignored
    assert classes_from(LabelConfig(), Source(PAIRS), described).rule.ignore_label == 255
    assert classes_from(LabelConfig(num_classes=300), Source(PAIRS)).rule.ignore_label == 65535


def test_few_of_many_classes_have_labels_of_8_bits():
    names = ("background", *(f"class {number}" for number in range(1, 300)))
    found = merged("high=class 299|class 298,background=*", Source(PAIRS, names))
    assert (found.rule.bits, found.rule.ignore_label, found.rule.before.bits) == (8, 255, 16)
    label, counts = to_label(np.array([[0, 299, 298, 255, 65535]], np.uint16), "a.png", found.rule)
    assert label.dtype == np.uint8 and label.tolist() == [[0, 1, 1, 0, 255]]
    assert len(counts) == 256 and counts[[0, 1, 255]].tolist() == [2, 2, 1]


def test_many_classes_stay_many_after_merging():
    names = ("background", *(f"class {number}" for number in range(1, 400)))
    found = merged("two=class 398|class 399,*", Source(PAIRS, names))
    label, counts = to_label(np.array([[0, 397, 398, 399, 65535]], np.uint16), "a.png", found.rule)
    assert found.num_classes == 399 and label.dtype == np.uint16
    assert label.tolist() == [[0, found.names.index("class 397"), 1, 1, 65535]] and len(counts) == 65536


def test_classes_of_mask_files_are_merged_after_they_were_checked():
    found = merged("part=hair|skin,*", Source(PAIRS, ("background", "skin", "hair", "eye")))
    values = np.array([[0, 1, 2, 3, 255]], np.uint8)
    label, counts = to_label(values, "a.png", found.rule)
    assert found.names == ("background", "part", "eye") and label.tolist() == [[0, 1, 1, 2, 255]]
    assert counts[[0, 1, 2, 255]].tolist() == [1, 2, 1, 1] and counts.sum() == 5
    with raises("label-out-of-range", where="a.png") as caught:  # 4 was no class before, although 2 is one afterwards
        to_label(values + 1, "a.png", found.rule)
    assert caught.value.value == [4]


def test_classes_of_masks_without_names_are_merged_by_their_values():
    found = merged("part=1|2,background=0,ignore=7", Source(PAIRS))
    label, _ = to_label(np.array([[0, 1, 2, 7]], np.uint8), "a.png", found.rule)
    assert found.names == ("background", "part") and label.tolist() == [[0, 1, 1, 255]]
    with raises("label-out-of-range", where="a.png") as caught:
        to_label(np.array([[0, 3]], np.uint8), "a.png", found.rule)
    assert caught.value.value == [3]


def test_an_ignore_label_among_the_classes_moves_out_of_their_way():
    found = merged("structure=building|wall,ignore=*", Source(PAIRS, known="ade20k"))
    names = datasets.load_known("ade20k").class_names
    label, _ = to_label(np.array([[0, names.index("wall"), names.index("sky")]], np.uint8), "a.png", found.rule)
    assert found.names == ("structure",) and found.rule.ignore_label == 255 and label.tolist() == [[255, 0, 255]]


def test_the_number_of_classes_is_that_after_merging():
    assert merged("part=hair|skin", DRAWN, num_classes=2).num_classes == 2
    with raises("class-count-mismatch", field="num_classes"):
        merged("part=hair|skin", DRAWN, num_classes=3)


def test_merged_classes_join_records_of_the_same_classes():
    held = other("background", "part")
    assert classes_from(LabelConfig(classes=("part=hair|skin",)), DRAWN, held).num_classes == 2
    with raises("class-mismatch", field="output_dir"):
        classes_from(LabelConfig(classes=("hair,background=*",)), DRAWN, held)


def other(*class_names):
    return Dataset("there", class_names, splits={"train": 3})


def test_records_of_other_names_are_not_mixed():
    """The same numbers with other meanings would make the records that are there wrong."""
    config = LabelConfig(class_names="background,hair,skin")
    with raises("class-mismatch", field="output_dir") as caught:
        classes_from(config, Source(PAIRS), other("background", "skin", "hair"))
    assert caught.value.value == "skin" and "as class 1, these would have 'hair'" in caught.value.rule
    assert classes_from(config, Source(PAIRS), other("background", "hair", "skin")).num_classes == 3
    with raises("class-mismatch", field="output_dir") as caught:
        classes_from(config, Source(PAIRS), other("background", "skin"))
    assert caught.value.value == (2, 255)


def test_more_classes_than_labels_can_hold():
    names = ",".join(f"class {index}" for index in range(65536))
    with raises("too-many-classes", "class_names") as caught:
        classes_from(LabelConfig(class_names=names), Source({"train": []}))
    assert caught.value.value == 65536


def test_made_up_names_contradict_nothing():
    config = LabelConfig(class_names="ground,hair,skin")
    assert classes_from(config, Source(PAIRS), other("background", "class_1", "class_2")).names[0] == "ground"


def test_a_number_of_classes_that_annotations_do_not_have():
    with raises("class-count-mismatch", field="num_classes") as caught:
        classes_from(LabelConfig(num_classes=2), DRAWN)
    assert caught.value.value == 2 and "3 classes: background, skin" in caught.value.rule
    with raises("class-count-mismatch", field="num_classes"):
        classes_from(LabelConfig(num_classes=2, class_names="background,hair,skin"), Source(PAIRS))
    assert classes_from(LabelConfig(num_classes=3), DRAWN).names == ("background", "skin", "hair")


def test_an_unknown_class_is_compared_with_those_that_people_named():
    painter = classes_from(LabelConfig(), DRAWN).painter
    with raises("unknown-class", where="a.json") as caught:
        painter.value("voyd_", "a.json")
    assert caught.value.hint.startswith("choose from background, hair, skin (`on_bad_label=ignore`")


@pytest.mark.parametrize(
    ("name", "value"),
    [("skin", 1), ("Background", 0), ("_background_", 0), ("Void", 255), ("IGNORE", 255), ("neutral", 255)],
)
def test_names_that_mean_the_background_or_ignored_pixels(name, value):
    assert classes_from(LabelConfig(), DRAWN).painter.value(name, "a.json") == value


def test_a_class_that_is_called_void_on_request_is_one():
    config = LabelConfig(class_names="background,void,skin,hair")
    assert classes_from(config, DRAWN).painter.value("void", "a.json") == 1


def test_pascal_voc_is_recognized_and_said_only_once(capsys):
    voc = Source({"train": [Pair("2007_000032", "a.jpg", "a.png")]})
    assert classes_from(LabelConfig(), voc, tell=False).num_classes == 21
    assert capsys.readouterr().err == ""
    assert classes_from(LabelConfig(), voc).num_classes == 21
    assert "named like PASCAL VOC's" in capsys.readouterr().err


# --- After the masks were read ------------------------------------------------------------------------------


def counted(**pixels):
    counts = np.zeros(256, np.int64)
    for value, number in pixels.items():
        counts[int(value[1:])] = number
    return counts


def test_the_highest_label_settles_the_number_of_classes():
    found = settle(classes_from(LabelConfig(), Source(PAIRS)), counted(_0=5, _2=1, _255=9))
    assert (found.num_classes, found.names) == (3, ("background", "class_1", "class_2")) and len(found.colors) == 3


def test_gray_tones_are_not_taken_for_indices():
    with raises("not-indices", where="masks") as caught:
        settle(classes_from(LabelConfig(), Source(PAIRS)), counted(_0=5, _150=1, _250=1))
    assert caught.value.value == (0, 150, 250) and "`label_map=150:1,250:2`" in caught.value.hint


@pytest.mark.parametrize(
    ("pixels", "drawn", "where", "hint"),
    [
        ({"_0": 5}, False, "masks", "right files"),
        ({"_255": 5}, False, "masks", "`ignore_label`"),
        ({"_0": 5, "_255": 5}, False, "masks", "`label_map=255:1`"),
        ({"_0": 5, "_255": 5}, True, "annotations", "crowd regions"),  # mapping 255 would make all one class
        ({"_255": 5}, True, "annotations", "ignored pixels"),
    ],
)
def test_labels_of_one_class(pixels, drawn, where, hint):
    counts = counted(**pixels)
    with raises("single-class", where=where) as caught:
        require_several_classes([value for value in (0,) if counts[value]], counts, 255, drawn)
    assert hint in caught.value.hint
