"""What the values of all labels together tell."""

import dataclasses

import numpy as np
import pytest

from deeplab.config.validation_config import CheckConfig
from deeplab.data import dataset as datasets
from deeplab.data.dataset import Dataset
from deeplab.data.labels import LabelRule
from deeplab.data.readers.source import Pair, Source
from deeplab.data.validation import analysis, label_statistics, subject

NAMES = "ground,disc,bar"


def rules(report, severity="error"):
    return [finding.rule for finding in report.findings if finding.severity == severity]


def counts_of(**pixels):
    """Pixels of values: v0=10, v255=3."""
    counts = np.zeros(256, np.int64)
    for value, number in pixels.items():
        counts[int(value[1:])] = number
    return counts


def rule_for(num_classes=None, ignore=255, **more):
    return LabelRule(num_classes, ignore, **more)


# --- Values -------------------------------------------------------------------------------------------------


def test_zero_and_255_are_not_one_class_and_ignored_pixels(discs, only):
    discs.change_labels(lambda label: np.where(label > 0, 255, 0).astype(np.uint8))
    report = discs.check(num_classes=2)
    (found,) = [item for item in report.findings if item.severity == "error"]
    assert found.rule == "foreground-ignored"
    assert "hold only 0 and 255" in found.text
    assert found.hint.startswith("--label_map=255:1")
    assert found.fix == "replaces values: --label_map=255:1"
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
def test_what_follows_from_a_fault_is_not_told_again(discs, change, labels, rule):
    """Such as that all classes are absent."""
    discs.change_labels(change)
    met = {item.rule for item in discs.check(**labels).findings}
    assert met - {"labels-all-same", "label-all-ignored"} == {rule}


def test_evenly_spread_tones_up_to_white(discs, only):
    discs.change_labels(lambda label: np.array([0, 128, 255], np.uint8)[label])
    report = discs.check(label_map="")
    (found,) = only(report, "labels-are-gray-levels")
    assert found.text.startswith("hold the values 0, 128, 255: as class indices")
    assert found.hint.startswith("--label_map=128:1,255:2 numbers them")
    assert report.label_map == {128: 1, 255: 2}


def test_white_beside_other_tones_may_be_ignored_or_a_class(discs, only):
    discs.change_labels(lambda label: np.array([0, 100, 255], np.uint8)[label])
    (found,) = only(discs.check(label_map=""), "labels-are-gray-levels")
    assert found.text.endswith("255 stays the ignore label")
    assert "--label_map=100:1 numbers them" in found.hint
    assert found.hint.endswith("with 255:2 in the map if 255 is a class, too")


def test_the_same_masks_with_the_map_are_clean(discs):
    discs.change_labels(lambda label: np.where(label > 0, 255, 0).astype(np.uint8))
    assert discs.check(label_map="255:1", num_classes=2).findings == []


def test_gray_levels_are_numbered(discs, only):
    discs.change_labels(lambda label: np.array([0, 150, 250], np.uint8)[label])
    report = discs.check(label_map="")
    (found,) = only(report, "labels-are-gray-levels")
    assert "0, 150, 250" in found.text
    assert "251 classes" in found.text
    assert found.hint.startswith("--label_map=150:1,250:2")
    assert report.label_map == {150: 1, 250: 2}
    assert report.dataset.num_classes == 3
    assert "counted as with --label_map=150:1,250:2" in report.checked


def test_gray_levels_where_the_number_of_classes_is_known(discs, only):
    discs.change_labels(lambda label: np.array([0, 150, 250], np.uint8)[label])
    report = discs.check(class_names=NAMES)
    found = only(report, "label-out-of-range")
    assert report.numbers["label-out-of-range"] == len(found) == 12
    assert all(item.hint.startswith("--label_map=150:1,250:2:") for item in found)
    assert report.dataset.class_names == ("ground", "disc", "bar")
    assert sum(report.splits["val"].pixels) == 4 * 64 * 80


def test_labels_that_count_from_one(discs, only):
    discs.change_labels(lambda label: label + 1)
    report = discs.check(class_names=NAMES)
    assert set(report.numbers) == {"label-out-of-range", "labels-start-at-one"}
    assert report.label_map == {1: 0, 2: 1, 3: 2}
    report = discs.check(num_classes=4)
    assert rules(report, "warning") == ["labels-start-at-one"]  # and no word of class 0, which is absent
    assert "--label_map=1:0,2:1,3:2" in report.findings[0].hint
    assert report.may_train


