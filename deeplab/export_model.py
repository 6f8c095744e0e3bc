"""Writes a trained network as files for other programs: a frozen graph and a SavedModel.

    python deeplab/export_model.py --checkpoint_path=runs/first --export_path=runs/first/frozen_inference_graph.pb

The architecture comes from `config.yml` beside the checkpoint; a TensorFlow-1 checkpoint without one takes flags.
Beside the graph lie `saved_model/`, `labels.txt` (class names) and `contract.json` (what goes in and comes out).
Before anything gets its name, the same pictures go through the model and through the files; if the answers differ,
nothing is kept. Takes about 10 seconds on two processor cores (MobileNetV2, crop 513x513).
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config import flags, run_file
from deeplab.config.data_config import ResizeConfig
from deeplab.config.export_config import ExportConfig
from deeplab.config.model_config import ModelConfig
from deeplab.utils import console
from deeplab.utils.errors import UserError

GROUPS = (ExportConfig, ModelConfig, ResizeConfig)


def export_model(given: dict[str, Any]) -> None:
    """The command, after its flags have been read."""
    flags.settings_from(given, GROUPS)  # their faults come before TensorFlow's seconds
    from deeplab import checkpoint as checkpoints
    from deeplab.export.exporter import export
    from deeplab.inference import checkpoint_model as networks
    from deeplab.inference.prediction import PredictionSettings

    checkpoint = checkpoints.open(given["checkpoint_path"])
    resolved = networks.resolve(given, checkpoint, GROUPS)
    config, model, resize = flags.settings_from(resolved, GROUPS)
    settings = PredictionSettings(
        model, resize, config.crop_size, config.inference_scales, config.add_flipped_images, may_outgrow_crop=True
    )
    network = networks.build(model, checkpoint, settings.one_pass)
    classes = classes_of(network, config, resolved, given.get("dataset", ""))
    note_uneven_crop(settings)
    tell(export(network, settings, config, classes), config)


def classes_of(network: Any, config: ExportConfig, resolved: dict[str, Any], dataset: str) -> Any:
    """Class names and colors: those of the `--dataset` that was given, else those saved at training, else numbers.

    Raises:
      UserError: their number is not that of the network.
    """
    from deeplab.data import dataset as datasets
    from deeplab.export.metadata import NamedClasses
    from deeplab.inference.load import require_same_classes

    count = network.num_classes
    if config.num_classes not in (None, count):
        rule = f"is {config.num_classes}, but the logits of {network.checkpoint} have {count} classes"
        raise UserError("class-count-mismatch", rule, f"`num_classes={count}`, or leave it out", field="num_classes")
    names, colors = tuple(resolved.get("class_names") or ()), tuple(map(tuple, resolved.get("colors") or ()))
    if dataset:
        described = datasets.find(dataset)
        require_same_classes(described.num_classes, count, network.checkpoint, described.name)
        names, colors = described.class_names, described.colors
    if len(names) != count:
        console.note("no class names are known: labels.txt gets numbers (`dataset` names the classes)")
        return NamedClasses(tuple(f"class_{index}" for index in range(count)))
    return NamedClasses(names, colors)


def note_uneven_crop(settings: Any) -> None:
    """A word on crops in which the corners of picture and feature maps do not coincide."""
    from deeplab.model.resize import fitting_size

    crop = settings.crop_size
    better = fitting_size(crop, settings.model.output_stride)
    if better != crop:
        stride = settings.model.output_stride
        advice = f"`crop_size={run_file.show(better)}` keeps masks a little sharper"
        console.note(f"`crop_size={run_file.show(crop)}` is not k * {stride} + 1 pixels: {advice}")


def tell(exported: Any, config: ExportConfig) -> None:
    """Prints what was written, that it is right, and how to use it."""
    from deeplab.export import parity
    from deeplab.utils.files import size_of

    print(parity.table(exported.parity))
    print(
        f"\nThe files predict the same as the model; batch norm is {'folded' if exported.folded else 'as trained'}.\n"
    )
    print(console.table([(path, f"{size_of(path) / 1e6:.2f}") for path in exported.paths], ("written", "MB")))
    tensors = [(file, *one) for file, ones in exported.tensors.items() for one in ones]
    print("\n" + console.table(tensors, ("file", "tensor", "type", "shape")))
    print(f"""
To use it in Python:

    from deeplab import Segmenter
    result = Segmenter("{exported.paths[0]}")("photo.jpg")
    result.save("masks", "photo")  # result.labels: the class of every pixel""")


def main() -> int:
    """Entry point; returns the exit code."""
    return flags.run_given(export_model, GROUPS, purpose=__doc__)


if __name__ == "__main__":
    sys.exit(main())
