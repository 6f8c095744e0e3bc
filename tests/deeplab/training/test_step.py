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
from support.small_trainer import make_batch, make_trainer
from support.small_trainer import values as values_of

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


def make_training(case, is_compiled=False):
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
    return make_train_step(trainer, strategy, is_compiled=is_compiled), state, strategy


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
def run_of(golden, name, is_compiled=False):
    case = load_case(golden, name)
    step_function, variables, _ = make_training(case, is_compiled)
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


@pytest.fixture(autouse=True, scope="module")
def runs_forgotten(memory_given_back):
    """The states of all runs take half a gigabyte."""
    yield
    run_of.cache_clear()


def statistics(value):
    value = value.astype(np.float64)
    return [value.mean(), value.std(), (value**2).sum()]


@pytest.mark.parametrize("is_compiled", [False, True], ids=["", "by XLA"])
def test_three_steps_with_frozen_batch_norm_equal_the_reference(golden, is_compiled):
    run = run_of(golden, "mnv2_frozenbn", is_compiled)
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


# ---- parts, averages, scale, decay -----------------------------------------------------------------------


def one_step(batch=None, steps=1, **settings):
    """Results and all variables after some steps of a small training."""
    trainer = make_trainer(**settings)
    step = make_train_step(trainer, tf.distribute.get_strategy())
    for number in range(steps):
        results = step(batch or make_batch(seed=number), tf.constant(number, tf.int64))
    return {name: float(value) for name, value in results.items()}, values_of(trainer)


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
@pytest.mark.parametrize("parts", [2, 4])
def test_parts_give_the_gradients_of_the_whole_batch(parts, optimizer):
    """To 1e-6 with frozen batch norm, though the parts have different numbers of labeled pixels."""
    given = {"train_batch_norm": False, "schedule": {"optimizer": optimizer, "base_learning_rate": 0.01}, "steps": 3}
    whole, in_parts = one_step(**given), one_step(parts=parts, **given)
    assert in_parts[0] == pytest.approx(whole[0], rel=1e-6)
    for name, value in whole[1].items():
        np.testing.assert_allclose(in_parts[1][name], value, rtol=1e-6, atol=1e-6, err_msg=name)


def test_parts_without_a_labeled_pixel_and_with_dropout_stay_finite():
    batch = {**make_batch(), "label": tf.fill([4, 9, 9], 255)}
    results, state = one_step(batch, parts=2, dropout=0.5)
    assert results["task_loss"] == 0 and all(np.isfinite(value).all() for value in state.values())


def test_each_part_draws_its_own_dropout():
    """Two equal halves would otherwise have equal losses, and their sum that of one half."""
    half = make_batch(2, ignored=0)
    both = {name: tf.concat([value, value], 0) for name, value in half.items()}
    alone = one_step(half, dropout=0.5, train_batch_norm=False)[0]["task_loss"]
    together = one_step(both, dropout=0.5, train_batch_norm=False, parts=2)[0]["task_loss"]
    assert abs(alone - together) > 1e-4


def test_averages_follow_the_weights_and_change_nothing():
    plain, averaged = one_step(steps=3), one_step(steps=3, ema_decay=0.9)
    names = [name for name in averaged[1] if name.endswith("/ExponentialMovingAverage")]
    weights = [name.rpartition("/")[0] for name in names]
    assert "Tiny/conv0/BatchNorm/moving_mean" in weights and len(names) == 12
    assert averaged[1].keys() == plain[1].keys() | set(names)
    for name, value in plain[1].items():
        np.testing.assert_array_equal(averaged[1][name], value, err_msg=name)
    moved = [
        name for name in weights if not np.array_equal(averaged[1][f"{name}/ExponentialMovingAverage"], plain[1][name])
    ]
    assert moved == weights


def test_a_scaled_loss_gives_the_same_step():
    plain, scaled = one_step(steps=2), one_step(steps=2, scaled=True)
    assert scaled[1]["loss_scale/good_steps"] == 2
    for name, value in plain[1].items():
        np.testing.assert_allclose(scaled[1][name], value, rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_decoupled_decay_shrinks_the_kernels_by_rate_times_decay(rate):
    """By hand: the difference between a step with and without decay, from the same weights."""
    given = {"schedule": {"optimizer": "lion", "base_learning_rate": rate, "backbone_learning_rate_multiplier": 0.5}}
    plain, decayed = one_step(weight_decay=0.0, **given), one_step(weight_decay=0.2, **given)
    start = values_of(make_trainer(**given))
    assert decayed[0]["regularization_loss"] == 0 and decayed[0]["total_loss"] == plain[0]["total_loss"]
    for name, value in plain[1].items():
        amount = {"Tiny/conv0/weights": 0.1, "aspp0/weights": 0.2, "logits/semantic/weights": 0.2}.get(name, 0.0)
        expected = value - rate * amount * start[name] if name in start else value
        np.testing.assert_allclose(decayed[1][name], expected, rtol=1e-5, atol=1e-7, err_msg=name)


def test_the_backbone_moves_at_its_own_rate():
    whole, half = (
        one_step(weight_decay=0.0, schedule={"optimizer": "adam", "backbone_learning_rate_multiplier": factor})[1]
        for factor in (1.0, 0.5)
    )
    start = values_of(make_trainer())
    for name in ("Tiny/conv0/weights", "Tiny/conv0/BatchNorm/beta"):
        np.testing.assert_allclose(half[name] - start[name], 0.5 * (whole[name] - start[name]), rtol=1e-3, atol=1e-7)
    np.testing.assert_array_equal(half["logits/semantic/weights"], whole["logits/semantic/weights"])


def test_a_rate_that_waits_for_a_plateau_is_scaled():
    scale = tf.Variable(0.25)
    results, _ = one_step(rate_scale=scale, schedule={"learning_policy": "plateau"})
    assert results["learning_rate"] == pytest.approx(0.025)


@pytest.mark.parametrize("parts", [1, 2])
def test_the_parts_of_a_sum_of_losses_are_results(parts):
    trainer = make_trainer(loss="cross_entropy + 0.5*dice", parts=parts, train_batch_norm=False)
    results = make_train_step(trainer, tf.distribute.get_strategy())(make_batch(), tf.constant(0, tf.int64))
    found = [float(results[f"loss/{name}"]) for name in trainer.part_names()]
    assert trainer.part_names() == ("cross_entropy", "0.5 * dice") and min(found) > 0
    assert sum(found) == pytest.approx(float(results["task_loss"]), rel=1e-6)
    single = make_train_step(make_trainer(), tf.distribute.get_strategy())(make_batch(), tf.constant(0, tf.int64))
    assert not [name for name in single if name.startswith("loss/")]
