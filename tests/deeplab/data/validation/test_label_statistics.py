"""What the values of all labels together say."""

import dataclasses

import cv2
import numpy as np
import pytest
from support.disc_files import encoded, only

from deeplab.data import dataset as datasets
from deeplab.data.dataset import Dataset
from deeplab.data.validation import analysis, label_statistics, subject

NAMES = "ground,disc,bar"


def rules(report, severity="error"):
    return [finding.rule for finding in report.findings if finding.severity == severity]


# --- Values -------------------------------------------------------------------------------------------------


def test_zero_and_255_are_not_one_class_and_ignored_pixels(discs):
    discs.change_labels(lambda label: np.where(label > 0, 255, 0).astype(np.uint8))
    report = discs.check(num_classes=2)
    (found,) = [item for item in report.findings if item.severity == "error"]
    assert found.rule == "foreground-ignored"
    assert "hold only 0 and 255" in found.text
    assert found.hint.startswith("`label_map=255:1`")
    assert found.repair == report.repair == {"label_map": "255:1"}
    assert report.label_map == {255: 1}
    assert not report.may_train


@pytest.mark.parametrize(
    ("change", "labels", "rule"),
    [
        (lambda label: np.where(label > 0, 255, 0).astype(np.uint8), {"num_classes": 2}, "foreground-ignored"),
        (lambda label: np.array([0, 128, 255], np.uint8)[label], {"class_names": NAMES}, "label-out-of-range"),
        (lambda label: np.array([0, 128, 255], np.uint8)[label], {"label_map": ""}, "labels-are-gray-levels"),
        (lambda label: label * 20, {"label_map": ""}, "labels-are-gray-levels"),
        (lambda label: np.full_like(label, 255), {"class_names": NAMES}, "nothing-labeled"),
        (lambda label: label * 0, {"class_names": NAMES}, "one-class"),
    ],
)
def test_consequences_are_not_reported_again(discs, change, labels, rule):
    """Such as that all classes are absent."""
    discs.change_labels(change)
    met = {item.rule for item in discs.check(**labels).findings}
    assert met - {"labels-all-same", "label-all-ignored"} == {rule}


def test_tones_of_smooth_resizing_are_not_numbered(discs):
    """A map of every tone at the borders to a class of its own would be nonsense."""
    discs.change_labels(lambda label: cv2.GaussianBlur((label > 0).astype(np.uint8) * 200, (5, 5), 1))
    report = discs.check(label_map="")
    assert rules(report) == ["labels-are-gray-levels"] and rules(report, "warning") == ["mask-blurred"] * 12
    (found,) = [item for item in report.findings if item.severity == "error"]
    assert "label_map" not in found.hint and "nearest neighbor" in found.hint
    assert found.repair == {} and "label_map" not in report.repair and not report.may_train


def test_evenly_spread_tones_up_to_white(discs):
    discs.change_labels(lambda label: np.array([0, 128, 255], np.uint8)[label])
    report = discs.check(label_map="")
    (found,) = only(report, "labels-are-gray-levels")
    assert found.text.startswith("hold the values 0, 128, 255: as class indices")
    assert found.hint.startswith("number them with `label_map=128:1,255:2`")
    assert report.label_map == {128: 1, 255: 2}


def test_white_beside_other_tones_may_be_ignored_or_a_class(discs):
    discs.change_labels(lambda label: np.array([0, 100, 255], np.uint8)[label])
    (found,) = only(discs.check(label_map=""), "labels-are-gray-levels")
    assert found.text.endswith("255 stays the ignore label")
    assert "`label_map=100:1`" in found.hint
    assert found.hint.endswith("add 255:2 to the map if 255 is a class, too")


def test_the_same_masks_with_the_map_are_clean(discs):
    discs.change_labels(lambda label: np.where(label > 0, 255, 0).astype(np.uint8))
    assert discs.check(label_map="255:1", num_classes=2).findings == []


def test_gray_levels_are_numbered(discs):
    discs.change_labels(lambda label: np.array([0, 150, 250], np.uint8)[label])
    report = discs.check(label_map="")
    (found,) = only(report, "labels-are-gray-levels")
    assert "0, 150, 250" in found.text
    assert "251 classes" in found.text
    assert "`label_map=150:1,250:2`" in found.hint
    assert report.label_map == {150: 1, 250: 2}
    assert report.dataset.num_classes == 3
    assert "counted as with `label_map=150:1,250:2`" in report.checked


def test_gray_levels_where_the_number_of_classes_is_known(discs):
    discs.change_labels(lambda label: np.array([0, 150, 250], np.uint8)[label])
    report = discs.check(class_names=NAMES)
    found = only(report, "label-out-of-range")
    assert report.numbers["label-out-of-range"] == len(found) == 12
    assert all(item.hint.startswith("`label_map=150:1,250:2`:") for item in found)
    assert report.dataset.class_names == ("ground", "disc", "bar")
    assert sum(report.splits["val"].pixels) == 4 * 64 * 80


def test_labels_that_count_from_one(discs):
    discs.change_labels(lambda label: label + 1)
    report = discs.check(class_names=NAMES)
    assert set(report.numbers) == {"label-out-of-range", "labels-start-at-one"}
    assert report.label_map == {1: 0, 2: 1, 3: 2}
    report = discs.check(num_classes=4)
    assert rules(report, "warning") == ["labels-start-at-one"]  # and no word of class 0, which is absent
    assert "`label_map=1:0,2:1,3:2`" in report.findings[0].hint and report.repair == {}
    assert report.may_train


def test_ade20k_counts_from_one_on_purpose(discs):
    discs.change_labels(lambda label: label + 1)
    report = discs.check(class_names="none,ground,disc,bar", ignore_label=0)
    assert report.findings == []


