r"""Evaluates a trained model on a split of records.

Example, 0.1 seconds per image of 513x513 on two processor cores (MobileNetV2, output stride 16):

    python deeplab/eval.py --model=runs/first --eval_logdir=runs/first/eval --dataset_dir=data/tfrecord

The model is a training folder, a checkpoint or an exported file. Prints the table of classes, with 95 % bootstrap
intervals over the images, and writes report.html (a page with tables, confusion matrix and example images),
metrics.json, per_image.csv, plots and TensorBoard scalars into the folder `eval_logdir`. With `compare=OTHER_MODEL`,
both are evaluated, and comparison.html shows the difference of every metric. The settings come from config.yml beside
the checkpoint. Evaluates the latest checkpoint and ends; `watch` waits for new ones. With `min_resize_value`,
labels are resized like the images and compared at that size, as in the research DeepLab.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.checkpoint.find import require_something
from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.fields import as_dict, split_words
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import EvalConfig, InferenceConfig, model_source
from deeplab.data import dataset as datasets
from deeplab.utils import console
from deeplab.utils.errors import UserError

if TYPE_CHECKING:
    from deeplab.evaluation.evaluator import Evaluator
    from deeplab.inference.predictor import ModelPredictor, Predictor
    from deeplab.inference.simulated_int8 import Int8Simulation

UNLIMITED = (1 << 20, 1 << 20)  # pixels: images that give ranges keep their size where the evaluated ones do
GROUPS = (EvalConfig, DatasetConfig, InferenceConfig, ResizeConfig, ModelConfig)


def run(given: Given) -> None:
    """Runs the command on every checkpoint that appears, or on the one model."""
    (config,) = configs_from(given, [EvalConfig])
    source = model_source(config)
    number = 0 if config.watch and config.max_number_of_evaluations == 1 else config.max_number_of_evaluations
    if number == 1:  # else the command waits for a training that may not have begun
        require_something(source)
        require_something(config.compare)
    if given.get("dataset_dir"):
        splits = [given["eval_split"]] if "eval_split" in given else []
        datasets.require_records(given.get("dataset", ""), given["dataset_dir"], *splits)
    console.import_tensorflow()
    from deeplab.evaluation import evaluator as evaluation
    from deeplab.inference.load import each_model

    if config.compare:
        compare(source, config, given)
        return
    evaluator = None
    models = each_model(source, given, GROUPS, "eval_crop_size", number, config.eval_interval_secs)
    simulation: Int8Simulation | None = None
    for predictor, resolved in models:
        if config.precision == "int8":
            simulation = simulation or int8_simulation(predictor, config, resolved)
            predictor = simulation.twin_of(cast("ModelPredictor", predictor))
        evaluator = evaluator or prepared(predictor, resolved)
        if config.eval_processes > 1:
            from deeplab.evaluation.sharding import evaluate_in_processes

            shown = reported(predictor, resolved)
            report = evaluate_in_processes(evaluator, given, GROUPS, config.eval_processes, shown)
        else:
            report = evaluator.evaluate(reported(predictor, resolved))
        evaluation.tell(report, config.eval_logdir, evaluator if config.report else None)


def int8_simulation(predictor: Predictor, config: EvalConfig, resolved: Mapping[str, Any]) -> Int8Simulation:
    """Chooses the images that give the ranges.

    Raises:
      UserError: the model is a file, which has its own precision, or its labels are post-processed; no images.
    """
    from deeplab.config.export_config import ExportConfig
    from deeplab.export import calibration_images
    from deeplab.inference.predictor import ModelPredictor
    from deeplab.inference.simulated_int8 import Int8Simulation
    from slim.quantization import is_quantized

    if not isinstance(predictor, ModelPredictor):
        rule = (
            "can be simulated only for checkpoints and without `postprocess`; exported files have their own precision"
        )
        hint = "give the training folder, or leave it out"
        raise UserError("not-supported", rule, hint, field="precision", value=config.precision)
    if is_quantized(predictor.model):
        console.note("the model was trained with fake quantization: int8 is what it computes, by its own ranges")
        return Int8Simulation(())
    source = ExportConfig(
        dataset_dir=resolved.get("dataset_dir", ""),
        calibration_images=config.calibration_images,
        calibration_count=config.calibration_count,
        calibration_seed=config.calibration_seed,
    )
    crop = predictor.settings.crop_size or UNLIMITED
    return Int8Simulation(calibration_images.choose(source, crop, predictor.bands))


def compare(source: str, config: EvalConfig, given: Given) -> None:
    """Evaluates two models, and writes how they differ."""
    from deeplab.evaluation import comparison, examples
    from deeplab.inference.load import each_model

    reports, evaluators = [], []
    kept = comparison.KeptLabels()
    for number, model in enumerate((source, config.compare)):
        predictor, resolved = next(each_model(model, given, GROUPS, "eval_crop_size"))
        evaluator = prepared(predictor, resolved)
        if number == 0:
            evaluator.observe = kept.keep
        else:
            counted = comparison.Disagreement(kept, evaluator.images.dataset.ignore_label)
            evaluator.observe = counted.count
        reports.append(evaluator.evaluate(reported(predictor, resolved)))
        evaluators.append(evaluator)
    found = comparison.Comparison(reports[0], reports[1], counted.fractions)
    print(found.text())
    predicts = [examples.predict_with(one.predictor, one.images) for one in evaluators]
    paths = comparison.write_comparison(found, evaluators[0].images, predicts, config.eval_logdir)
    print(console.spelled("\nwritten: " + ", ".join(map(str, paths))), flush=True)


def prepared(predictor: Predictor, resolved: Mapping[str, Any]) -> Evaluator:
    """Makes the evaluator that all checkpoints share."""
    from deeplab.evaluation.evaluator import Evaluator, Measures, warn_of_other_names
    from deeplab.evaluation.split_images import SplitImages

    config, data = configs_from(dict(resolved), [EvalConfig, DatasetConfig])
    described = datasets.find(data.dataset, data.dataset_dir)
    images = SplitImages(described, data.dataset_dir, config.eval_split, predictor.settings, config.eval_batch_size)
    images.require_crop_fits_all()
    measures = Measures(
        split_words(config.metrics),
        split_words(config.extra_metrics),
        config.exclude_classes,
        config.group_by,
        uncertainty=config.report,
    )
    evaluator = Evaluator(predictor, images, measures)
    if predictor.names_are_known:
        warn_of_other_names(predictor.class_names, described.class_names, described.name)
    return evaluator


def reported(predictor: Predictor, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all settings by name, for the report; those that an exported file has built in are left out."""
    settings = getattr(predictor, "inner", predictor).settings  # of the model inside, where labels are post-processed
    configs = configs_from(dict(resolved), GROUPS if settings else GROUPS[:2])
    return {name: value for config in configs for name, value in as_dict(config).items()}


COMMAND = Command("eval", run, GROUPS, __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
