"""A report small enough to check by hand."""

import numpy as np
import pytest

from deeplab.evaluation import ConfusionMatrix, Report


@pytest.fixture
def make_report():
    """Reports of given counts; further fields by name."""

    def make(counts, class_names=("background", "skin", "hair"), ignore_label=255, **fields) -> Report:
        matrix = ConfusionMatrix(len(class_names), ignore_label, np.asarray(counts))
        values = {"checkpoint": "runs/face/model.ckpt-500", "step": 500, "split": "val", "num_images": 4} | fields
        return Report(matrix=matrix, class_names=class_names, **values)

    return make


@pytest.fixture
def portrait_report(make_report) -> Report:
    """100 pixels, 60 background, 30 skin, 10 hair; IoU 50/70, 20/44 and 5/11."""
    return make_report([[50, 9, 1], [10, 20, 0], [0, 5, 5]])
