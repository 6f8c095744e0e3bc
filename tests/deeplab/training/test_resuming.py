"""Exact resume with every feature on: after kills, and for random combinations of settings, which are exported as well.

`--long` makes 200 kills and 40 combinations.
"""

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
from deeplab.export import export
from deeplab.inference import load

pytestmark = pytest.mark.xdist_group("training")

TESTS = pathlib.Path(__file__).parents[2]
CHOICES = {
    "optimizer": ["momentum", "adam", "rmsprop", "adamw", "lion", "nadam", "adagrad", "sgd"],
    "nesterov": [False, False, True],
    "learning_policy": [
        *("poly", "step", "cosine", "cosine_restarts", "exponential", "piecewise", "constant", "one_cycle", "plateau"),
    ],
    "learning_rate_boundaries": ["2,0.6"],
    "learning_rate_values": ["0.02,0.01,0.001"],
    "warmup": ["", "1", "0.2", "0.5 epochs"],
    "gradient_clip_norm": [0, 0.5],
    "backbone_learning_rate_multiplier": [1, 0.1],
    "last_layer_gradient_multiplier": [1, 10],
    "weight_decay_mask": ["kernels", "all_kernels", "all", "weights$"],
    "accumulate_steps": [1, 2, 4],
    "normalization": ["batch", "batch", "group"],
    "precision": ["float32", "float32", "mixed_bfloat16", "mixed_float16"],
    "freeze": ["none", "backbone", "all_but_logits", "BatchNorm"],
    "freeze_steps": ["", "2", "0.5"],
    "ema_decay": [0, 0.9],
    "eval_every": ["", "2", "1 epoch"],
    "best_metric": ["mean_iou", "pixel_accuracy", "iou/disc"],
    "early_stopping": [0, 1, 5],
    "average_checkpoints": [0, 2],
    "loss": ["cross_entropy", "cross_entropy + 0.5*dice", "focal(gamma=1)"],
    "class_balance": ["none", "sqrt"],
    "top_k_percent_pixels": [1, 0.5],
    "training_epochs": [0, 2],
    "prune_sparsity": [0, 0.5],
    "prune_schedule": ["polynomial", "constant"],
    "prune_begin": ["1", "0.4"],
    "prune_every": [1, 2],
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


def combination(draw: random.Random) -> dict:
    """Random settings, without those that need another one that was not drawn."""
    given = {name: draw.choice(values) for name, values in CHOICES.items()}
    if given["learning_policy"] != "piecewise":
        del given["learning_rate_boundaries"], given["learning_rate_values"]
    if given["optimizer"] != "momentum":
        del given["nesterov"]
    if given["freeze"] == "none":
        del given["freeze_steps"]
    if not given["eval_every"]:
        given["early_stopping"] = 0
        given["learning_policy"] = given["learning_policy"].replace("plateau", "poly")
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


def test_combinations_are_valid_and_cover_every_choice():
    draws = [combination(random.Random(number)) for number in range(60)]
    for name, values in CHOICES.items():
        assert {given[name] for given in draws if name in given} >= set(values), name


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
