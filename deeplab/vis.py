r"""Draws the predictions of a trained model for a split of records.

Example, 0.1 seconds per image of 500x375 on two processor cores (MobileNetV2, output stride 16):

    python deeplab/vis.py --checkpoint_dir=runs/first --vis_logdir=runs/first/vis --dataset_dir=data/tfrecord

Writes segmentation_results/000000_image.png, ..._prediction.png and ..._overlay.png for each image, in the order of the
records; with `also_save_raw_predictions` index masks under the images' names (palette PNG: pixels are class numbers;
Cityscapes: its label ids); and image_grid.png, a grid of the first images beside prediction and label. The
architecture comes from config.yml beside the checkpoint.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import InferenceConfig, VisConfig
from deeplab.utils import console
from deeplab.utils.files import made_folder
from deeplab.utils.locks import folder_lock

if TYPE_CHECKING:
    from deeplab.checkpoint.bundle import Checkpoint

GROUPS = (VisConfig, DatasetConfig, InferenceConfig, ResizeConfig, ModelConfig)


def run(given: Given) -> None:
    """Runs the command: one checkpoint after the other."""
    (config,) = configs_from(given, [VisConfig])
    console.import_tensorflow()
    from deeplab.checkpoint import watch

    most = 0 if config.watch and config.max_number_of_iterations == 1 else config.max_number_of_iterations
    draw = None
    folder = config.vis_logdir
    with made_folder(folder, "vis_logdir"), folder_lock(folder, "drawing", "give another `vis_logdir`"):
        for checkpoint in watch.checkpoints(config.checkpoint_dir, most, config.eval_interval_secs):
            draw = draw or prepared(given, checkpoint)
            draw(checkpoint)


def prepared(given: Given, checkpoint: Checkpoint) -> Callable[[Checkpoint], None]:
    """Everything that stays the same for all checkpoints; gives the function that draws one."""
    from deeplab.data import colormaps
    from deeplab.data import dataset as datasets
    from deeplab.evaluation.split_images import Split, labels_of
    from deeplab.inference import checkpoint_model, load
    from deeplab.inference.prediction import PredictionSettings
    from deeplab.visualization import prediction_images

    resolved = checkpoint_model.resolve(given, checkpoint, GROUPS)
    config, data, inference, resize, model = configs_from(resolved, GROUPS)
    described = datasets.find(data.dataset, data.dataset_dir)
    settings = PredictionSettings(
        model, resize, config.vis_crop_size, inference.eval_scales, inference.add_flipped_images
    )
    split = Split(described, data.dataset_dir, config.vis_split, settings, config.vis_batch_size, "`vis_crop_size`")
    split.require_crop_fits_all()
    trained = checkpoint_model.build(model, checkpoint, settings.one_pass)
    load.require_same_classes(described.num_classes, trained.num_classes, checkpoint.prefix, described.name)
    folder = pathlib.Path(config.vis_logdir)
    raw_folder = pathlib.Path(config.raw_save_dir or folder / prediction_images.RAW_RESULTS)
    plan = prediction_images.Drawing(
        folder=folder,
        colors=colormaps.colors_for(config.colormap_type or described.colors or "pascal", described.num_classes),
        opacity=config.overlay_opacity,
        overlay_background=config.overlay_background,
        raw_folder=raw_folder if config.also_save_raw_predictions else None,
        ids=prediction_images.CITYSCAPES_IDS if described.name == "cityscapes" else None,
        sheet_images=config.sheet_images,
    )
    answer = labels_of(trained, settings)

    def draw(opened: Checkpoint) -> None:
        if opened.prefix != trained.checkpoint:
            trained.restore(opened)
        print("written: " + ", ".join(prediction_images.draw(split, answer, plan)), flush=True)

    return draw


COMMAND = Command("vis", run, GROUPS, __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
