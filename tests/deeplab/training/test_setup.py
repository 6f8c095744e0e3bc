"""What is checked before the first step: the folder's training, the dataset, the starting point, and the warnings."""

import dataclasses

import pytest
from support.errors import raises
from support.training_configs import DATASET, make_configs

from deeplab.config.durations import Length
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import LossConfig, OptimizerConfig
from deeplab.data.bands import ImageBands, bands_of
from deeplab.data.dataset import SizeRange
from deeplab.training import setup


def test_one_weight_per_class():
    setup.require_one_weight_per_class((), DATASET)
    setup.require_one_weight_per_class((1.0, 2.0, 3.0), DATASET)
    with raises("class-count-mismatch", "label_weights") as caught:
        setup.require_one_weight_per_class((1.0, 2.0), DATASET)
    assert "2 weights for 3 classes: ground, disc, square" in caught.value.rule


def test_data_that_a_check_found_unfit_is_refused(capsys):
    unfit = dataclasses.replace(DATASET, errors={"val": ("labels-all-same",)})
    with raises("unfit-dataset"):
        setup.require_fit_data(make_configs(), unfit)
    setup.require_fit_data(make_configs(), DATASET)
    assert "train have not been checked" in capsys.readouterr().err
    setup.require_fit_data(make_configs(), dataclasses.replace(DATASET, errors={"train": ()}))
    assert capsys.readouterr().err == ""
    setup.require_fit_data(make_configs(ignore_data_errors=True), unfit)
    assert "training must not start" in capsys.readouterr().err


class TestWarnings:
    def warnings(self, dataset=DATASET, from_scratch=False, **changes):
        return list(setup.warnings(make_configs(**changes), dataset, from_scratch))

    def test_a_usual_training_has_none(self):
        pixels = {"train": (1000, 10, 10)}
        sizes = {"train": SizeRange(48, 48, 64, 64)}
        assert self.warnings(dataclasses.replace(DATASET, pixels=pixels, size_range=sizes)) == []

    def test_a_class_without_a_pixel(self):
        (text,) = self.warnings(dataclasses.replace(DATASET, pixels={"train": (1000, 10, 0)}))
        assert text.startswith("class-absent: no pixel anywhere of square (2); ")
        pixels = {"train": (1000, 10, 0), "val": (1000, 10, 9)}
        (text,) = self.warnings(dataclasses.replace(DATASET, pixels=pixels))
        assert text.startswith("class-not-trained: square (2): in val, but without a pixel in train; ")

    def test_a_batch_larger_than_the_split(self):
        (text,) = self.warnings(train_batch_size=16)
        assert text.startswith("batch-larger-than-split: ") and "16" in text and "12 images" in text

    def test_a_crop_larger_than_every_image(self):
        dataset = dataclasses.replace(DATASET, size_range={"train": SizeRange(20, 48, 20, 64)})
        (text,) = self.warnings(dataset, train_crop_size=(65, 81))
        assert text.startswith("crop-larger-than-images: ") and "48x64" in text and "65,81" in text
        (text,) = self.warnings(dataset, train_crop_size=(129, 129))
        assert text.startswith("crop-mostly-padding: ") and "`train_crop_size=49,65`" in text
        assert self.warnings(dataset, train_crop_size=(49, 65)) == []
        assert self.warnings(dataset, train_crop_size=(49, 129)) == []  # some image is as high

    def test_label_weights_far_apart(self):
        (text,) = self.warnings(loss=LossConfig(label_weights=(0.01, 1, 1)))
        assert "factor of 100" in text and "square roots" in text

    def test_small_batches_are_told_to_freeze_only_what_a_checkpoint_has(self):
        (text,) = self.warnings(train_batch_size=2)
        assert "2 images at a time" in text and "`fine_tune_batch_norm=false`" in text
        (text,) = self.warnings(train_batch_size=2, from_scratch=True)
        assert "`tf_initial_checkpoint`" in text and "fine_tune_batch_norm" not in text
        assert self.warnings(train_batch_size=2, fine_tune_batch_norm=False) == []
        assert list(setup.warnings(make_configs(train_batch_size=2), DATASET, False, warns_of_batch=False)) == []
        (text,) = self.warnings(train_batch_size=2, accumulate_steps=2)  # batch norm sees a part of the batch
        assert "learns from 1 image at a time" in text


def test_class_table_shows_fractions_and_weights():
    table = setup.class_table(dataclasses.replace(DATASET, pixels={"train": (75, 25, 0)}), "train", (1.0, 2.5, 1.0))
    assert [line.split() for line in table.splitlines()[2:]] == [
        ["0", "ground", "75.00%", "1"],
        ["1", "disc", "25.00%", "2.5"],
        ["2", "square", "0.00%", "1"],
    ]


def test_unknown_names_are_refused():
    with raises("unknown-name", "allow_changes") as caught:
        setup.require_consistent(make_configs(allow_changes=("base_learning_rat",)), Length(100))
    assert "base_learning_rate" in caught.value.hint


