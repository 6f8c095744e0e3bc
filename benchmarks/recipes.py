"""Compares `--recipe=auto` with the plain settings: mean IoU, and the processor time that each training took.

    python benchmarks/recipes.py RECORDS SPLIT... [--weights=CHECKPOINT] [--plain_steps=300] [--recipe_steps=250]

Trains one after the other on split train of a folder of records, each in a process of its own: the plain settings
(MobileNetV2, crops of 257 pixels, batches of 4, momentum with the poly schedule from .007; scale, crop and mirroring;
no decoder), and the recipe. Counts the processor time of each process (user and system, with its start), since the
time on the clock depends on what else the machine does. A step of the recipe costs about a fifth more, so give it fewer
steps. Then evaluates both by `deeplab eval` on each SPLIT. Some minutes for each training. Results: docs/training.md.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from deeplab.utils import console

PLAIN = {
    "model_variant": "mobilenet_v2",
    "output_stride": 16,
    "train_crop_size": "257,257",
    "train_batch_size": 4,
    "base_learning_rate": 0.007,
}


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", help="folder of records with split train")
    parser.add_argument("splits", nargs="+", help="splits to evaluate on")
    parser.add_argument("--weights", default="imagenet", help="initial checkpoint of MobileNetV2")
    parser.add_argument("--plain_steps", type=int, default=300, help="steps with the plain settings")
    parser.add_argument("--recipe_steps", type=int, default=250, help="steps with the recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a training with each")
    arguments = parser.parse_args()
    given = {"dataset_dir": arguments.records, "tf_initial_checkpoint": arguments.weights}
    settings = {
        "plain": {**PLAIN, "training_number_of_steps": arguments.plain_steps},
        "recipe": {"recipe": "auto", "eval_every": "", "training_number_of_steps": arguments.recipe_steps},
    }
    rows = []
    for seed in arguments.seeds:
        for name, own in settings.items():
            with tempfile.TemporaryDirectory() as folder:
                seconds = run("train", **given, **own, train_logdir=f"{folder}/run", random_seed=seed)
                scores = [mean_iou(arguments.records, f"{folder}/run", split) for split in arguments.splits]
            steps = own["training_number_of_steps"]
            rows.append((name, str(seed), str(steps), f"{seconds:.0f}", *(f"{score:.4f}" for score in scores)))
            print(*rows[-1], flush=True)
    columns = [f"mean IoU, {split}" for split in arguments.splits]
    print(console.table(rows, ("settings", "seed", "steps", "processor time (s)", *columns)))


def mean_iou(records: str, model: str, split: str) -> float:
    """Mean IoU of a training's last checkpoint on a split, by the eval command."""
    with tempfile.TemporaryDirectory() as folder:
        run("eval", dataset_dir=records, eval_split=split, model=model, eval_logdir=folder)
        return json.loads(pathlib.Path(folder, "metrics.json").read_text(encoding="utf-8"))["mean_iou"]


def run(command: str, **settings: object) -> float:
    """Runs a command without showing its output; returns its processor time in seconds.

    Raises:
      SystemExit: it failed; with the end of its output.
    """
    before = _children_seconds()
    flags = [f"--{name}={value}" for name, value in settings.items()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "deeplab", command, *flags]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout[-2000:]}")
    return _children_seconds() - before


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
