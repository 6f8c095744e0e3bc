"""What was probably meant by a flag that a command does not have, and by words that belong to no flag.

Owns the names that other programs give to our settings. `command_line.py` puts these hints into its errors; nothing is
read or accepted here.
"""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Collection, Sequence

from deeplab.utils.text import shorten

_CROPS = ("train_crop_size", "eval_crop_size", "vis_crop_size", "crop_size")
_MASKS = ("mask_folder", "annotation_folder", "semantic_segmentation_folder")
_CALLED_ELSEWHERE: dict[str, tuple[str, ...]] = {  # names in other programs -> ours, of which a command has some
    **dict.fromkeys(("lr", "learning_rate"), ("base_learning_rate",)),
    **dict.fromkeys(("epochs", "num_epochs", "max_epochs"), ("training_epochs",)),
    **dict.fromkeys(("steps", "num_steps", "max_steps", "iterations"), ("training_number_of_steps",)),
    **dict.fromkeys(("bs", "batch", "batch_size"), ("train_batch_size", "eval_batch_size", "vis_batch_size")),
    **dict.fromkeys(("crop", "crop_size", "input_size", "img_size", "image_size"), _CROPS),
    **dict.fromkeys(("backbone", "arch", "architecture"), ("model_variant",)),
    **dict.fromkeys(("pretrained", "weights", "init_checkpoint", "initial_checkpoint"), ("tf_initial_checkpoint",)),
    **dict.fromkeys(("model", "checkpoint_dir", "ckpt", "weights_path"), ("checkpoint_path", "model")),
    **dict.fromkeys(("data", "data_dir", "data_path", "records"), ("dataset_dir",)),
    **dict.fromkeys(("logdir", "log_dir", "workdir"), ("train_logdir", "eval_logdir", "vis_logdir")),
    **dict.fromkeys(("images", "image", "image_dir", "img_dir"), ("image_folder", "input")),
    **dict.fromkeys(("masks", "mask_dir", "labels", "label_folder", "label_dir", "annotations_dir"), _MASKS),
    **dict.fromkeys(("output", "out", "out_dir", "save_dir"), ("output_dir", "export_path")),
    **dict.fromkeys(("train_fraction", "val_fraction", "val_split", "train_split_fraction"), ("train_pct",)),
    **dict.fromkeys(("workers", "threads", "jobs"), ("num_workers",)),
    **dict.fromkeys(("seed",), ("random_seed",)),
    **dict.fromkeys(("classes", "num_labels"), ("num_classes",)),
}


def on_flag(name: str, known: Collection[str]) -> str:
    """What to write in place of an unknown flag: what other programs call so, or the nearest name."""
    called = [ours for ours in _CALLED_ELSEWHERE.get(name, ()) if ours in known]
    if called:
        return f"did you mean --{called[0]}?"
    if name in ("num_classes", "classes"):
        return "the dataset or checkpoint tells the number of classes; build_data has --num_classes and --classes"
    if name in ("gpu", "gpus", "device", "gpu_id", "cuda"):
        return "all devices are used; CUDA_VISIBLE_DEVICES=0 in the environment chooses"
    near = difflib.get_close_matches(name, known, n=1)
    return on_others(name) or (f"did you mean --{near[0]}?" if near else "--help lists the flags")


def on_others(name: str) -> str:
    """Which commands have a setting; empty if none has.

    The list of commands is in a package above this one. It is asked for by its name, and for this hint alone.
    """
    others = importlib.import_module("deeplab.__main__").commands_with(name)
    return f"it is a setting of {shorten([f'deeplab {other}' for other in others])}" if others else ""


def on_words(words: Sequence[str]) -> str:
    """How words that belong to no flag were probably meant."""
    if "=" in words:
        return "write --flag=value without spaces around the equals sign"
    if words[0][0:1] in ("\N{EN DASH}", "\N{EM DASH}"):
        return f"{words[0][0]} is a dash that a text program made of --: type the two hyphens again"
    if all(_is_number(word.strip(",")) for word in words):
        return "write the values of a list with commas and without spaces: --flag=6,12,18"
    if words[0].lower() in ("true", "false"):
        return "write --flag=true or --flag=false: a switch takes its value with an equals sign"
    return "settings are written --flag=value"


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
