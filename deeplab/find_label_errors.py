r"""Ranks the images of a split by how likely their labels are wrong.

Example, 0.2 seconds per image of 500x375 on two processor cores:

    python deeplab/find_label_errors.py --model=runs/first --dataset_dir=data/tfrecord --output_dir=suspects

Where the model is sure of another class than the label's, the label is suspect (confident learning). Writes images.csv
(all images, the most suspicious first), regions.csv (boxes in pixels, with the labeled and the predicted class),
overlays, and report.html. A model that was trained on the same labels has learned some of their errors; a
cross-validation finds more: build with `folds=5`, train a model on each fold, and give all with
`folds=runs/0,runs/1,...`.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

import numpy as np

from deeplab.checkpoint.find import require_something
from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.fields import fields_of, split_words
from deeplab.config.labeling_config import LabelErrorConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import InferenceConfig
from deeplab.data import dataset as datasets
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import locked_folder

if TYPE_CHECKING:
    from deeplab.evaluation.confident_learning import Suspicion
    from deeplab.evaluation.split_images import SplitImages

GROUPS = (LabelErrorConfig, DatasetConfig, InferenceConfig, ResizeConfig, ModelConfig)


def run(given: Given) -> None:
    """Runs the command."""
    config, data = configs_from(given, [LabelErrorConfig, DatasetConfig])
    folds = split_words(config.folds)
    models = folds or [config.model]
    for model in models:
        require_something(model)
    folders = [os.path.join(data.dataset_dir, f"fold_{index}") for index in range(len(folds))] or [data.dataset_dir]
    split = "val" if folds else config.split
    for folder in folders:
        datasets.require_records(data.dataset, folder, split)
    console.import_tensorflow()
    from deeplab.evaluation import confident_learning as learning
    from deeplab.evaluation.split_images import SplitImages
    from deeplab.inference.load import load
    from deeplab.inference.predictor import require_same_classes
    from deeplab.visualization.label_rendering import LabelColors

    _refuse_to_overwrite(config)
    if not folds:
        console.note(
            "a model has learned errors of the labels it was trained on; `folds` judges by models that have not"
        )
    judged: list[learning.Judged] = []
    splits = []
    own = fields_of([InferenceConfig, ResizeConfig, ModelConfig])
    for number, (model, folder) in enumerate(zip(models, folders, strict=True)):
        predictor = load(model, {name: value for name, value in given.items() if name in own})
        described = datasets.find(data.dataset, folder)
        require_same_classes(described.num_classes, predictor.num_classes, predictor.source, described.name)
        splits.append(SplitImages(described, folder, split, predictor.settings))
        judged += learning.judge(predictor, splits[-1], number)
    described = splits[0].dataset
    found = learning.rank(judged, described.num_classes, described.ignore_label, config.min_pixels)
    limits, _ = learning.thresholds(judged, described.num_classes, described.ignore_label)
    with locked_folder(config.output_dir, "writing"):
        drawn = with_pixels(found[: config.overlays], splits)
        paths = learning.write_results(found, drawn, LabelColors.of(described), limits, config.output_dir)
    rows = [(one.judged.name, f"{one.score:.3f}", f"{one.pixels:,}") for one in found[:20]]
    print(console.table(rows, ("most suspicious images", "score", "suspect pixels")))
    print("written: " + ", ".join(map(str, paths)), flush=True)


def with_pixels(found: Sequence[Suspicion], splits: Sequence[SplitImages]) -> Iterator[tuple[Suspicion, np.ndarray]]:
    """Yields images with their pixels, read from their records again."""
    from deeplab.visualization.dataset_browser import browsed, read_records

    for number, images in enumerate(splits):
        wanted = {one.judged.source[1]: one for one in found if one.judged.source[0] == number}
        for position, record in read_records(images.shards(), sorted(wanted)):
            image = browsed(position, record, images.dataset.image_bands).image
            if image is not None:
                yield wanted[position], image


def _refuse_to_overwrite(config: LabelErrorConfig) -> None:
    existing = [
        path
        for path in (pathlib.Path(config.output_dir) / name for name in ("images.csv", "regions.csv"))
        if path.exists()
    ]
    if existing and not config.overwrite:
        hint = "`overwrite=true` replaces it; or give another `output_dir`"
        raise UserError("would-overwrite", f"holds {existing[0].name} already", hint, where=config.output_dir)


COMMAND = Command("find_label_errors", run, GROUPS, __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
