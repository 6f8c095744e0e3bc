"""A report as TensorBoard scalars."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deeplab.evaluation.report import Report


def scalars(report: Report) -> dict[str, float]:
    """Return the tags and values of a report.

    The research DeepLab's tags come first, with the values of its rule: NaN for classes without labels. Ours
    are by class name (`eval/iou/hair`) and leave such classes out.
    """
    ours = {f"eval/{name}": value for name, value in report.overall().items()}
    ious = zip(report.class_names, report.per_class()["iou"].tolist(), strict=True)
    ours |= {f"eval/iou/{name}": value for name, value in ious}
    return report.reference_scalars() | {tag: value for tag, value in ours.items() if not math.isnan(value)}


def write_scalars(report: Report, folder: str | os.PathLike) -> None:
    """Write the scalars into a new events file in `folder`, at the checkpoint's step."""
    import tensorflow as tf  # here: reading a report does not need TensorFlow

    writer = tf.summary.create_file_writer(os.fspath(folder))
    with writer.as_default(step=report.step):
        for tag, value in scalars(report).items():
            tf.summary.scalar(tag, value)
    writer.close()
