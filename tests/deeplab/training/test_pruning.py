"""Pruning: the schedule, the choice of weights, the step and all it works with, checkpoints and exports."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from support import tiny_backbone
from support.errors import raises
from support.small_trainer import make_batch, make_model, make_trainer, values

from deeplab import checkpoint, train
from deeplab.checkpoint.names import mask_name, threshold_name
from deeplab.checkpoint.restore import restore
from deeplab.checkpoint.writer import write
from deeplab.config.compression_config import CompressionConfig
from deeplab.config.durations import Length
from deeplab.export import export
from deeplab.training import pruning
from deeplab.training.pruning import Plan, Pruning, choose_mask, plan_of, prunable
from deeplab.training.step import make_train_step
from slim.layers import variables_by_name

KERNELS = ["Tiny/conv0/weights", "aspp0/weights"]
MASKS = ["Tiny/conv0/mask", "aspp0/mask"]


# ---- schedule


def test_the_fraction_rises_as_in_the_paper():
    plan = Plan(0.8, begin=10, end=50, every=10, gradual=True)
    for done in range(10, 51, 5):
        expected = 0.8 + (0.0 - 0.8) * (1 - (done - 10) / 40) ** 3  # equation 1 of arXiv:1710.01878
        assert float(plan.sparsity_at(tf.constant(done))) == pytest.approx(expected, abs=1e-6)
    due = [done for done in range(1, 80) if bool(plan.is_due(tf.constant(done)))]
    assert due == [10, 20, 30, 40, 50]


def test_the_last_step_of_the_schedule_is_always_due():
    plan = Plan(0.5, begin=3, end=10, every=4, gradual=True)
    assert [done for done in range(1, 20) if bool(plan.is_due(tf.constant(done)))] == [3, 7, 10]


def test_a_schedule_of_one_step_prunes_everything_in_it():
    assert float(Plan(0.5, begin=3, end=3, every=100, gradual=True).sparsity_at(tf.constant(3))) == 0.5


def test_durations_become_steps_and_must_fit_the_training():
    config = CompressionConfig(prune_sparsity=0.5, prune_begin="0.2", prune_end="2 epochs")
    assert plan_of(config, Length(100, 30.0)) == Plan(0.5, 20, 60, 100, True)
    assert plan_of(CompressionConfig(), Length(100)) is None
    assert plan_of(CompressionConfig(prune_sparsity=0.5, prune_begin="0"), Length(100)).begin == 1
    for begin, end in (("50", "40"), ("1", "101")):
        with raises("conflicting-settings", field="prune_end"):
            plan_of(CompressionConfig(prune_sparsity=0.5, prune_begin=begin, prune_end=end), Length(100))


# ---- which weights


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.99])
def test_the_smallest_are_pruned_exactly_so_many(sparsity):
    weights = np.random.default_rng(1).normal(size=(3, 3, 8, 10)).astype(np.float32)
    mask, threshold = choose_mask(tf.constant(weights), tf.constant(sparsity))
    kept = np.sort(np.abs(weights).ravel())[round(sparsity * weights.size) :]
    np.testing.assert_array_equal(np.sort(np.abs(weights[mask.numpy() == 1])), kept)
    assert float(threshold) == kept[0]


def test_equal_weights_do_not_vanish_together():
    mask, _ = choose_mask(tf.ones([1, 1, 4, 4]), tf.constant(0.5))
    assert mask.numpy().sum() == 8 and choose_mask(tf.zeros([2, 3]), tf.constant(0.99))[0].numpy().sum() == 1


def test_two_of_four_successive_inputs_are_left():
    weights = np.random.default_rng(2).normal(size=(3, 3, 8, 5)).astype(np.float32)
    mask = choose_mask(tf.constant(weights), tf.constant(0.5), (":", 2, 4))[0].numpy()
    groups = mask.reshape(3, 3, 2, 4, 5)
    np.testing.assert_array_equal(groups.sum(axis=3), 2)
    magnitude = np.abs(weights).reshape(groups.shape)
    largest = np.sort(magnitude, axis=3)[..., 2:, :]
    np.testing.assert_array_equal(np.sort(magnitude * groups, axis=3)[..., 2:, :], largest)
    half_way = choose_mask(tf.constant(weights), tf.constant(0.2), (":", 2, 4))[0].numpy()
    assert half_way.sum() == round(0.8 * weights.size) and np.all(half_way >= mask)


@pytest.mark.parametrize("shape", [(1, 1, 8, 16), (3, 3, 6, 10), (5, 7)])
def test_blocks_of_channels_are_pruned_together(shape):
    weights = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    mask = choose_mask(tf.constant(weights), tf.constant(0.5), ("x", 2, 4))[0].numpy()
    blocks, means = [], []
    for row in range(0, shape[-2], 2):
        for column in range(0, shape[-1], 4):
            part = (..., slice(row, row + 2), slice(column, column + 4))
            flat = mask[part].reshape(*shape[:-2], -1)
            assert np.all(flat == flat[..., :1])
            blocks.append(flat[..., 0].ravel())
            means.append(np.abs(weights[part]).mean(axis=(-2, -1)).ravel())
    kept, means = np.concatenate(blocks), np.concatenate(means)
    assert kept.sum() == kept.size - round(0.5 * kept.size)
    assert means[kept == 1].min() >= means[kept == 0].max()


def test_depthwise_kernels_and_logits_are_kept():
    shapes = {
        "MobilenetV2/Conv/weights": (3, 3, 3, 32),
        "MobilenetV2/expanded_conv/depthwise/depthwise_weights": (3, 3, 32, 1),
        "decoder/decoder_conv0_depthwise/depthwise_weights": (3, 3, 304, 1),
        "decoder/decoder_conv0_pointwise/weights": (1, 1, 304, 256),
        "logits/semantic/weights": (1, 1, 256, 21),
        "logits/semantic/biases": (21,),
        "MobilenetV2/Conv/BatchNorm/gamma": (32,),
    }
    variables = {name: tf.zeros(shape) for name, shape in shapes.items()}
    keep = CompressionConfig().prune_keep
    assert prunable(variables, keep) == ["MobilenetV2/Conv/weights", "decoder/decoder_conv0_pointwise/weights"]
    assert prunable(variables, keep, (":", 2, 4)) == ["decoder/decoder_conv0_pointwise/weights"]
    with raises("nothing-to-prune", field="prune_keep"):
        Pruning(Plan(0.5, 1, 2, 1, True), {})


def test_names_are_those_of_tensorflow_1():
    assert mask_name("MobilenetV2/Conv/weights") == "MobilenetV2/Conv/mask"
    assert threshold_name("aspp1_depthwise/depthwise_weights") == "aspp1_depthwise/threshold"
    assert mask_name("block/sepconv/pointwise_kernel") == "block/sepconv/pointwise_kernel/mask"


# ---- the step


def pruned_trainer(plan, **more):
    trainer = make_trainer(**more)
    kernels = {name: trainer.trainable()[name] for name in KERNELS}
    object.__setattr__(trainer, "pruning", Pruning(plan, kernels))
    return trainer


def stepped(trainer, steps, frozen=()):
    step = make_train_step(trainer, tf.distribute.get_strategy(), frozen)
    for number in range(steps):
        step(make_batch(seed=number), tf.constant(number, tf.int64))
    return values(trainer)


PLAN = Plan(0.5, begin=2, end=4, every=1, gradual=True)


@pytest.mark.parametrize(
    "more", [{}, {"ema_decay": 0.9}, {"parts": 2}, {"scaled": True}, {"schedule": {"optimizer": "adam"}}]
)
def test_pruned_weights_stay_zero_with_everything_that_moves_them(more):
    after = stepped(pruned_trainer(PLAN, **more), 6)
    for kernel, mask in zip(KERNELS, MASKS, strict=True):
        assert np.mean(after[mask] == 0) == pytest.approx(0.5, abs=0.02)
        np.testing.assert_array_equal(after[kernel] == 0, after[mask] == 0)
        if "ema_decay" in more:
            average = after[f"{kernel}/ExponentialMovingAverage"]
            np.testing.assert_array_equal(average == 0, after[mask] == 0)
    assert np.all(after["logits/semantic/weights"] != 0)


def test_before_it_begins_a_training_is_the_same():
    plain, pruned = stepped(make_trainer(), 3), stepped(pruned_trainer(Plan(0.5, 9, 9, 1, False)), 3)
    for name, value in plain.items():
        np.testing.assert_array_equal(pruned[name], value, err_msg=name)


def test_gradients_of_pruned_weights_do_not_count():
    trainer = pruned_trainer(Plan(0.5, 1, 1, 1, False))
    after = stepped(trainer, 2)
    gradients = {name: tf.ones(after[name].shape) for name in [*KERNELS, "logits/semantic/weights"]}
    masked = trainer.pruning.masked({**gradients, "aspp0/BatchNorm/gamma": None})
    for kernel, mask in zip(KERNELS, MASKS, strict=True):
        np.testing.assert_array_equal(masked[kernel].numpy(), after[mask])
    assert masked["logits/semantic/weights"] is gradients["logits/semantic/weights"]
    assert masked["aspp0/BatchNorm/gamma"] is None


def test_frozen_kernels_are_not_pruned_before_their_release():
    trainer = pruned_trainer(Plan(0.5, 1, 3, 1, True))
    before = values(trainer)
    held = stepped(trainer, 2, frozen=["Tiny/conv0/weights"])
    np.testing.assert_array_equal(held["Tiny/conv0/weights"], before["Tiny/conv0/weights"])
    assert np.any(held["aspp0/weights"] == 0)
    step = make_train_step(trainer, tf.distribute.get_strategy())
    step(make_batch(), tf.constant(2, tf.int64))
    assert np.mean(values(trainer)["Tiny/conv0/weights"] == 0) == pytest.approx(0.5, abs=0.02)


TWO_REPLICAS = """
import sys
sys.path[:0] = [{tests!r}, {here!r}]
import numpy as np, tensorflow as tf
from test_pruning import KERNELS, MASKS, PLAN, pruned_trainer
from support.small_trainer import make_batch
from deeplab.training import distribution
from deeplab.training.step import make_train_step
strategy = distribution.make_strategy(2)
with strategy.scope():
    trainer = pruned_trainer(PLAN, ema_decay=0.9)