def test_one_class_alone(discs):
    discs.change_labels(np.zeros_like)
    report = discs.check(num_classes=2)
    assert rules(report) == ["one-class", "labels-all-same"]


def test_all_labels_ignored(discs):
    discs.change_labels(lambda label: np.full_like(label, 255))
    report = discs.check(class_names=NAMES)
    assert rules(report) == ["nothing-labeled", "labels-all-same"]
    assert report.weights == {}


def test_one_mask_for_all_images(discs):
    for name in discs.all_names:
        discs.mask(name).write_bytes(discs.mask("a0").read_bytes())
    (found,) = only(discs.check(class_names=NAMES), "labels-all-same")
    assert "all 12 labels" in found.text


# --- Classes ------------------------------------------------------------------------------------------------


def test_the_ignore_label_counted_as_a_class(discs):
    def with_border(label):
        label[0] = 255
        return label

    discs.change_labels(with_border)
    (found,) = only(discs.check(num_classes=4), "ignore-counted-as-class")
    assert "hold 0, 1, 2, 255: num_classes=4 leaves class 3 (class_3) without a single pixel" in found.text
    assert found.hint == "`num_classes=3`"
    (found,) = only(discs.check(class_names=f"{NAMES},void"), "ignore-counted-as-class")
    assert "class 3 (void)" in found.text


def test_a_class_that_never_occurs(discs):
    (found,) = only(discs.check(class_names="ground,disc,bar,hat"), "class-absent")
    assert found.text == "no pixel anywhere of hat (3)"
    assert found.severity == "warning"


def test_absent_classes_of_a_known_data_set_are_notes(discs):
    report = discs.check(dataset="pascal_voc_seg")
    assert [(item.rule, item.severity) for item in report.findings] == [("class-absent", "note")]
    assert "aeroplane" not in report.findings[0].text  # it is class 1, which occurs
    assert "bird (3)" in report.findings[0].text


def test_a_class_in_validation_alone(discs):
    for name in discs.names["train"]:
        label = discs.label(name).copy()
        label[label == 2] = 0
        discs.mask(name).write_bytes(encoded(label))
    (found,) = only(discs.check(class_names=NAMES), "class-not-trained")
    assert found.split == "val"
    assert "bar (2)" in found.text


def test_a_class_in_training_alone_is_a_note(discs):
    for name in discs.names["val"]:
        label = discs.label(name).copy()
        label[label == 2] = 0
        discs.mask(name).write_bytes(encoded(label))
    report = discs.check(class_names=NAMES)
    assert [(item.rule, item.severity) for item in report.findings] == [("class-absent-from-split", "note")]


def test_a_rare_class(discs):
    def nearly_without_bar(label):
        label[label == 2] = 0
        label[-1, -2:] = 2
        return label

    discs.change_labels(nearly_without_bar)
    (found,) = only(discs.check(class_names=NAMES), "class-rare")
    assert found.text == "bar (2) has 0.039 % of the pixels that count, in 8 images"  # 2 of 5120
    assert found.hint.startswith("`label_weights=")


def test_many_rare_classes_are_one_finding(discs):
    def two_pixels_of_each(label):
        label[label > 0] = 0
        label[0, :40] = np.repeat(np.arange(1, 21), 2)
        return label

    discs.change_labels(two_pixels_of_each)
    report = discs.check(num_classes=21)
    (found,) = [item for item in report.findings if item.rule == "class-rare"]
    assert found.text.startswith(
        "20 classes: class_1 (1) has 0.039 % of the pixels that count, in 8 images, class_2 (2)"
    )
    assert found.text.endswith("and 12 more")


def test_rare_classes_of_a_known_data_set_are_a_note(discs):
    def nearly_without_bar(label):
        label[label == 2] = 0
        label[-1, -2:] = 2
        return label

    discs.change_labels(nearly_without_bar)
    report = discs.check(dataset="pascal_voc_seg")
    assert {item.severity for item in report.findings} == {"note"}
    assert report.numbers["class-rare"] == 1


def test_a_class_that_is_ignored(discs):
    (found,) = only(discs.check(class_names=NAMES, ignore_label=0), "class-ignored")
    assert found.text.startswith("ground (0) has ") and found.text.endswith(" but 0 is the ignore label")


def test_two_classes_of_one_name(discs, tmp_path):
    folder = discs.records(tmp_path / "records")
    described = datasets.load(folder / datasets.FILE_NAME)
    datasets.save(dataclasses.replace(described, class_names=("ground", "disc", "disc")), folder / datasets.FILE_NAME)
    (found,) = only(analysis.check(subject.of_records(folder)), "class-names-repeated")
    assert found.text == "disc is the name of 2 classes"


def test_two_classes_of_nearly_one_name(discs):
    (found,) = only(discs.check(class_names="ground,Disc,discs"), "class-names-alike")
    assert found.text == "'Disc' and 'discs' differ little"
    assert found.hint == "`classes='Disc=Disc|discs,*'` if they are one class"


def test_weights_far_apart_are_a_note(discs):
    def little_bar(label):
        label[label == 2] = 0
        label[-1, -4:] = 2
        return label

    discs.change_labels(little_bar)
    report = discs.check(class_names=NAMES)
    assert [(item.rule, item.severity) for item in report.findings] == [("weights-far-apart", "note")]


def test_known_class_lists():
    voc = ("background", "aeroplane")
    assert not label_statistics.is_known(Dataset("mine", voc))
    known = datasets.load_known("pascal_voc_seg")
    assert label_statistics.is_known(Dataset("another name", known.class_names))
