"""The model that a training is judged by: the live one, a float32 copy, the averages."""

import numpy as np
import pytest
from support import tiny_backbone
from support.callback_battery import DATASET

from deeplab.checkpoint.names import AVERAGE
from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.durations import Length
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import LossConfig, OptimizerConfig, TrainConfig
from deeplab.training import distribution, evaluation_model, freezing, loop
from deeplab.training.guards import UncheckedResults
from deeplab.training.precise_bn import batch_norm_layers
from deeplab.training.setup import Prepared, TrainingConfigs
from deeplab.training.state import TrainState
from slim.layers import variables_by_name


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with tiny_backbone.registered():
        yield


def make_state(**train) -> TrainState:
    """A training at step 0 whose recalibration sets every moving mean to 7."""
    config = TrainConfig("run", train_crop_size=(33, 33), train_batch_size=2, **train)
    model = ModelConfig(model_variant="tiny", add_image_level_feature=False, aspp_convs_filters=8)
    configs = TrainingConfigs(model, ResizeConfig(), DatasetConfig(), LossConfig(), OptimizerConfig(), config)
    trainer = loop.make_trainer(
        configs, Prepared(DATASET, [], 1, None, length=Length(10)), distribution.make_strategy(1)
    )
    state = TrainState(config, DATASET, trainer, trainer.variables(), 0, UncheckedResults(lambda step: {}, "run"))
    state.configs = configs
    state.recalibrate = recalibrate
    return state


def recalibrate(model, brief=False):
    for layer in batch_norm_layers(model):
        layer.moving_mean.assign(np.full(layer.moving_mean.shape, 7.0))


MEAN, KERNEL = "concat_projection/BatchNorm/moving_mean", "logits/semantic/weights"


def test_without_averages_it_is_the_live_model_with_its_own_statistics_afterwards():
    state = make_state()
    with evaluation_model.ready(state) as model:
        assert model is state.model
        assert np.all(evaluation_model.checkpoint_tensors(state)[MEAN] == 7)
    assert np.all(variables_by_name(model)[MEAN].numpy() == 0)
    evaluation_model.recalibrate_for_good(state)
    assert np.all(variables_by_name(model)[MEAN].numpy() == 7)


def test_averages_are_evaluated_on_a_copy_and_the_live_model_stays():
    state = make_state(ema_decay=0.9)
    live = {name: np.array(variable.numpy()) for name, variable in variables_by_name(state.model).items()}
    state.trainer.averages.set({KERNEL: live[KERNEL] + 1})
    with evaluation_model.ready(state) as model:
        assert model is not state.model
        np.testing.assert_array_equal(variables_by_name(model)[KERNEL].numpy(), live[KERNEL] + 1)
        tensors = evaluation_model.checkpoint_tensors(state)
    np.testing.assert_array_equal(tensors[KERNEL], live[KERNEL])
    np.testing.assert_array_equal(tensors[f"{KERNEL}/{AVERAGE}"], live[KERNEL] + 1)
    assert np.all(tensors[MEAN] == 0) and np.all(tensors[f"{MEAN}/{AVERAGE}"] == 7)
    for name, variable in variables_by_name(state.model).items():
        np.testing.assert_array_equal(variable.numpy(), live[name], err_msg=name)
    with evaluation_model.ready(state, recalibrate=False) as again:
        assert again is model and np.all(variables_by_name(again)[MEAN].numpy() == 0)
    evaluation_model.recalibrate_for_good(state)
    assert np.all(state.trainer.averages.values()[MEAN] == 7)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_evaluated_in_float32_and_logits_and_weights_are_float32(precision):
    state = make_state(precision=precision)
    assert {variable.dtype for variable in state.model.weights} == {"float32"}
    image = np.zeros((1, 33, 33, 3), np.float32)
    assert state.model(image)["merged_logits"].dtype == "float32"
    logits = state.model.get_layer("logits.semantic")
    assert logits.compute_dtype == "float32" and logits.input.dtype == precision.removeprefix("mixed_")
    with evaluation_model.ready(state, recalibrate=False) as model:
        assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}
        assert variables_by_name(model).keys() == variables_by_name(state.model).keys()
        for name, variable in variables_by_name(state.model).items():
            np.testing.assert_array_equal(variables_by_name(model)[name].numpy(), variable.numpy(), err_msg=name)


def test_the_copy_keeps_the_statistics_that_are_frozen():
    state = make_state(ema_decay=0.9)
    frozen = freezing.frozen_names("backbone", state.trainer.trainable())
    freezing.hold_statistics(state.model, frozen, train_batch_norm=True)
    with evaluation_model.ready(state) as model:
        trains = {layer.name: layer.norm.train_statistics for layer in batch_norm_layers(model)}
    assert trains == {name: not name.startswith("Tiny") for name in trains} and len(set(trains.values())) == 2