def test_ade20k_counts_from_one_on_purpose(discs):
    discs.change_labels(lambda label: label + 1)
    report = discs.check(class_names="none,ground,disc,bar", ignore_label=0)
    assert report.findings == []


def test_one_class_alone(discs, only):
    discs.change_labels(np.zeros_like)
    report = discs.check(num_classes=2)
    assert rules(report) == ["one-class", "labels-all-same"]


def test_all_labels_ignored(discs):
    discs.change_labels(lambda label: np.full_like(label, 255))
    report = discs.check(class_names=NAMES)
    assert rules(report) == ["nothing-labeled", "labels-all-same"]
    assert report.weights == {}


def test_one_mask_for_all_images(discs, only):
    for name in discs.all_names:
        discs.mask(name).write_bytes(discs.mask("a0").read_bytes())
    (found,) = only(discs.check(class_names=NAMES), "labels-all-same")
    assert "all 12 labels" in found.text


@pytest.mark.parametrize(
    ("counts", "rule", "expected"),
    [
        (counts_of(v0=9, v255=9), rule_for(), {255: 1}),
        (counts_of(v0=9, v255=9), rule_for(2), {255: 1}),
        (counts_of(v0=9, v255=9), rule_for(3), {}),  # two classes are missing: nobody knows which 255 is
        (counts_of(v0=9, v1=9, v255=9), rule_for(2), {}),
        (counts_of(v0=9, v150=9, v250=9), rule_for(3), {150: 1, 250: 2}),
        (counts_of(v0=9, v128=9, v255=9), rule_for(3), {128: 1, 255: 2}),
        (counts_of(v0=9, v150=9, v250=9), rule_for(4), {}),
        (counts_of(v1=9, v2=9, v3=9), rule_for(3), {1: 0, 2: 1, 3: 2}),
        (counts_of(v0=9, v2=9, v3=9), rule_for(3), {}),  # perhaps there are four classes
        (counts_of(v0=9, v1=9, v2=9), rule_for(3), {}),
        (counts_of(v0=9, v150=9, v250=9), rule_for(3, mapping={9: 1}), {}),  # the user has said what values mean
    ],
)
def test_certain_map(counts, rule, expected):
    assert label_statistics.certain_map(np.flatnonzero(counts).tolist(), rule) == expected


# --- Classes ------------------------------------------------------------------------------------------------


def test_the_ignore_label_counted_as_a_class(discs, only):
    def with_border(label):
        label[0] = 255
        return label

    discs.change_labels(with_border)
    (found,) = only(discs.check(num_classes=4), "ignore-counted-as-class")
    assert "hold 0, 1, 2, 255: num_classes=4 leaves class 3 (class_3) without a single pixel" in found.text
    assert found.hint == "--num_classes=3"
    (found,) = only(discs.check(class_names=f"{NAMES},void"), "ignore-counted-as-class")
    assert "class 3 (void)" in found.text


def test_a_class_that_never_occurs(discs, only):
    (found,) = only(discs.check(class_names="ground,disc,bar,hat"), "class-absent")
    assert found.text == "no pixel anywhere of hat (3)"
    assert found.severity == "warning"


def test_absent_classes_of_a_known_data_set_are_notes(discs):
    report = discs.check(dataset="pascal_voc_seg")
    assert [(item.rule, item.severity) for item in report.findings] == [("class-absent", "note")]
    assert "aeroplane" not in report.findings[0].text  # it is class 1, which occurs
    assert "bird (3)" in report.findings[0].text


def test_a_class_in_validation_alone(discs, drawn, only):
    for name in discs.names["train"]:
        label = discs.label(name).copy()
        label[label == 2] = 0
        discs.mask(name).write_bytes(drawn[1](label))
    (found,) = only(discs.check(class_names=NAMES), "class-not-trained")
    assert found.split == "val"
    assert "bar (2)" in found.text


def test_a_class_in_training_alone_is_a_note(discs, drawn):
    for name in discs.names["val"]:
        label = discs.label(name).copy()
        label[label == 2] = 0
        discs.mask(name).write_bytes(drawn[1](label))
    report = discs.check(class_names=NAMES)
    assert [(item.rule, item.severity) for item in report.findings] == [("class-absent-from-split", "note")]


