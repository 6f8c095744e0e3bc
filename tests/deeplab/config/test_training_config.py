"""Settings of the training that would fill the memory, or that contradict each other."""

import pytest
from support.errors import raises

from deeplab.config.fields import fields_of
from deeplab.config.training_config import LossConfig, OptimizerConfig, TrainConfig


@pytest.mark.parametrize(
    ("settings", "code", "field"),
    [
        ({"train_batch_size": 10**15}, "out-of-range", "train_batch_size"),
        ({"train_batch_size": 4096, "train_crop_size": 8193}, "out-of-range", "train_batch_size"),
        ({"scale_factor_step_size": 1e-12}, "out-of-range", "scale_factor_step_size"),
        ({"max_scale_factor": 100}, "out-of-range", "max_scale_factor"),
        ({"random_seed": 10**30}, "out-of-range", "random_seed"),
        ({"min_scale_factor": 2.5}, "conflicting-settings", "min_scale_factor"),
        ({"train_batch_size": 6, "num_clones": 4}, "indivisible-batch", "train_batch_size"),
        ({"train_batch_size": 8, "num_clones": 2, "accumulate_steps": 3}, "indivisible-batch", "accumulate_steps"),
        ({"early_stopping": 3}, "missing-setting", "early_stopping"),
        ({"average_checkpoints": 3}, "missing-setting", "average_checkpoints"),
        ({"average_checkpoints": 6, "save_interval_steps": 9}, "conflicting-settings", "average_checkpoints"),
        ({"num_clones": 2, "distribution": "one"}, "conflicting-settings", "distribution"),
        ({"num_replicas": 2, "distribution": "mirrored"}, "conflicting-settings", "distribution"),
        ({"report_to": ("tensorbord",)}, "unknown-name", "report_to"),
    ],
)
def test_bad_settings(settings, code, field):
    with raises(code, field):
        TrainConfig(train_logdir="x", **settings)


def test_as_many_checkpoints_may_be_averaged_as_are_kept():
    assert TrainConfig("x", average_checkpoints=5, save_interval_steps=9).average_checkpoints == 5


@pytest.mark.parametrize(
    ("batch", "devices", "setting", "synced"),
    [
        (11, 1, "auto", False),  # there is nothing to share with
        (22, 2, "auto", True),
        (24, 2, "auto", False),  # 12 images per device
        (24, 3, "auto", True),
        (24, 2, "true", True),
        (22, 2, "false", False),
    ],
)
def test_batch_norm_is_synced_where_a_device_has_few_images(batch, devices, setting, synced):
    config = TrainConfig("x", train_batch_size=batch, num_clones=devices, sync_batch_norm=setting)
    assert config.syncs_batch_norm() == config.syncs_batch_norm(devices) == synced


def test_resumable_settings_are_those_that_no_result_depends_on():
    fields = fields_of([LossConfig, OptimizerConfig, TrainConfig])
    resumable = {name for name, (field, _) in fields.items() if field.metadata["resumable"]}
    assert {"training_number_of_steps", "log_steps", "train_logdir", "num_clones"} <= resumable
    assert not resumable & {"train_batch_size", "train_crop_size", "optimizer", "weight_decay", "label_weights"}
