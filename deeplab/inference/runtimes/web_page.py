"""Folders of the export format web_page: their ONNX file, run here as the browser runs it there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from deeplab.inference.runtimes import RUNTIMES, LoadOptions, Runtime, onnx

if TYPE_CHECKING:
    from deeplab.inference.predictor import Predictor

MODEL, DESCRIPTION, PAGE = "model.onnx", "model.json", "index.html"


def recognizes(path: str) -> bool:
    """Whether this is such a folder."""
    return all(os.path.isfile(os.path.join(path, name)) for name in (MODEL, DESCRIPTION, PAGE))


def load(path: str, options: LoadOptions) -> Predictor:
    """Load the folder's model.

    Raises:
      UserError: as for ONNX files.
    """
    return onnx.load(os.path.join(path, MODEL), options)


RUNTIMES.register("web_page")(Runtime(recognizes, load))