def test_a_rare_class(discs, drawn, only):
    def nearly_without_bar(label):
        label[label == 2] = 0
        label[-1, -2:] = 2
        return label

    discs.change_labels(nearly_without_bar)
    (found,) = only(discs.check(class_names=NAMES), "class-rare")
    assert found.text == "bar (2) has 0.039 % of the pixels that count, in 8 images"  # 2 of 5120
    assert found.hint.startswith("--label_weights=")


def test_many_rare_classes_are_one_finding(discs, only):
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


def test_a_class_that_is_ignored(discs, only):
    (found,) = only(discs.check(class_names=NAMES, ignore_label=0), "class-ignored")
    assert found.text.startswith("ground (0) has ") and found.text.endswith(" but 0 is the ignore label")


def test_two_classes_of_one_name(discs, tmp_path, only):
    folder = discs.records(tmp_path / "records")
    described = datasets.load(folder / datasets.FILE_NAME)
    datasets.save(dataclasses.replace(described, class_names=("ground", "disc", "disc")), folder / datasets.FILE_NAME)
    (found,) = only(analysis.check(subject.of_records(folder)), "class-names-repeated")
    assert found.text == "disc is the name of 2 classes"


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


# --- Sizes --------------------------------------------------------------------------------------------------


def test_images_larger_than_the_evaluation_crop(discs, drawn, only):
    image, label = drawn[0](77, 100, 90)
    discs.image("b2").write_bytes(drawn[1](image, "jpeg"))
    discs.mask("b2").write_bytes(drawn[1](label))
    (found,) = only(discs.check(CheckConfig(eval_crop_size=(81, 97)), class_names=NAMES), "larger-than-eval-crop")
    assert found.where == str(discs.image("b2"))
    assert found.text.startswith("1 image of split val is larger than --eval_crop_size=81,97, this one; ")
    assert found.hint.startswith("--eval_crop_size=113,97")
    assert discs.check(CheckConfig(eval_crop_size=(113, 97)), class_names=NAMES).findings == []


def test_the_training_split_need_not_fit_the_evaluation_crop(discs, drawn):
    image, label = drawn[0](77, 100, 90)
    discs.image("a2").write_bytes(drawn[1](image, "jpeg"))
    discs.mask("a2").write_bytes(drawn[1](label))
    assert discs.check(CheckConfig(eval_crop_size=(65, 81)), class_names=NAMES).findings == []


def test_a_crop_of_padding(discs, only):
    (found,) = only(discs.check(CheckConfig(train_crop_size=(513, 513)), class_names=NAMES), "crop-mostly-padding")
    assert "3 % picture" in found.text  # 64 x 80 x 1.75, the mean square of the scales, over 513 x 513
    assert found.hint.startswith("--train_crop_size=65,81")


def test_a_crop_beside_the_output_stride_is_a_note(discs):
    report = discs.check(CheckConfig(train_crop_size=(64, 80)), class_names=NAMES)
    assert [(item.rule, item.severity) for item in report.findings] == [("crop-off-stride", "note")]
    assert report.findings[0].hint == "--train_crop_size=65,81"


def test_annotation_that_states_an_enormous_size(discs):
    """It must be found without a label of that size being drawn."""
    report = analysis.check(subject.of_source(Source({"train": enormous(discs)}), discs.subject().classes, "discs"))
    (found,) = [item for item in report.findings if item.rule == "size-differs"]
    assert found.where == "shapes.json" and "10000000x10000000" in found.text


def enormous(discs):
    @dataclasses.dataclass(frozen=True)
    class Enormous:
        where: str = "shapes.json"
        size: tuple[int, int] = (10_000_000, 10_000_000)

        def draw(self, painter, height, width):
            raise AssertionError("drawn")

    return [Pair("a0", str(discs.image("a0")), Enormous())]


def test_masks_in_colors_beside_masks_of_values_promise_no_fix(discs, drawn):
    """VOC's colors are recognized, but whether the other masks count in VOC's order, nobody knows."""
    colors = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
    for name in discs.all_names[:4]:
        discs.mask(name).write_bytes(drawn[1](colors[discs.label(name)]))
    mixed = discs.check(num_classes=21)
    assert {item.fix for item in mixed.findings if item.rule == "mask-is-color"} == {""}
