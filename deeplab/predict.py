r"""Predicts masks for image files.

Example, 0.1 seconds per image of 500x375 on two processor cores (MobileNetV2, output stride 16):

    python deeplab/predict.py --model=runs/first --input=photos --output_dir=masks

The model is a training folder, a checkpoint or an exported file. Writes mask/NAME.png (palette PNG: pixels are class
numbers), color/NAME.png, overlay/NAME.png and summary.csv, the fraction of each class in each image; further flags add
cut-outs, areas, probabilities, and polygons to open in an annotation tool. Masks have the size of their images. If an
image cannot be read, its error is printed, the others are processed, and the exit code is 1. Videos become
overlay/NAME.mp4 and color/NAME.mp4, without sound, and mask/NAME/000000.png.
"""

from __future__ import annotations

import pathlib
import sys

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
from deeplab.utils.files import made_folder
from deeplab.utils.locks import folder_lock

GROUPS = (PredictConfig, InferenceConfig, ResizeConfig, ModelConfig)


def run(given: Given) -> None:
    """Runs the command."""
    (config,) = configs_from(given, [PredictConfig])
    source = model_source(config)
    require_something(source)
    output_dir = config.output_dir
    videos, others = inputs.find_videos(config.input)
    images = inputs.find_inputs(others, config.recursive, config.all_pages)
    console.import_tensorflow()
    from deeplab.inference import folder_prediction, video
    from deeplab.inference.segmenter import Segmenter

    folder_prediction.refuse_own_results(images, output_dir)
    own = fields_of([PredictConfig])
    with made_folder(output_dir), folder_lock(output_dir, "predicting", "give another `output_dir`"):
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
            **{name: value for name, value in given.items() if name not in own},
        )
        outcome = folder_prediction.predict_files(segmenter, images, config, videos)
    if outcome.fractions:
        print(folder_prediction.table(outcome.fractions))
    number = f"{len(images) + len(videos)} {'inputs' if videos else 'images'}"
    print(console.spelled(f"written: {len(outcome.fractions)} of {number} into {output_dir}"), flush=True)
    if outcome.errors:
        names = ", ".join(error.where for error in outcome.errors[:5])
        where = f"{len(outcome.errors)} of {number}"
        raise UserError("failed-images", f"failed: {names}", "see above", where=where, value=len(outcome.errors))


COMMAND = Command("predict", run, GROUPS, __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
