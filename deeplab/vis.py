r"""Draws the predictions of a trained model for a split of records.

Example, 0.1 seconds per image of 500x375 on two processor cores (MobileNetV2, output stride 16):

    python deeplab/vis.py --model=runs/first --vis_logdir=runs/first/vis --dataset_dir=data/tfrecord

The model is a training folder, a checkpoint or an exported file. Writes segmentation_results/000000_image.png,
..._prediction.png and ..._overlay.png for each image, in the order of the records; with `also_save_raw_predictions`
index masks under the images' names (palette PNG: pixels are class numbers; Cityscapes: its label ids); and
image_grid.png, a grid of the first images beside prediction and label. The settings come from config.yml beside the
checkpoint.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.checkpoint.find import require_something
from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import InferenceConfig, VisConfig, model_source
from deeplab.data import dataset as datasets
from deeplab.utils import console
from deeplab.utils.files import locked_folder

if TYPE_CHECKING:
    from deeplab.evaluation.split_images import SplitImages
    from deeplab.inference.predictor import Predictor
    from deeplab.visualization.prediction_images import Drawing

GROUPS = (VisConfig, DatasetConfig, InferenceConfig, ResizeConfig, ModelConfig)


def run(given: Given) -> None:
    """Runs the command on every checkpoint that appears, or on the one model."""
    (config,) = configs_from(given, [VisConfig])
    source = model_source(config)
    number = 0 if config.watch and config.max_number_of_iterations == 1 else config.max_number_of_iterations
    if number == 1:  # else the command waits for a training that may not have begun
        require_something(source)
    if given.get("dataset_dir"):
        splits = [given["vis_split"]] if "vis_split" in given else []
        datasets.require_records(given.get("dataset", ""), given["dataset_dir"], *splits)
    console.import_tensorflow()
    from deeplab.evaluation.split_images import predicted_images
    from deeplab.inference.load import each_model
    from deeplab.visualization import prediction_images

    plan = None
    folder = config.vis_logdir
    with locked_folder(folder, "drawing", "vis_logdir"):
        models = each_model(source, given, GROUPS, "vis_crop_size", number, config.eval_interval_secs)
        for predictor, resolved in models:
            plan = plan or prepared(predictor, resolved)
            images, drawing = plan
            predicted = predicted_images(images, predictor)
            written = prediction_images.draw(predicted, images.dataset.class_names, drawing)
            print(console.spelled("written: " + ", ".join(written)), flush=True)


def prepared(predictor: Predictor, resolved: Mapping[str, Any]) -> tuple[SplitImages, Drawing]:
    """Makes what all checkpoints share: the images, and how they are drawn."""
    from deeplab.data import colormaps
    from deeplab.data.bands import require_same_bands
    from deeplab.evaluation.split_images import SplitImages
    from deeplab.inference.predictor import require_same_classes
    from deeplab.visualization import prediction_images

    config, data = configs_from(dict(resolved), [VisConfig, DatasetConfig])
    described = datasets.find(data.dataset, data.dataset_dir)
    images = SplitImages(described, data.dataset_dir, config.vis_split, predictor.settings, config.vis_batch_size)
    images.require_crop_fits_all()
    require_same_classes(described.num_classes, predictor.num_classes, predictor.source, described.name)
    require_same_bands(described.image_bands, predictor.bands, predictor.source, described.name)
    folder = pathlib.Path(config.vis_logdir)
    raw_folder = pathlib.Path(config.raw_save_dir or folder / prediction_images.RAW_RESULTS)
    return images, prediction_images.Drawing(
        folder=folder,
        colors=colormaps.colors_for(
            config.colormap_type or described.colors or "pascal", described.num_classes, described.ignore_label
        ),
        opacity=config.overlay_opacity,
        overlay_background=config.overlay_background,
        raw_folder=raw_folder if config.also_save_raw_predictions else None,
        ids=prediction_images.CITYSCAPES_IDS if described.name == "cityscapes" else None,
        grid_images=config.sheet_images,
    )


COMMAND = Command("vis", run, GROUPS, __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
