"""Crop and batch sizes, computed by hand."""

from typing import ClassVar

import pytest
from support.disc_files import CLASSES, draw, only

from deeplab.config.validation_config import CheckConfig
from deeplab.data.dataset import Dataset, SizeRange
from deeplab.data.validation import size_checks


def test_advised_crops():
    advice = size_checks.crops_for({(375, 500): 8, (500, 375): 2}, {(500, 375): 1, (333, 500): 1}, 16)
    assert advice.train == (385, 513)  # median 375 x 500
    assert advice.eval == (513, 513)  # 500 high, 500 wide, though no image is both
    assert "375x500" in advice.why
    assert "0.75 times" in advice.why


def test_large_images_get_the_usual_crop():
    advice = size_checks.crops_for({(1024, 2048): 5}, {}, 16)
    assert advice.train == (513, 513)
    assert advice.eval == (1025, 2049)
    assert "would cost too much memory" in advice.why


def test_no_images_no_advice():
    assert size_checks.crops_for({}, {}, 16) is None


def test_median_counts_images():
    assert size_checks.median_size({(10, 30): 1, (20, 20): 5, (30, 10): 1}) == (20, 20)


def test_coverage():
    assert size_checks.coverage({(100, 100): 3}, (100, 100), 1, 1) == 1
    assert size_checks.coverage({(100, 50): 1}, (100, 100), 1, 1) == 0.5
    assert size_checks.coverage({(100, 100): 1}, (200, 200), 0.5, 0.5) == pytest.approx(1 / 16)
    assert size_checks.coverage({(100, 100): 1, (50, 100): 1}, (100, 100), 1, 1) == pytest.approx(0.75)


# --- Planned crops and batches ------------------------------------------------------------------------------


def test_images_larger_than_the_evaluation_crop(discs):
    discs.write("b2", *draw(77, 100, 90))
    (found,) = only(discs.check(CheckConfig(eval_crop_size=(81, 97))), "larger-than-eval-crop")
    assert found.where == str(discs.image("b2"))
    assert found.text.startswith("1 image of split val is larger than `eval_crop_size=81,97`, this one; ")
    assert found.hint.startswith("`eval_crop_size=113,97`")
    assert discs.check(CheckConfig(eval_crop_size=(113, 97))).findings == []


def test_the_training_split_need_not_fit_the_evaluation_crop(discs):
    discs.write("a2", *draw(77, 100, 90))
    assert discs.check(CheckConfig(eval_crop_size=(65, 81))).findings == []


def test_a_crop_of_padding(discs):
    (found,) = only(discs.check(CheckConfig(train_crop_size=(513, 513))), "crop-mostly-padding")
    assert "3 % image" in found.text  # 64 x 80 x 1.75, the mean square of the scales, over 513 x 513
    assert found.hint.startswith("`train_crop_size=65,81`")


@pytest.mark.parametrize("crop", [(65, 81), (81, 81), (65, 97), (33, 97)])
def test_a_crop_that_fits_the_largest_image(discs, crop):
    assert discs.check(CheckConfig(train_crop_size=crop)).findings == []


def test_a_crop_larger_than_every_image(discs):
    (found,) = only(discs.check(CheckConfig(train_crop_size=(81, 97))), "crop-larger-than-images")
    assert found.text == "81,97 is larger than every image of split train, which go up to 64x80"
    assert found.hint == "use `train_crop_size=65,81`"
    discs.write("a2", *draw(77, 100, 120))  # one image is enough
    assert discs.check(CheckConfig(train_crop_size=(81, 97))).findings == []


def test_a_crop_off_the_output_stride_is_a_note(discs):
    report = discs.check(CheckConfig(train_crop_size=(64, 80)))
    assert [(item.rule, item.severity) for item in report.findings] == [("crop-off-stride", "note")]
    assert report.findings[0].hint == "`train_crop_size=65,81`"


def test_a_batch_larger_than_the_split(discs):
    (found,) = only(discs.check(CheckConfig(train_batch_size=9)), "batch-larger-than-split")
    assert found.text == "a batch of 9 is larger than split train, which has 8 images"
    assert found.hint == "use `train_batch_size=8` or less, or add images"
    assert discs.check(CheckConfig(train_batch_size=8)).findings == []
    assert discs.check(CheckConfig(train_batch_size=9, max_images=3)).findings == []  # 3 of more images


class TestTrainingFindings:
    """What training says at its start, from dataset.yml alone."""

    SIZES = SizeRange(64, 64, 80, 80)
    PLAN: ClassVar = {"crop": (65, 81), "batch_size": 8, "scales": (0.5, 2.0), "stride": 16}

    def described(self, **changes):
        facts = {
            "splits": {"train": 8, "val": 4},
            "pixels": {"train": (900, 90, 9), "val": (90, 9, 1)},
            "ignored_pixels": {"train": 0, "val": 0},
            "size_range": {"train": self.SIZES, "val": self.SIZES},
        }
        return Dataset("discs", tuple(CLASSES.split(",")), **{**facts, **changes})

    def rules(self, described, split="train", **plan):
        return [item.rule for item in size_checks.training_findings(described, split, **{**self.PLAN, **plan})]

    def test_a_plan_that_suits_the_data(self):
        assert self.rules(self.described()) == []

    def test_a_description_by_hand_is_not_judged(self):
        assert self.rules(Dataset("mine", ("background", "hair")), crop=(513, 513), batch_size=64) == []

    @pytest.mark.parametrize(
        ("changes", "plan", "rule"),
        [
            ({"pixels": {"train": (900, 90, 0), "val": (90, 9, 1)}}, {}, "class-not-trained"),
            ({"pixels": {"train": (900, 90, 0)}}, {}, "class-absent"),
            ({}, {"batch_size": 9}, "batch-larger-than-split"),
            ({}, {"crop": (81, 97)}, "crop-larger-than-images"),
            ({}, {"crop": (513, 513)}, "crop-mostly-padding"),
            ({}, {"split": "val"}, "batch-larger-than-split"),
        ],
    )
    def test_what_does_not_suit(self, changes, plan, rule):
        assert self.rules(self.described(**changes), **plan) == [rule]

    def test_notes_are_left_out(self):
        only_trained = self.described(pixels={"train": (900, 90, 9), "val": (90, 9, 0)})
        assert self.rules(only_trained) == []

    def test_the_same_as_the_check(self, discs):
        """What a check counted, as a builder would describe it, gives the same findings."""
        discs.change_labels(lambda label: label * (label != 2), [f"a{number}" for number in range(8)])
        checked = discs.check(CheckConfig(train_crop_size=(81, 97), train_batch_size=9))
        plan = {**self.PLAN, "crop": (81, 97), "batch_size": 9}
        found = list(size_checks.training_findings(checked.dataset, "train", **plan))
        assert found == [item for item in checked.findings if item.severity == "warning"]
        assert {item.rule for item in found} == {
            "class-not-trained",
            "batch-larger-than-split",
            "crop-larger-than-images",
        }
