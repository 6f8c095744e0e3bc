"""All commands under one name: `deeplab COMMAND --flag=value ...`, or `python -m deeplab COMMAND ...`."""

from __future__ import annotations

import os
import sys

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))

from deeplab.utils.early_signals import silent_start

silent_start()  # a signal while the modules below load

import importlib

from deeplab import __version__
from deeplab.config.command_line import Command, UsageError, run_safely
from deeplab.config.fields import fields_of
from deeplab.utils.errors import nearest
from deeplab.utils.text import shorten

COMMANDS = {
    "Data": {
        "download_data": "download a public dataset, and check what arrived",
        "convert_color_masks": "convert masks in colors to masks of class indices",
        "build_data": "build records from a dataset in any common format",
        "check_data": "find what is wrong with a dataset before training does",
        "browse_data": "draw records, and batches as training sees them",
    },
    "Models": {
        "fit": "make a model from images and masks or annotations, in one command",
        "train": "train a model, or resume a training",
        "launch": "train on several machines, or in several processes of this one",
        "eval": "evaluate a trained model: IoU per class, metrics.json, plots",
        "vis": "draw the predictions of a trained model for a split",
        "export": "export a trained model: frozen graph, SavedModel and other formats",
        "predict": "predict masks for your own images",
        "serve": "serve a model: a web page, and TensorFlow Serving's REST API",
        "find_label_errors": "rank the images of a split by how likely their labels are wrong",
        "rank_unlabeled": "say which unlabeled images to label next",
        "benchmark": "measure how fast models are",
        "push": "upload a model with a model card to the Hugging Face hub",
        "pull": "download a model from the Hugging Face hub",
        "inspect_checkpoint": "show what a checkpoint is, or how two differ",
    },
    "Help": {
        "doctor": "examine the installation, and say what to fix",
        "completion": "print a completion script for bash, zsh or fish",
    },
}
_MODULES = {"export": "deeplab.export_model", "convert_color_masks": "deeplab.convert_masks"}
_ALIASES = {
    "inspect": ["inspect_checkpoint"],
    "evaluate": ["eval"],
    "test": ["eval"],
    "visualize": ["vis"],
    "visualise": ["vis"],
    "export_model": ["export"],
    "build_voc2012_data": ["build_data", "voc"],
    "build_cityscapes_data": ["build_data", "cityscapes"],
    "build_ade20k_data": ["build_data", "ade20k"],
    "build_folder_data": ["build_data", "folder"],
}


def main() -> int:
    """Runs the command that the first word names; returns the exit code."""
    first, *rest = sys.argv[1:] or ["--help"]
    if first in ("--help", "-h", "-help", "help"):
        return run_safely(lambda: print(help_text()))
    if first in ("--version", "-V", "version"):
        return run_safely(lambda: print(f"deeplab {__version__}"))
    name, *words = _ALIASES.get(_plain(first), [_plain(first)])
    if name not in {name for commands in COMMANDS.values() for name in commands}:
        return run_safely(lambda: _refuse(first))
    return command_of(name).main([*words, *rest])


def command_of(name: str) -> Command:
    """Return a command of the list, from its module."""
    module = importlib.import_module(_MODULES.get(name, f"deeplab.{name}"))
    return module.CONVERT_COLORS if name == "convert_color_masks" else module.COMMAND


def commands_with(flag: str) -> list[str]:
    """Return the commands in which a flag has an effect: `eval`, `build_data (coco, cvat and 7 more)` with formats."""
    found = []
    for name in [name for commands in COMMANDS.values() for name in commands]:
        command = command_of(name)
        words = list(command.word.choices()) if command.word else [""]
        fields = {word: fields_of(command.groups_for(word)).get(flag) for word in words}
        having = [word for word, found_in in fields.items() if found_in and not found_in[0].metadata["retired"]]
        if having:
            found.append(name if len(having) == len(words) else f"{name} ({shorten(having, 3)})")
    return found


def _plain(word: str) -> str:
    return word.removesuffix(".py").replace("-", "_")


def _refuse(word: str) -> None:
    if word.startswith("-"):
        raise UsageError("unknown-command", f"{word}: the command comes first, its flags after it", "deeplab --help")
    names = [name for commands in COMMANDS.values() for name in commands]
    hint = f"{nearest(word, names)}; deeplab --help lists all commands"
    raise UsageError("unknown-command", f"there is no command {word!r}", hint, value=word)


def help_text() -> str:
    """Return the list of commands."""
    lines = ["Usage: deeplab COMMAND [--flag=value ...]"]
    for title, commands in COMMANDS.items():
        lines += ["", title, *(f"  {name:<22}{summary}" for name, summary in commands.items())]
    return "\n".join([*lines, "", "deeplab COMMAND --help shows how a command is used."])


if __name__ == "__main__":
    sys.exit(main())