step = make_train_step(trainer, strategy)
batches = iter(strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensors(make_batch()).repeat()))
for number in range(5):
    step(next(batches), tf.constant(number, tf.int64))
variables = trainer.variables()
for name in [*KERNELS, *MASKS, *(f"{{kernel}}/ExponentialMovingAverage" for kernel in KERNELS)]:
    native = getattr(variables[name], "value", variables[name])
    copies = [copy.numpy() for copy in getattr(native if hasattr(native, "values") else variables[name], "values")]
    assert len(copies) == 2 and np.array_equal(*copies), name
    print(name, np.mean(copies[0] == 0))
"""


@pytest.mark.slow
def test_two_replicas_prune_the_same_weights():
    tests = pathlib.Path(__file__).parents[2]
    program = TWO_REPLICAS.format(tests=str(tests), here=os.path.dirname(__file__))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tests.parent)
    assert run.returncode == 0, run.stderr[-2000:]
    fractions = [float(line.split()[1]) for line in run.stdout.splitlines()]
    assert len(fractions) == 6 and all(abs(fraction - 0.5) < 0.02 for fraction in fractions)


# ---- checkpoints, reports, exports


def test_a_checkpoint_of_tensorflow_1_is_pruned_when_it_is_restored(tmp_path):
    """It holds weights as they were before they were pruned, and masks beside them."""
    model = make_model()
    arrays = {name: np.asarray(variable) for name, variable in variables_by_name(model).items()}
    mask = (np.random.default_rng(0).random(arrays["aspp0/weights"].shape) < 0.5).astype(np.float32)
    write(str(tmp_path / "model.ckpt-3"), {**arrays, "aspp0/mask": mask, "aspp0/threshold": np.float32(0.1)})
    report = restore(variables_by_name(model), str(tmp_path / "model.ckpt-3"), require_all=True)
    np.testing.assert_array_equal(variables_by_name(model)["aspp0/weights"].numpy(), arrays["aspp0/weights"] * mask)
    np.testing.assert_array_equal(variables_by_name(model)["Tiny/conv0/weights"].numpy(), arrays["Tiny/conv0/weights"])
    assert set(report.unused) == {"aspp0/mask", "aspp0/threshold"}


def test_a_pruned_training_is_evaluated_reported_averaged_and_exported_as_pruned(disc_records, tmp_path, capsys):
    folder = tmp_path / "run"
    given = {
        "dataset_dir": disc_records,
        "train_logdir": folder,
        "model_variant": "tiny",
        "train_crop_size": "33,33",
        "train_batch_size": 4,
        "training_number_of_steps": 6,
        "random_seed": 1,
        "prune_sparsity": 0.75,
        "prune_begin": 1,
        "prune_end": 4,
        "prune_every": 1,
        "ema_decay": 0.5,
        "save_interval_steps": 2,
        "average_checkpoints": 2,
    }
    with tiny_backbone.registered():
        assert train.COMMAND.main([f"--{name}={value}" for name, value in given.items()]) == 0
        printed = capsys.readouterr()
        arrays = checkpoint.open(folder).arrays()
        masks = [name for name in arrays if name.endswith("/mask")]
        assert masks and "logits/semantic/mask" not in arrays
        for mask in masks:
            kernel = mask.replace("/mask", "/weights")
            assert np.mean(arrays[mask] == 0) == pytest.approx(0.75, abs=0.05)
            np.testing.assert_array_equal(arrays[kernel] == 0, arrays[mask] == 0)
        averaged = checkpoint.open(folder / "averaged").arrays()
        assert all(np.mean(averaged[mask.replace("/mask", "/weights")] == 0) >= 0.7 for mask in masks)
        sentence = re.search(r"7\d\.\d % of the [\d,]+ weights in \d+ pruned kernels are 0", printed.err + printed.out)
        assert sentence and sentence[0] in (folder / "report.html").read_text()
        done = export(folder, tmp_path / "out", ("frozen_graph",), crop_size=(33, 33), parity_images=1)
    report = (tmp_path / "out" / "export_report.md").read_text()
    assert "| gzip MB |" in report and "Pruned: 7" in report
    (row,) = [row for row in done.rows if row.compressed]
    assert row.compressed < 0.8 * row.megabytes


def test_kernels_are_described(capsys):
    trainer = pruned_trainer(PLAN)
    assert trainer.pruning.describe() == "pruning 50 % of 192 weights in 2 kernels from step 2 to 4"
    assert pruning.plan_of(CompressionConfig(), Length(5)) is None
