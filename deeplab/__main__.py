"""All commands under one name: `deeplab COMMAND --flag=value ...`, or `python -m deeplab COMMAND ...`."""

from __future__ import annotations

import importlib
import pathlib
import sys
from collections.abc import Callable
from dataclasses import dataclass

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab import __version__
from deeplab.config import flags
from deeplab.utils import console
from deeplab.utils.errors import nearest


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
      summary: one line for the list.
      run: gives the exit code; flags are read from `sys.argv`.
    """

    summary: str
    run: Callable[[], int]


def _module(name: str) -> Callable[[], int]:
    """The `main` of a module, imported when it is called: the list of commands needs no TensorFlow."""
    return lambda: importlib.import_module(name).main()


def _builder(layout: str) -> Callable[[], int]:
    return lambda: importlib.import_module("deeplab.build_data").run_format(layout)


def _convert_color_masks() -> int:
    from deeplab.config.conversion_config import ColorMaskConfig
    from deeplab.data.conversion import mask_tools

    return flags.run(mask_tools.convert_color_masks, [ColorMaskConfig])


COMMANDS = {
    "build_data": Command("make records from a dataset in any usual layout", _module("deeplab.build_data")),
    "check_data": Command("find what is wrong with a dataset, before training does", _module("deeplab.check_data")),
    "browse_data": Command("draw records, and batches as training sees them", _module("deeplab.browse_data")),
    "download_data": Command("fetch a known dataset, and check what arrived", _module("deeplab.download_data")),
    "build_voc2012_data": Command("make records from images, masks and lists laid out as PASCAL VOC", _builder("voc")),
    "build_cityscapes_data": Command("make records of Cityscapes", _builder("cityscapes")),
    "build_ade20k_data": Command("make records of ADE20K", _builder("ade20k")),
    "build_folder_data": Command("make records from two parallel folders of images and masks", _builder("folder")),
    "convert_color_masks": Command("turn masks in colors into masks of class numbers", _convert_color_masks),
    "train": Command("train a network, or go on with a training", _module("deeplab.train")),
    "eval": Command("measure a trained network: IoU table, metrics.json, plots", _module("deeplab.eval")),
    "vis": Command("draw what a trained network sees in a split", _module("deeplab.vis")),
    "export": Command("write a frozen graph and a SavedModel", _module("deeplab.export_model")),
    "predict": Command("make masks for your own pictures", _module("deeplab.predict")),
    "inspect_checkpoint": Command(
        "tell what a checkpoint is, or how two differ", _module("deeplab.inspect_checkpoint")
    ),
}
_ALSO_CALLED = {
    "inspect": "inspect_checkpoint",
    "evaluate": "eval",
    "visualise": "vis",
    "visualize": "vis",
    "export_model": "export",
    "test": "eval",
}


def main() -> int:
    """Runs the command that the first word names; returns the exit code."""
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if word in ("--help", "-h", "-help", "help"):
        print(help_text())
        return 0
    if word in ("--version", "-V", "version"):
        print(f"deeplab {__version__}")
        return 0
    name = word.removesuffix(".py").replace("-", "_")
    name = _ALSO_CALLED.get(name, name)
    if name not in COMMANDS:
        rule = "the command comes first, its flags after it" if word.startswith("-") else "there is no such command"
        console.error(f"{word}: {rule}\n  hint: {nearest(word, list(COMMANDS))}; deeplab --help lists them all")
        return 1
    sys.argv[:2] = [f"deeplab {name}"]
    return COMMANDS[name].run()


def help_text() -> str:
    """The list of commands."""
    rows = [(f"  {name}", command.summary) for name, command in COMMANDS.items()]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}   {summary}" for name, summary in rows]
    return "\n".join(
        ["Usage: deeplab COMMAND --flag=value ...", "", *lines, "", "deeplab COMMAND --help lists a command's flags."]
    )


if __name__ == "__main__":
    sys.exit(main())
