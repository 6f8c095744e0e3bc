"""Kills a training with every feature on at random moments, and compares it with one that was never stopped.

Run as a program with a folder of records, a folder to train in, and the number of kills; TensorFlow is imported once,
and every training is a fork. Prints one line per kill; ends with a traceback where the trainings differ.
"""

import contextlib
import os
import pathlib
import random
import signal
import sys
import time

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from deeplab import checkpoint, train
from deeplab.training import loop  # noqa: F401 - imported before the forks
from support import tiny_backbone

STEPS = 8
EVERYTHING = {
    "model_variant": "tiny",
    "train_crop_size": "33,33",
    "train_batch_size": 4,
    "training_number_of_steps": STEPS,
    "base_learning_rate": 0.02,
    "random_seed": 1,
    "batch_norm_calibration_batches": 2,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "learning_policy": "plateau",
    "plateau_patience": 1,
    "warmup": "2",
    "gradient_clip_norm": 1,
    "class_balance": "sqrt",
    "accumulate_steps": 2,
    "freeze": "backbone",
    "freeze_steps": "0.25",
    "ema_decay": 0.9,
    "eval_every": 4,
    "early_stopping": 9,
    "save_interval_steps": 1,
    "max_checkpoints_to_keep": 3,
    "average_checkpoints": 2,
    "loss": "cross_entropy + 0.5*dice",
    "auxiliary_loss_weight": 0.4,
    "top_k_percent_pixels": 0.5,
    "hard_example_mining_step": 4,
    "precision": "mixed_float16",
    "augmentation": "strong",
    "mosaic": 0.5,
    "sampling": "repeat_factor",
    "repeat_threshold": 0.9,
    "crop_sampling": "class_centered",
    "prune_sparsity": 0.5,
    "prune_every": 1,
}


def forked(records: pathlib.Path, folder: pathlib.Path) -> int:
    """Starts a training in a fork that ends without clean-up; its process number."""
    process = os.fork()
    if process:
        return process
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), tiny_backbone.registered():
        words = {"dataset_dir": records, "train_logdir": folder, **EVERYTHING}
        code = train.COMMAND.main([f"--{name}={value}" for name, value in words.items()])
    os._exit(code)


def ended(process: int) -> int | None:
    """The exit status of a process; None while it runs."""
    found, status = os.waitpid(process, os.WNOHANG)
    return status if found else None


def content(folder: pathlib.Path) -> dict:
    """All that must not depend on kills: arrays of the last, the best and the averaged checkpoint, and the curve."""
    found = {"history.csv": (folder / "history.csv").read_bytes(), "best": (folder / "best" / "best.json").read_bytes()}
    for place in (".", "best", "averaged"):
        opened = checkpoint.open(folder / place)
        found |= {f"{place}: {name}": value for name, value in opened.arrays().items()}
    return found


def main(records: pathlib.Path, base: pathlib.Path, kills: int) -> None:
    started = time.monotonic()
    assert os.waitpid(forked(records, base / "whole"), 0)[1] == 0
    seconds, draw = time.monotonic() - started, random.Random(7)
    done = 0
    while done < kills:
        process = forked(records, base / "killed")
        end, status = time.monotonic() + draw.uniform(0.1, 1.1) * seconds, None
        while time.monotonic() < end and status is None:
            time.sleep(0.01)
            status = ended(process)
        if status is not None:  # it was faster
            assert status == 0, status
            compare(base)
            for path in sorted((base / "killed").rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            continue
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        done += 1
        print(f"killed {done} of {kills}", flush=True)
    assert os.waitpid(forked(records, base / "killed"), 0)[1] == 0
    compare(base)
    print("equal")


def compare(base: pathlib.Path) -> None:
    """The killed training is that which was never stopped, to the last bit."""
    whole, killed = content(base / "whole"), content(base / "killed")
    assert whole.keys() == killed.keys(), whole.keys() ^ killed.keys()
    different = [name for name in whole if not np.array_equal(whole[name], killed[name])]
    assert different == [], different


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]))
