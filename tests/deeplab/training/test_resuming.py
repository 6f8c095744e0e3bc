"""Exact resume with every feature on: after kills, and for random combinations of settings, which are exported as well.

`--long` makes 200 kills and 40 combinations.
"""

import dataclasses
import os
import pathlib
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
from support import tiny_backbone

from deeplab import checkpoint, train
from deeplab.config.augmentation_config import AugmentationConfig
from deeplab.config.compression_config import CompressionConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import LossConfig, OptimizerConfig, TrainConfig
from deeplab.export import export
from deeplab.inference import load

pytestmark = pytest.mark.xdist_group("training")

TESTS = pathlib.Path(__file__).parents[2]
UNSET = (None,) * 3  # a setting that is drawn in a quarter of the combinations; the command does without it otherwise
CHOICES = {
    # optimizer and learning rate
    "optimizer": ["momentum", "adam", "rmsprop", "adamw", "lion", "nadam", "adagrad", "sgd"],
    "momentum": [0.9, 0.5],
    "nesterov": [False, False, True],
    "rmsprop_decay": [0.9, 0.5],
    "rmsprop_epsilon": [1e-10, 0.01],
    "adam_learning_rate": [0.001, 0.01],
    "adam_epsilon": [1e-8, 0.001],
    "learning_policy": [
        *("poly", "step", "cosine", "cosine_restarts", "exponential", "piecewise", "constant", "one_cycle", "plateau"),
    ],
    "learning_power": [0.9, 2],
    "decay_steps": [0, 3],
    "end_learning_rate": [0, 0.001],
    "learning_rate_decay_factor": [0.1, 0.5],
    "learning_rate_decay_step": [2000, 2],
    "learning_rate_boundaries": ["2,0.6"],
    "learning_rate_values": ["0.02,0.01,0.001"],
    "restart_period": ["0.25", "2"],
    "restart_period_factor": [1, 2],
    "plateau_patience": [1, 3],
    "warmup": ["", "1", "0.2", "0.5 epochs"],
    "slow_start_step": [0, 2],
    "slow_start_learning_rate": [1e-4, 0.01],
    "slow_start_burnin_type": ["none", "linear"],
    "gradient_clip_norm": [0, 0.5],
    "backbone_learning_rate_multiplier": [1, 0.1],
    "last_layer_gradient_multiplier": [1, 10],
    "last_layers_contain_logits_only": [False, True],
    # loss
    "loss": [
        *("cross_entropy", "cross_entropy + 0.5*dice", "focal(gamma=1)", "label_smoothing + tversky", "lovasz"),
        *("boundary_cross_entropy", "bootstrapped_cross_entropy + 0.3*jaccard + 0.2*focal_tversky"),
    ],
    "label_weights": [*UNSET, "1,2,3"],
    "class_balance": ["none", "inverse", "sqrt", "median", "enet", "effective", "adaptive"],
    "auxiliary_loss_weight": [0, 0.4],
    "upsample_logits": [True, True, False],
    "top_k_percent_pixels": [1, 0.5],
    "hard_example_mining_step": [0, 3],
    "weight_decay": [4e-5, 0, 0.01],
    "weight_decay_mask": ["kernels", "all_kernels", "all", "weights$"],
    # training
    "training_epochs": [0, 2],
    "min_scale_factor": [0.5, 0.8],
    "max_scale_factor": [2, 1.25],
    "scale_factor_step_size": [0.25, 0],
    "accumulate_steps": [1, 2, 4],
    "image_cache": ["auto", "none", "memory"],
    "jit_compile": ["auto", "false"],  # "true" takes minutes on a CPU
    "normalization": ["batch", "batch", "group"],
    "precision": ["float32", "float32", "mixed_bfloat16", "mixed_float16"],
    "sync_batch_norm": ["auto", "true", "false"],
    "drop_path_keep_prob": [1, 0.8],
    "freeze": ["none", "backbone", "all_but_logits", "BatchNorm"],
    "freeze_steps": ["", "2", "0.5"],
    "ema_decay": [0, 0.9],
    "eval_every": ["", "2", "1 epoch"],
    "eval_split": ["val", "train"],
    "best_metric": ["mean_iou", "pixel_accuracy", "iou/disc"],
    "early_stopping": [0, 1, 5],
    "average_checkpoints": [0, 2],
    "ignore_data_errors": [False, True],
    "allow_changes": ["", "log_steps,loss_guard"],
    "loss_guard": ["stop", "warn", "off"],
    "log_steps": [10, 1],
    "save_interval_secs": [1200, 1],
    "save_summaries_secs": [600, 1],
    "save_summaries_images": [False, True],
    # what the model sees
    "augmentation": ["none", "none", "light", "medium", "strong"],
    "augmentation_probability": [0.5, 1],
    "vertical_flip": [*UNSET, 0.5],
    "rot90": [*UNSET, 0.5],
    "rotation": [*UNSET, 20],
    "shear": [*UNSET, 10],
    "translation": [*UNSET, 0.2],
    "perspective": [*UNSET, 0.1],
    "elastic": [*UNSET, 3],
    "gamma": [*UNSET, 0.5],
    "brightness": [*UNSET, 0.3],
    "contrast": [*UNSET, 0.3],
    "saturation": [*UNSET, 0.3],
    "hue": [*UNSET, 20],
    "gray": [*UNSET, 0.5],
    "channel_shuffle": [*UNSET, 0.5],
    "equalize": [*UNSET, 0.5],
    "clahe": [*UNSET, 0.5],
    "gaussian_blur": [*UNSET, 1],
    "noise": [*UNSET, 10],
    "jpeg_quality": [*UNSET, 40],
    "cutout": [*UNSET, 0.3],
    "grid_mask": [*UNSET, 0.5],
    "mosaic": [*UNSET, 0.5],
    "cutmix": [*UNSET, 0.5],
    "class_mix": [*UNSET, 0.5],
    "copy_paste": [*UNSET, 0.5],
    "sampling": ["uniform", "repeat_factor"],
    "repeat_threshold": [0.1, 0.9],
    "crop_sampling": ["uniform", "class_centered", "max_one_class_0.75"],
    # pruning
    "prune_sparsity": [0, 0, 0.5],
    "prune_schedule": ["polynomial", "constant"],
    "prune_begin": ["0", "0.2"],
    "prune_end": ["0.6", "0.9"],
    "prune_every": [1, 2],
    "prune_keep": ["depthwise|^(logits|auxiliary)/", "depthwise"],
    "prune_structure": ["unstructured", "2:4", "1x4"],
}
ALWAYS = {
    "model_variant": "tiny",
    "train_crop_size": "33,33",
    "train_batch_size": 4,
    "training_number_of_steps": 5,
    "base_learning_rate": 0.01,
    "random_seed": 1,
    "batch_norm_calibration_batches": 1,
    "save_interval_steps": 1,
    "max_checkpoints_to_keep": 99,
}
EXCEPTIONS = {
    "train_logdir": "where, not how",
    "train_split": "the records have one split to train on",
    "profile_logdir": "writes a profile and changes no number; test_loop.py",
    "tf_initial_checkpoint": "counts before the first step alone; test_loop.py",
    "initialize_last_layer": "as tf_initial_checkpoint",
    "fine_tune_batch_norm": "off, a model from scratch hardly changes; test_loop.py",
    "num_clones": "the test process has one device; tests of several start processes of their own",
    "num_replicas": "as num_clones",
    "distribution": "as num_clones",
    "worker_wait_secs": "as num_clones",
    "prune_channels": "needs MobileNetV2's blocks, which the tiny backbone lacks; its own tests",
    "report_to": "writes to other programs and changes no number; its own tests",
    **dict.fromkeys(
        ("distill_from", "distill_weight", "distill_temperature", "distill_on", "distill_cache"),
        "needs a teacher, which is another training; its own tests",
    ),
}


