"""The confusion matrix and what is computed from it: metrics, table, JSON, plots, TensorBoard scalars."""

from __future__ import annotations

from typing import Any

from deeplab.evaluation.confusion import ConfusionMatrix
from deeplab.evaluation.report import Report

__all__ = ["ConfusionMatrix", "Report", "write_report"]


def __getattr__(name: str) -> Any:
    """Loads `write_report` on first use: counting needs no Matplotlib."""
    if name == "write_report":
        from deeplab.evaluation.report_files import write_report

        return write_report
    raise AttributeError(f"module 'deeplab.evaluation' has no attribute {name!r}")
