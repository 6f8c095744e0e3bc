"""Warns about suspicious numbers in a report, with the likely causes and a command that tests each."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deeplab.data import dataset as datasets
from deeplab.data.labels import LabelSpec
from deeplab.data.split_names import training_split
from deeplab.evaluation import metrics
from deeplab.losses import class_balance
from deeplab.utils.errors import UserError
from deeplab.utils.text import percent, shorten

if TYPE_CHECKING:
    from deeplab.evaluation.report import Report

DOMINANT_FRACTION = 0.99  # of all predictions; above it, one class may have replaced the others


def warnings(report: Report) -> list[str]:
    """Return one text per suspicious finding; empty if there is none."""
    present = metrics.present_classes(report.counts)
    if not present.any():
        return [_nothing_counted(report)]
    if present.sum() == 1 and report.matrix.num_classes > 1:
        return [_one_class_labeled(report)]
    dominant = dominant_class(report.counts)
    return [] if dominant is None else [_one_class_predicted(report, dominant)]


def dominant_class(counts: metrics.Counts) -> int | None:
    """Return the class that the model predicts almost everywhere, if there is one.

    It has more than 99 % of the predictions, and covers more than half of the other classes' labeled pixels. A
    dataset that is 99.5 % background gives no warning as long as the other classes are found.

    Args:
      counts: integers [classes, classes], rows = label, columns = prediction.
    """
    predicted, labeled = counts.sum(axis=0), counts.sum(axis=1)
    dominant = int(predicted.argmax())
    others = labeled.sum() - labeled[dominant]
    covered = predicted[dominant] - counts.diagonal()[dominant]
    if predicted[dominant] > DOMINANT_FRACTION * predicted.sum() and 2 * covered > others > 0:
        return dominant
    return None


def training_pixels(report: Report) -> Sequence[int]:
    """Return the pixels per class of the training split from dataset.yml, else those of the labels evaluated here."""
    folder = str(report.settings.get("dataset_dir") or "")
    try:
        described = datasets.find(str(report.settings.get("dataset") or ""), folder).pixels if folder else {}
    except UserError:  # the dataset was moved
        described = {}
    counted = described.get(training_split(list(described)), ())
    same_classes = len(counted) == report.matrix.num_classes and any(counted)
    return counted if same_classes else report.counts.sum(axis=1).tolist()


def _nothing_counted(report: Report) -> str:
    return (
        f"no pixel was counted: every label of split {report.split} is the ignore label {report.matrix.ignore_label}.\n"
        f"  Check the label values, and 'ignore_label' in dataset.yml:\n    {_check(report)}"
    )


def _one_class_labeled(report: Report) -> str:
    (only,) = report.names_of(metrics.present_classes(report.counts))
    return (
        f"the labels of split {report.split} contain only {only}: these numbers do not measure the other classes.\n"
        f"  Check the label values, and the split's list of images:\n    {_check(report)}"
    )


def _one_class_predicted(report: Report, dominant: int) -> str:
    fractions = metrics.label_fraction(report.counts)
    order = [index for index in np.argsort(-fractions, kind="stable") if fractions[index] > 0]
    labels = shorten([f"{report.class_names[index]} {percent(fractions[index])}" for index in order], 6)
    predicted = percent(metrics.predicted_fraction(report.counts)[dominant])
    causes = [
        _cause_masks(report),
        _cause_imbalance(report),
        _cause_training(report),
        _cause_viewer(report),
        _cause_flags(report),
    ]
    lines = [
        f"{report.class_names[dominant]} has {predicted} of the predictions, but the labels contain {labels}.",
        "  Possible causes; test them in this order:",
    ]
    lines += [f"  {number}. {cause}" for number, cause in enumerate(causes, start=1)]
    return "\n".join(lines)


def _cause_masks(report: Report) -> str:
    allowed = LabelSpec(report.matrix.num_classes, report.matrix.ignore_label).allowed
    return (
        "Wrong values in the masks used for training; the label fractions above are then wrong, too. "
        f"Only {allowed} are allowed:\n     {_check(report)}"
    )


def _cause_imbalance(report: Report) -> str:
    weights = "ONE_WEIGHT_PER_CLASS"
    if report.matrix.num_classes <= class_balance.MAX_CLASSES_IN_TEXT:
        weights = class_balance.value_text(class_balance.recommended_weights(training_pixels(report)))
    command = _command("train", {"train_logdir": "NEW_FOLDER", "label_weights": weights})
    return f"Class imbalance: rare classes add too little to the loss. Train again with weights:\n     {command}"


def _cause_training(report: Report) -> str:
    logdir = f"{_setting(report, 'eval_logdir', 'EVAL_LOGDIR')}_train"
    split = _setting(report, "train_split", "train")
    command = _command("eval", {"eval_split": split, "eval_logdir": logdir, **_sources(report)})
    known = report.step or os.path.basename(report.checkpoint).startswith("model.ckpt")  # exported files tell no step
    step = f" (this is step {report.step})" if known else ""
    return (
        f"Too few steps{step}, a wrong learning rate, or an initial checkpoint from which "
        "nothing was restored. Predictions on the training images are then no better. The loss and the table of "
        f"restored variables in the output of the training show which one it is:\n     {command}"
    )


def _cause_viewer(report: Report) -> str:
    logdir = _setting(report, "vis_logdir", "VIS_LOGDIR")
    command = _command("vis", {"vis_split": report.split, "vis_logdir": logdir, **_sources(report)})
    return (
        "Masks of class numbers look black in a viewer even if they are correct. The fractions above are counted "
        f"from the numbers, so a viewer does not explain them. To see the predictions in color:\n     {command}"
    )


def _cause_flags(report: Report) -> str:
    logdir = _setting(report, "eval_logdir", "EVAL_LOGDIR")
    command = _command("eval", {"eval_split": report.split, "eval_logdir": logdir, **_sources(report)})
    return (
        "Other flags than in training (model_variant, atrous_rates, decoder_output_stride, resizing). Leave them "
        f"out, so that they come from config.yml beside the checkpoint:\n     {command}"
    )


def _check(report: Report) -> str:
    return _command("check-data", {"dataset_dir": _setting(report, "dataset_dir", "DATASET_DIR")})


def _sources(report: Report) -> dict[str, str]:
    """Return the flags of the model and the dataset."""
    folder, model = os.path.dirname(report.checkpoint) or "CHECKPOINT_DIR", _setting(report, "model", "")
    found = {
        **({"model": model} if model else {"checkpoint_dir": _setting(report, "checkpoint_dir", folder)}),
        "dataset_dir": _setting(report, "dataset_dir", "DATASET_DIR"),
        "dataset": _setting(report, "dataset", ""),
    }
    return {flag: value for flag, value in found.items() if value}


def _setting(report: Report, flag: str, otherwise: str) -> str:
    return str(report.settings.get(flag) or otherwise)


def _command(name: str, values: dict[str, str]) -> str:
    return " ".join([f"deeplab {name}", *(f"--{flag}={shlex.quote(text)}" for flag, text in values.items())])