def combination(draw: random.Random) -> dict:
    """Random settings, without those that need another one that was not drawn."""
    given = {name: draw.choice(values) for name, values in CHOICES.items()}
    given = {name: value for name, value in given.items() if value is not None}
    if given["learning_policy"] != "piecewise":
        del given["learning_rate_boundaries"], given["learning_rate_values"]
    if given["optimizer"] != "momentum":
        del given["nesterov"]
    if given["freeze"] == "none":
        del given["freeze_steps"]
    if not given["eval_every"]:
        given["early_stopping"] = 0
        given["learning_policy"] = given["learning_policy"].replace("plateau", "poly")
    if given["warmup"]:
        given["slow_start_step"] = 0
    if given["freeze"] == "BatchNorm" and given["normalization"] == "group":
        given["freeze"] = "GroupNorm"
    if given["freeze"] == "all_but_logits" and not given["freeze_steps"]:  # no kernel is left to prune
        given["prune_sparsity"] = 0
    if given["loss"] == "lovasz":  # mining is for losses of single pixels
        given["top_k_percent_pixels"] = 1
    return given


def train_with(records, folder, given) -> int:
    words = {"dataset_dir": records, "train_logdir": folder, **ALWAYS, **given}
    return train.COMMAND.main([f"--{name}={value}" for name, value in words.items()])


