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
    ],
)
def test_bad_settings(settings, code, field):
    with raises(code, field):
        TrainConfig(train_logdir="x", **settings)


def test_resumable_settings_are_those_that_no_result_depends_on():
    fields = fields_of([LossConfig, OptimizerConfig, TrainConfig])
    resumable = {name for name, (field, _) in fields.items() if field.metadata["resumable"]}
    assert {"training_number_of_steps", "log_steps", "train_logdir", "num_clones"} <= resumable
    assert not resumable & {"train_batch_size", "train_crop_size", "optimizer", "weight_decay", "label_weights"}
