r"""Predicts masks for image files.

Example, 0.1 seconds per image of 500x375 on two processor cores (MobileNetV2, output stride 16):

    python deeplab/predict.py --model=runs/first --input=photos --output_dir=masks

Writes mask/NAME.png (palette PNG: pixels are class numbers), color/NAME.png, overlay/NAME.png and summary.csv, the
fraction of each class in each image. Masks have the size of their images. If an image cannot be read, its error is
printed, the others are processed, and the exit code is 1.
"""

from __future__ import annotations

import pathlib
import sys

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config.command_line import Command, Given, UsageError, configs_from
from deeplab.config.data_config import ResizeConfig
from deeplab.config.fields import fields_of
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import InferenceConfig, PredictConfig
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import made_folder
from deeplab.utils.locks import folder_lock

GROUPS = (PredictConfig, InferenceConfig, ResizeConfig, ModelConfig)


def run(given: Given) -> None:
    """Runs the command."""
    (config,) = configs_from(given, [PredictConfig])
    source = source_of(config)
    console.import_tensorflow()
    from deeplab.data import image_files
    from deeplab.inference import folder
    from deeplab.inference.segmenter import Segmenter

    images = image_files.find_images(config.input, config.recursive)
    folder.refuse_own_results(images, config.output_dir)
    folder.refuse_to_overwrite(images, (), config)  # before the model is loaded; again with class names
    own = fields_of([PredictConfig])
    segmenter = Segmenter(
        source,
        dataset=config.dataset,
        crop_size=config.crop_size,
        shrink_large_images=config.shrink_large_images,
        **{name: value for name, value in given.items() if name not in own},
    )
    output_dir = config.output_dir
    with made_folder(output_dir), folder_lock(output_dir, "predicting", "give another `output_dir`"):
        outcome = folder.predict_all(segmenter, images, config)
    if outcome.shares:
        print(folder.table(outcome.shares))
    print(f"written: {len(outcome.shares)} of {len(images)} images into {config.output_dir}", flush=True)
    if outcome.faults:
        names = ", ".join(fault.where for fault in outcome.faults[:5])
        where = f"{len(outcome.faults)} of {len(images)} images"
        raise UserError("failed-images", f"failed: {names}", "see above", where=where)


def source_of(config: PredictConfig) -> str:
    """Return the model, under whichever of its four names it was given.

    Raises:
      UserError: none or several were given.
    """
    names = ("model", "checkpoint_dir", "checkpoint_path", "export_path")
    given = {name: getattr(config, name) for name in names if getattr(config, name)}
    if not given:
        hint = "give a training folder, checkpoint, frozen graph or SavedModel"
        raise UsageError("missing-setting", "must be given", hint, field="model")
    if len(set(given.values())) != 1:
        rule = f"{' and '.join(f'`{name}`' for name in given)} name different models"
        raise UserError("conflicting-settings", rule, "give one of them", field="model")
    return next(iter(given.values()))


COMMAND = Command("predict", run, GROUPS, __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