def everything(folder) -> dict:
    """What a stop must not change: checkpoints of all places, the curve, the best."""
    found = {path.name: path.read_bytes() for path in [*folder.glob("history.csv"), *folder.glob("best/best.json")]}
    for place in [".", *(name for name in ("best", "averaged") if (folder / name).is_dir())]:
        found |= {f"{place}: {name}": value for name, value in checkpoint.open(folder / place).arrays().items()}
    return found


def numbers(config) -> range:
    return range(40 if config.getoption("--long") else 2)


def pytest_generate_tests(metafunc):
    if "number" in metafunc.fixturenames:
        metafunc.parametrize("number", numbers(metafunc.config))


def test_a_random_combination_trains_stops_resumes_and_exports(number, disc_records, tmp_path):
    draw = random.Random(number)
    given = combination(draw)
    with tiny_backbone.registered():
        assert train_with(disc_records, tmp_path / "whole", given) == 0, given
        last = checkpoint.open(tmp_path / "whole").step
        shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
        stop = draw.randrange(1, last) if last > 1 else 0
        for step in range(stop + 1, last + 1):
            for path in (tmp_path / "stopped").glob(f"model.ckpt-{step}.*"):
                path.unlink()
        assert train_with(disc_records, tmp_path / "stopped", given) == 0, given
        whole, stopped = everything(tmp_path / "whole"), everything(tmp_path / "stopped")
        assert whole.keys() == stopped.keys()
        assert [name for name in whole if not np.array_equal(whole[name], stopped[name])] == [], given
        exported = export(
            tmp_path / "whole", tmp_path / "frozen.pb", ("frozen_graph",), crop_size=(33, 33), parity_images=1
        )
        image = np.random.default_rng(number).integers(0, 256, (33, 33, 3)).astype(np.uint8)
        live, frozen = (load.load(source).predict(image).labels for source in (tmp_path / "whole", exported.paths[0]))
        assert np.mean(live == frozen) > 0.99


def test_combinations_cover_every_choice():
    draws = [combination(random.Random(number)) for number in range(60)]
    for name, values in CHOICES.items():
        assert {given.get(name) for given in draws} >= set(values), name


def test_every_training_setting_is_drawn():
    groups = (TrainConfig, LossConfig, OptimizerConfig, AugmentationConfig, CompressionConfig)
    fields = [field for group in groups for field in dataclasses.fields(group) if not field.metadata["retired"]]
    assert {field.name for field in fields} - CHOICES.keys() - ALWAYS.keys() - EXCEPTIONS.keys() == set()
    known = {field.name for field in fields} | {field.name for field in dataclasses.fields(ModelConfig)}
    assert (CHOICES | ALWAYS).keys() - known == set()
    assert EXCEPTIONS.keys() & (CHOICES | ALWAYS).keys() == set()


@pytest.mark.slow
def test_kills_leave_a_training_that_ends_as_if_it_had_never_stopped(disc_records, tmp_path, request):
    kills = 200 if request.config.getoption("--long") else 1
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    command = [
        sys.executable,
        str(TESTS / "support" / "killed_training.py"),
        str(disc_records),
        str(tmp_path),
        str(kills),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("equal\n"), done.stdout + done.stderr[-3000:]
    assert done.stdout.count("killed") == kills