def test_steps_of_several_devices_are_not_compiled():
    configs = make_configs(jit_compile="true")
    setup.require_consistent(configs, Length(100), replicas=1)
    with raises("not-supported", "jit_compile"):
        setup.require_consistent(configs, Length(100), replicas=2)


class TestLength:
    @pytest.mark.parametrize(
        ("given", "steps"),
        [
            ({}, 30000),
            ({"training_epochs": 4}, 12),
            ({"training_epochs": 0.1}, 1),
            ({"training_number_of_steps": 7}, 7),
        ],
    )
    def test_epochs_replace_steps(self, given, steps):
        assert setup.length_of(make_configs(train_batch_size=4, **given).train, 12) == Length(steps, 3.0)


class TestConsistency:
    @pytest.mark.parametrize(
        ("given", "code", "field"),
        [
            ({"optimizer": {"learning_policy": "plateau"}}, "missing-setting", "learning_policy"),
            ({"optimizer": {"learning_policy": "polly"}}, "unknown-name", "learning_policy"),
            ({"optimizer": {"optimizer": "adan"}}, "unknown-name", "optimizer"),
            ({"freeze_steps": "5"}, "missing-setting", "freeze_steps"),
            (
                {"optimizer": {"optimizer": "nadam"}, "precision": "mixed_float16", "num_clones": 2},
                "not-supported",
                "precision",
            ),
        ],
    )
    def test_what_does_not_fit_together_is_refused(self, given, code, field):
        optimizer = OptimizerConfig(**given.pop("optimizer", {}))
        with raises(code, field):
            setup.require_consistent(dataclasses.replace(make_configs(**given), optimizer=optimizer), Length(100))

    @pytest.mark.parametrize(
        ("given", "code", "field"),
        [
            ({"accumulate_steps": 5}, "indivisible-batch", "accumulate_steps"),
            ({"average_checkpoints": 2}, "missing-setting", "average_checkpoints"),
            ({"average_checkpoints": 9, "save_interval_steps": 5}, "conflicting-settings", "average_checkpoints"),
            ({"freeze_steps": "soon"}, "wrong-type", "freeze_steps"),
        ],
    )
    def test_settings_of_the_training(self, given, code, field):
        with raises(code, field):
            make_configs(**given)

    @pytest.mark.parametrize(
        ("given", "code", "field"),
        [
            ({"warmup": "5", "slow_start_step": 3}, "conflicting-settings", "warmup"),
            ({"nesterov": True, "optimizer": "adam"}, "conflicting-settings", "nesterov"),
        ],
    )
    def test_settings_of_the_optimizer(self, given, code, field):
        with raises(code, field):
            OptimizerConfig(**given)

    def test_the_best_metric_must_be_one_that_evaluations_give(self):
        for name in ("mean_iou", "pixel_accuracy", "iou/disc"):
            setup.require_known_metric(name, DATASET)
        with raises("unknown-name", "best_metric") as caught:
            setup.require_known_metric("iou/dics", DATASET)
        assert "iou/disc" in caught.value.hint


class TestInput:
    BANDS = ImageBands(4, "uint16", (), (0.0,) * 4, (9000.0,) * 4, (100.0,) * 4, (50.0,) * 4)

    def configs(self, **model):
        return dataclasses.replace(make_configs(), model=ModelConfig(**model))

    def test_the_model_takes_what_the_records_hold(self):
        dataset = dataclasses.replace(DATASET, image_bands=self.BANDS)
        found = setup.with_input_of(self.configs(), dataset).model
        assert bands_of(found) == self.BANDS
        assert setup.with_input_of(self.configs(input_channels=4), dataset).model == found
        assert setup.with_input_of(self.configs(), DATASET).model == ModelConfig()

    def test_settings_that_contradict_the_records_are_refused(self):
        dataset = dataclasses.replace(DATASET, image_bands=self.BANDS)
        with raises("wrong-channels", "input_channels"):
            setup.with_input_of(self.configs(input_channels=5), dataset)
        with raises("wrong-channels", "input_channels"):
            setup.with_input_of(self.configs(input_channels=4), DATASET)
        with raises("dataset-mismatch", "input_range"):
            setup.with_input_of(self.configs(input_channels=4, input_range=(0, 1)), dataset)


@pytest.mark.parametrize(
    ("given", "syncs"),
    [
        ({"train_batch_size": 8}, False),
        ({"train_batch_size": 8, "num_clones": 2}, True),
        ({"train_batch_size": 24, "num_clones": 2}, False),
        ({"train_batch_size": 8, "num_clones": 2, "sync_batch_norm": "false"}, False),
        ({"train_batch_size": 24, "num_clones": 2, "sync_batch_norm": "true"}, True),
    ],
)
def test_batch_norm_sees_the_whole_batch_where_parts_are_small(given, syncs):
    assert make_configs(**given).train.syncs_batch_norm() is syncs
