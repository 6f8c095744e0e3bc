"""What is suspicious in a report's numbers, and how to find the cause."""

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
from deeplab.evaluation.report_text import listed, percent
from deeplab.losses import class_balance
from deeplab.utils.errors import UserError

if TYPE_CHECKING:
    from deeplab.evaluation.report import Report

DOMINANT_SHARE = 0.99  # of all predictions: beyond it, one class may have swallowed the others


def warnings(report: Report) -> list[str]:
    """One text for each suspicion; empty when there is none."""
    present = metrics.present_classes(report.counts)
    if not present.any():
        return [_nothing_counted(report)]
    if present.sum() == 1 and report.matrix.num_classes > 1:
        return [_one_class_labeled(report)]
    dominant = dominant_class(report.counts)
    return [] if dominant is None else [_one_class_predicted(report, dominant)]


def dominant_class(counts: np.ndarray) -> int | None:
    """The class that has swallowed the others, if there is one.

    It takes more than 99 % of the predictions, and more than half of the other classes' labeled pixels: a
    dataset that is 99.5 % background gives no alarm as long as the rest is found.

    Args:
      counts: integers [classes, classes], rows = label, columns = prediction.
    """
    predicted, labeled = counts.sum(axis=0), counts.sum(axis=1)
    dominant = int(predicted.argmax())
    others = labeled.sum() - labeled[dominant]
    swallowed = predicted[dominant] - counts[dominant, dominant]
    if predicted[dominant] > DOMINANT_SHARE * predicted.sum() and 2 * swallowed > others > 0:
        return dominant
    return None


def training_pixels(report: Report) -> Sequence[int]:
    """Pixels of each class in the training split as dataset.yml counts them, else in the labels of this evaluation."""
    folder = str(report.settings.get("dataset_dir") or "")
    try:
        described = datasets.find(str(report.settings.get("dataset") or ""), folder).pixels if folder else {}
    except UserError:  # moved since
        described = {}
    counted = described.get(training_split(list(described)), ())
    same_classes = len(counted) == report.matrix.num_classes and any(counted)
    return counted if same_classes else report.counts.sum(axis=1).tolist()


def _nothing_counted(report: Report) -> str:
    return (
        f"no pixel was counted: every label of split {report.split} is the ignore label {report.matrix.ignore_label}.\n"
        f"  Look at the labels' values, and at ignore_label in dataset.yml:\n    {_check(report)}"
    )


def _one_class_labeled(report: Report) -> str:
    (only,) = report.names_of(metrics.present_classes(report.counts))
    return (
        f"the labels of split {report.split} hold nothing but {only}: these numbers say nothing of the other classes.\n"
        f"  Look at the labels' values, and at the split's list of images:\n    {_check(report)}"
    )


def _one_class_predicted(report: Report, dominant: int) -> str:
    shares = metrics.label_share(report.counts)
    order = [index for index in np.argsort(-shares, kind="stable") if shares[index] > 0]
    labels = listed([f"{report.class_names[index]} {percent(shares[index])}" for index in order], most=6)
    taken = percent(metrics.predicted_share(report.counts)[dominant])
    causes = [
        _cause_masks(report),
        _cause_imbalance(report),
        _cause_training(report),
        _cause_viewer(report),
        _cause_flags(report),
    ]
    lines = [
        f"{report.class_names[dominant]} takes {taken} of the predictions, while the labels hold {labels}.",
        "  Known causes, in the order in which to test them:",
    ]
    lines += [f"  {number}. {cause}" for number, cause in enumerate(causes, start=1)]
    return "\n".join(lines)


def _cause_masks(report: Report) -> str:
    allowed = LabelSpec(report.matrix.num_classes, report.matrix.ignore_label).allowed
    return (
        "Wrong values in the masks the network was trained on; the label shares above would then be wrong, too. "
        f"They must hold nothing but {allowed}:\n     {_check(report)}"
    )


def _cause_imbalance(report: Report) -> str:
    weights = "ONE_WEIGHT_A_CLASS"
    if report.matrix.num_classes <= class_balance.MAX_CLASSES_IN_TEXT:
        weights = class_balance.value_text(class_balance.recommended_weights(training_pixels(report)))
    command = _command("train", {"train_logdir": "NEW_FOLDER", "label_weights": weights})
    return f"Class imbalance: rare classes cost too little. Train as before, but with weights:\n     {command}"


def _cause_training(report: Report) -> str:
    logdir = f"{_setting(report, 'eval_logdir', 'EVAL_LOGDIR')}_train"
    split = _setting(report, "train_split", "train")
    command = _command("eval", {"eval_split": split, "eval_logdir": logdir, **_sources(report)})
    return (
        f"Too few steps (these are {report.step}), a wrong learning rate, or a starting checkpoint of which nothing "
        "was restored. The training images then come out no better; train.py's loss and its table of restored "
        f"variables tell which it is:\n     {command}"
    )


def _cause_viewer(report: Report) -> str:
    logdir = _setting(report, "vis_logdir", "VIS_LOGDIR")
    command = _command("vis", {"vis_split": report.split, "vis_logdir": logdir, **_sources(report)})
    return (
        "Pictures of class numbers look black in a viewer although they are right. The shares above are counted from "
        f"numbers, so this is not their cause; to see the predictions in color:\n     {command}"
    )


def _cause_flags(report: Report) -> str:
    logdir = _setting(report, "eval_logdir", "EVAL_LOGDIR")
    command = _command("eval", {"eval_split": report.split, "eval_logdir": logdir, **_sources(report)})
    return (
        "Other flags than in training (model_variant, atrous_rates, decoder_output_stride, resizing). Give none of "
        f"them, so that all come from config.yml beside the checkpoint:\n     {command}"
    )


def _check(report: Report) -> str:
    return _command("check_data", {"dataset_dir": _setting(report, "dataset_dir", "DATASET_DIR")})


def _sources(report: Report) -> dict[str, str]:
    """The flags that say what is evaluated on what."""
    folder = os.path.dirname(report.checkpoint) or "CHECKPOINT_DIR"
    found = {
        "checkpoint_dir": _setting(report, "checkpoint_dir", folder),
        "dataset_dir": _setting(report, "dataset_dir", "DATASET_DIR"),
        "dataset": _setting(report, "dataset", ""),
    }
    return {flag: value for flag, value in found.items() if value}


def _setting(report: Report, flag: str, otherwise: str) -> str:
    return str(report.settings.get(flag) or otherwise)


def _command(name: str, values: dict[str, str]) -> str:
    return " ".join([f"python deeplab/{name}.py", *(f"--{flag}={shlex.quote(text)}" for flag, text in values.items())])
