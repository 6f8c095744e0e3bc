"""Whole training steps against three steps of the reference's own training on TensorFlow 1.15."""

import functools
import gzip
import json
import subprocess
import sys
from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.golden_recipe import weight

from deeplab.config.command_line import Command, configs_from
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import LossConfig, OptimizerConfig, TrainConfig
from deeplab.losses.segmentation_loss import from_config
from deeplab.model import build_model
from deeplab.training import distribution, optimizers
from deeplab.training.randomness import StepClock
from deeplab.training.step import Trainer, make_train_step
from slim.layers import variables_by_name

GROUPS = (ModelConfig, LossConfig, OptimizerConfig, TrainConfig)
CLASSES = 4


def load_case(golden, name):
    with gzip.open(golden / "train_step.json.gz") as file:
        return json.load(file)[name]


def make_training(case):
    """Model with the golden weights, optimizer and step function of one golden case."""
    _, given = Command("train", lambda given: None, GROUPS, "").parse([*case["flags"], "--train_logdir=unused"])
    model_config, loss, schedule, train = configs_from(given, GROUPS)
    strategy = distribution.make_strategy(train.num_clones)
    with strategy.scope():
        model = build_model(model_config, CLASSES, train_batch_norm=train.fine_tune_batch_norm)
        variables = variables_by_name(model)
        optimizer = optimizers.make(schedule, {name: v for name, v in variables.items() if v.trainable})
    for name, variable in variables.items():
        variable.assign(weight(name, tuple(variable.shape)))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0  # the golden steps were run without dropout's chance
    total_steps = train.training_number_of_steps
    of_batch, clock = from_config(loss, ignore_label=255), StepClock(total_steps)
    trainer = Trainer(model, optimizer, of_batch, loss.weight_decay, schedule, total_steps, clock)
    state = {**{name: v.value for name, v in variables.items()}, **optimizer.variables_by_name()}
    return make_train_step(trainer, strategy), state, strategy


def golden_batch(golden):
    with np.load(golden / "train_step.npz") as arrays:
        return {
            "image": tf.constant(arrays["image"], tf.float32),
            "label": tf.constant(arrays["label"].reshape(2, 65, 81), tf.int32),
        }


@dataclass(frozen=True)
class Run:
    """Three steps of one golden case.

    Attributes:
      case: the reference's numbers.
      results: what each step returned.
      states: all variables by name, before the first step and after each.
      replays: what each step returned when it was run once more, last step first, from the state before it.
    """

    case: dict
    results: list
    states: list
    replays: list


@functools.cache
def run_of(golden, name):
    case = load_case(golden, name)
    step_function, variables, _ = make_training(case)
    batch = golden_batch(golden)

    def take(step):
        result = step_function(batch, tf.constant(step, tf.int64))
        return {key: float(value) for key, value in result.items()}

    def state():
        return {name: variable.numpy() for name, variable in variables.items()}

    results, states, replays = [], [state()], []
    for step in range(3):
        results.append(take(step))
        states.append(state())
    for step in reversed(range(3)):
        for name, variable in variables.items():
            variable.assign(states[step][name])
        replays.insert(0, take(step))
    return Run(case, results, states, replays)


def statistics(value):
    value = value.astype(np.float64)
    return [value.mean(), value.std(), (value**2).sum()]


def test_three_steps_with_frozen_batch_norm_equal_the_reference(golden):
    run = run_of(golden, "mnv2_frozenbn")
    for result, (total, penalty, _) in zip(run.results, run.case["losses"], strict=True):
        assert result["total_loss"] == pytest.approx(total, rel=2e-6)
        assert result["regularization_loss"] == pytest.approx(penalty, rel=1e-5)
    for step in (1, 3):
        expected, state = run.case[f"stats_step{step}"], run.states[step]
        assert expected.keys() == state.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(statistics(state[name]), values, rtol=2e-4, atol=2e-6, err_msg=name)


# With trained batch norm, activations that lie within rounding of a ReLU's corner fall on either side, and batch
# norm over so small a map makes much of it: the gradients that reach the backbone depend on the processor and the
# number of threads, and so does all that follows. Determined are what the first forward pass gives (losses, batch
# norm's averages), the gradients of the logits layer, behind which is no corner, and each step beside its own start.
TRAINED = [
    "mnv2_noimage",
    "mnv2_adam",
    "mnv2_pyramid",
    "mnv2_labelweights_noup",
    "mnv2_slowstart_step",
    "mnv2_llmult10",
]


@pytest.mark.parametrize("case", TRAINED)
def test_losses_of_the_first_step_and_all_rates_equal_the_reference(golden, case):
    run = run_of(golden, case)
    total, penalty, _ = run.case["losses"][0]
    assert run.results[0]["total_loss"] == pytest.approx(total, rel=3e-5)
    assert run.results[0]["regularization_loss"] == pytest.approx(penalty, rel=1e-6)
    if case != "mnv2_adam":  # the reference logs the schedule that Adam does not use
        rates = [rate for _, _, rate in run.case["losses"]]
        assert [result["learning_rate"] for result in run.results] == pytest.approx(rates, rel=1e-6)


