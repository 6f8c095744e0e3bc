r"""Predicts masks for image files.

Example, 0.1 seconds per image of 500x375 on two processor cores (MobileNetV2, output stride 16):

    python deeplab/predict.py --model=runs/first --input=photos --output_dir=masks

The model is a training folder, a checkpoint or an exported file. Writes mask/NAME.png (palette PNG: pixels are class
numbers), color/NAME.png, overlay/NAME.png and summary.csv, the fraction of each class in each image; further flags add
cut-outs, areas, probabilities, and polygons to open in an annotation tool. Masks have the size of their images. If an
image cannot be read, its error is printed, the others are processed, and the exit code is 1. Videos become
overlay/NAME.mp4 and color/NAME.mp4, without sound, and mask/NAME/000000.png. With `beam`, the workers of an Apache Beam
pipeline predict shards of the images; a stopped run resumes with the remaining shards.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.checkpoint.find import require_something
from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.data_config import ResizeConfig
from deeplab.config.fields import fields_of
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import InferenceConfig, PredictConfig, model_source
from deeplab.inference import inputs
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import locked_folder
from deeplab.utils.remote_names import is_remote

if TYPE_CHECKING:
    from deeplab.data.image_files import ImageFile
    from deeplab.inference.folder_prediction import Outcome

GROUPS = (PredictConfig, InferenceConfig, ResizeConfig, ModelConfig)


def run(given: Given) -> None:
    """Runs the command."""
    (config,) = configs_from(given, [PredictConfig])
    source = model_source(config)
    if not is_remote(source):
        require_something(source)
    output_dir = config.output_dir
    videos, others = inputs.find_videos(config.input)
    images = inputs.find_inputs(others, config.recursive, config.all_pages)
    console.import_tensorflow()
    from deeplab.inference import folder_prediction, video
    from deeplab.inference.segmenter import Segmenter

    folder_prediction.refuse_own_results(images, output_dir)
    own = fields_of([PredictConfig])
    settings = {name: value for name, value in given.items() if name not in own}
    if config.beam:
        _tell(_in_pipeline(source, settings, images, videos, config), len(images), config)
        return
    with locked_folder(output_dir, "predicting"):
        # Before the model is loaded, and again with the names of the classes.
        folder_prediction.refuse_to_overwrite(images, folder_prediction.Outputs(config))
        for source_of_frames in videos:
            video.require_new(config, source_of_frames)
        segmenter = Segmenter(
            source,
            dataset=config.dataset,
            crop_size=config.crop_size,
            tile_size=config.tile_size,
            tile_overlap=config.tile_overlap,
            shrink_large_images=config.shrink_large_images,
            **settings,
        )
        outcome = folder_prediction.predict_files(segmenter, images, config, videos)
    _tell(outcome, len(images) + len(videos), config, "inputs" if videos else "images")


def _in_pipeline(
    source: str, settings: Given, images: Sequence[ImageFile], videos: Sequence[str], config: PredictConfig
) -> Outcome:
    """Predicts images in a Beam pipeline."""
    from deeplab.inference.beam_prediction import predict_in_pipeline

    if videos:
        rule, hint = "a pipeline cannot predict videos", "leave out `beam`"
        raise UserError("conflicting-settings", rule, hint, field="beam", where=videos[0])
    names = ("dataset", "crop_size", "tile_size", "tile_overlap", "shrink_large_images")
    settings = settings | {name: getattr(config, name) for name in names}
    if is_remote(config.output_dir):
        return predict_in_pipeline(source, settings, images, config)
    with locked_folder(config.output_dir, "predicting"):
        return predict_in_pipeline(source, settings, images, config)


def _tell(outcome: Outcome, count: int, config: PredictConfig, unit: str = "images") -> None:
    """Prints what was predicted, and ends with an error if something failed."""
    from deeplab.inference import folder_prediction

    if outcome.fractions:
        print(folder_prediction.table(outcome.fractions))
    number = f"{count} {unit}"
    print(console.spelled(f"written: {len(outcome.fractions)} of {number} into {config.output_dir}"), flush=True)
    if outcome.errors:
        names = ", ".join(error.where for error in outcome.errors[:5])
        where = f"{len(outcome.errors)} of {number}"
        raise UserError("failed-images", f"failed: {names}", "see above", where=where, value=len(outcome.errors))


def _kept_remote(given: Given) -> Sequence[str]:
    """Names the settings whose remote paths the workers of a pipeline read and write themselves."""
    return ("input", "output_dir", "model", "checkpoint_dir", "checkpoint_path") if given.get("beam") else ()


COMMAND = Command("predict", run, GROUPS, __doc__, keeps_remote=_kept_remote)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
