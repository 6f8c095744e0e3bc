r"""Exports a trained model to files for other programs: a frozen graph, a SavedModel and other formats.

Example, 10 seconds on two processor cores:

    python deeplab/export_model.py --checkpoint_path=runs/first --export_path=runs/first/frozen_inference_graph.pb

The architecture comes from config.yml beside the checkpoint; a TensorFlow-1 checkpoint without one needs flags. Beside
the files are labels.txt (class names), metadata.json (input, output, how it was made) and export_report.md (size, time
and quality of every file). Before anything is written to its place, the same images go through the model and through
the files; if the predictions differ, nothing is kept. Formats with reduced precision, such as litert_int8, may lose
--max_miou_drop of mean IoU on the split val of --dataset_dir:

    python deeplab/export_model.py --checkpoint_path=runs/first --export_path=runs/export --formats=litert,litert_int8
"""

from __future__ import annotations

import pathlib
import sys
from typing import TYPE_CHECKING

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.checkpoint.find import require_something
from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.data_config import ResizeConfig
from deeplab.config.export_config import ExportConfig
from deeplab.config.model_config import ModelConfig
from deeplab.utils import console

if TYPE_CHECKING:
    from deeplab.export.exporter import Exported

GROUPS = (ExportConfig, ModelConfig, ResizeConfig)


def run(given: Given) -> None:
    """Runs the command."""
    configs_from(given, GROUPS)  # reports errors before TensorFlow is imported
    require_something(given["checkpoint_path"])
    console.import_tensorflow()
    from deeplab.export.exporter import export_checkpoint

    tell(export_checkpoint(given))


def tell(exported: Exported) -> None:
    """Prints what was written, that it was checked, and how to use it."""
    from deeplab.export import export_report
    from deeplab.utils.files import size_of

    print(export_report.printed(exported.rows))
    reduced = [row.file for row in exported.rows if row.is_reduced]
    which = "The files" if not reduced else "Apart from the formats with reduced precision, the files"
    batch_norm = "folded" if exported.folded else "as trained"
    print(f"\n{which} predict the same as the model; batch norm is {batch_norm}.\n")
    print(console.table([(path, f"{size_of(path) / 1e6:.2f}") for path in exported.paths], ("written", "MB")))
    tensors = [(file, *one) for file, ones in exported.tensors.items() for one in ones]
    print("\n" + console.table(tensors, ("file", "tensor", "type", "shape")))
    print(f"""
To use it in Python:

    from deeplab import Segmenter
    result = Segmenter("{exported.paths[0]}")("photo.jpg")
    result.save("masks", "photo")  # result.labels: the class of every pixel""")


COMMAND = Command("export", run, GROUPS, __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