@pytest.mark.parametrize("case", TRAINED)
def test_batch_norm_averages_after_one_step_equal_the_reference(golden, case):
    run = run_of(golden, case)
    names = [name for name in run.case["stats_step1"] if "/moving_" in name]
    assert len(names) > 100
    # The two scales of a pyramid update the same averages; their order is the reference's chance.
    close = {"rtol": 1e-4, "atol": 2e-5} if case == "mnv2_pyramid" else {"rtol": 1e-5, "atol": 1e-6}
    for name in names:
        expected = run.case["stats_step1"][name]
        np.testing.assert_allclose(statistics(run.states[1][name]), expected, **close, err_msg=name)


def assert_statistics(values, expected, rtol, name):
    np.testing.assert_allclose(values[1:], expected[1:], rtol=rtol, err_msg=name)
    # Over the classes, the logits' gradients add up to nothing: of such a mean only rounding is left.
    np.testing.assert_allclose(values[0], expected[0], rtol=rtol, atol=1e-5 * expected[1], err_msg=name)


@pytest.mark.parametrize("case", TRAINED)
def test_logits_layer_and_its_slots_after_one_step_equal_the_reference(golden, case):
    run = run_of(golden, case)
    names = [name for name in run.case["stats_step1"] if name.startswith(("logits/", "beta"))]
    assert len(names) == (8 if case == "mnv2_adam" else 4)
    # The image branch's batch norm is over two values and magnifies rounding.
    rtol = 1e-4 if case == "mnv2_noimage" else 1e-3
    for name in names:
        assert_statistics(statistics(run.states[1][name]), run.case["stats_step1"][name], rtol, name)


def momentum_update(name, before, after, rate):
    return before[name] - rate * after[f"{name}/Momentum"]


def adam_update(name, before, after, rate):
    rate = rate * np.sqrt(1 - before["beta2_power"]) / (1 - before["beta1_power"])
    return before[name] - rate * after[f"{name}/Adam"] / (np.sqrt(after[f"{name}/Adam_1"]) + 1e-8)


@pytest.mark.parametrize("case", TRAINED)
def test_each_step_follows_from_the_state_before_it(golden, case):
    run = run_of(golden, case)
    update, slot = (adam_update, "Adam") if case == "mnv2_adam" else (momentum_update, "Momentum")
    trained = [name for name in run.states[0] if f"{name}/{slot}" in run.states[0]]
    assert len(trained) > 100
    for result, replay, before, after in zip(run.results, run.replays, run.states[:-1], run.states[1:], strict=True):
        assert result["total_loss"] == pytest.approx(replay["total_loss"], rel=3e-5)
        assert result["total_loss"] == pytest.approx(result["task_loss"] + result["regularization_loss"], rel=1e-6)
        kernels = [before[name].astype(np.float64) for name in trained if name.endswith("/weights")]
        penalty = 4e-5 / 2 * sum((kernel**2).sum() for kernel in kernels)
        assert result["regularization_loss"] == pytest.approx(penalty, rel=1e-5)
        for name in trained:
            expected = update(name, before, after, result["learning_rate"])
            np.testing.assert_allclose(after[name], expected, rtol=1e-6, atol=1e-7, err_msg=name)


TWO_REPLICAS = """
import sys
sys.path[:0] = [{tests!r}, {here!r}]
import pathlib, tensorflow as tf
from test_step import golden_batch, load_case, make_training, statistics
golden = pathlib.Path({golden!r})
case = load_case(golden, "mnv2_noimage_clones2")
statistics_of = [name for name in load_case(golden, "mnv2_noimage")["stats_step1"] if name.startswith("logits/")]
step_function, state, strategy = make_training(case)
assert strategy.num_replicas_in_sync == 2
batch = golden_batch(golden)
both = tf.data.Dataset.from_tensors({{k: tf.concat([v, v], 0) for k, v in batch.items()}}).repeat()
batches = iter(strategy.experimental_distribute_dataset(both))
for step in range(2):
    result = step_function(next(batches), tf.constant(step, tf.int64))
    if step == 0:
        print("loss", float(result["total_loss"]))
        for name in statistics_of:
            value = state[name]
            print(name, *statistics(getattr(value, "values", [value])[0].numpy()))
for value in state.values():
    copies = getattr(value, "values", [value])
    assert all((copy.numpy() == copies[0].numpy()).all() for copy in copies), value
"""


@pytest.mark.slow
def test_two_replicas_with_the_same_images_equal_the_reference_with_two_clones(golden):
    here = __file__.rsplit("/", 1)[0]
    program = TWO_REPLICAS.format(tests=str(golden.parent), here=here, golden=str(golden))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=golden.parents[1])
    assert run.returncode == 0, run.stderr[-2000:]
    printed = {name: [float(value) for value in values] for name, *values in map(str.split, run.stdout.splitlines())}
    assert printed.pop("loss") == pytest.approx([load_case(golden, "mnv2_noimage_clones2")["losses"][0][0]], rel=3e-5)
    # Two clones with the same images take the step of one: so they did in the reference.
    expected = load_case(golden, "mnv2_noimage")["stats_step1"]
    assert len(printed) == 4
    for name, values in printed.items():
        assert_statistics(values, expected[name], 1e-4, name)
