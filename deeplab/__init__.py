"""DeepLab v3 and v3+ for semantic segmentation on TensorFlow and Keras 3.

For tensors a `keras.Model` (`create_model`), for images `Segmenter`, for folders the commands (`deeplab train ...`).
docs/python_api.md shows all functions in one example. `__all__` lists the names that stay compatible between versions.
Importing this package imports neither TensorFlow nor Keras; they are loaded at the first use.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

# TensorFlow's own notes at import (oneDNN, CPU features) hide what our commands print.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

if TYPE_CHECKING:
    from deeplab import losses
    from deeplab.data.dataset import Dataset, load_dataset
    from deeplab.evaluation.evaluator import evaluate
    from deeplab.evaluation.report import Report
    from deeplab.export import export
    from deeplab.inference.segmenter import Segmentation, Segmenter
    from deeplab.model.segmentation_model import SegmentationModel
    from deeplab.utils.errors import UserError

__version__ = "0.2.0"
__all__ = [
    "Dataset",
    "Report",
    "Segmentation",
    "SegmentationModel",
    "Segmenter",
    "UserError",
    "__version__",
    "create_model",
    "evaluate",
    "export",
    "load_dataset",
    "load_model",
    "losses",
]
_HOMES = {
    "Dataset": "deeplab.data.dataset",
    "Report": "deeplab.evaluation.report",
    "Segmentation": "deeplab.inference.segmenter",
    "SegmentationModel": "deeplab.model.segmentation_model",
    "Segmenter": "deeplab.inference.segmenter",
    "UserError": "deeplab.utils.errors",
    "evaluate": "deeplab.evaluation.evaluator",
    "load_dataset": "deeplab.data.dataset",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in ("export", "losses"):
        return importlib.import_module(f"deeplab.{name}")
    raise AttributeError(f"module 'deeplab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def create_model(
    backbone: str,
    num_classes: int,
    *,
    weights: str | os.PathLike | None = None,
    class_names: Sequence[str] = (),
    colors: Sequence[Sequence[int]] = (),
    fine_tune_batch_norm: bool = True,
    **settings: Any,
) -> SegmentationModel:
    """Returns a DeepLab model: float32 images [B, H, W, C], RGB, 0..255 -> logits float32 [B, H, W, num_classes].

    Images may have any size and are normalized inside the model.

    Args:
      backbone: name of a backbone (the flag `model_variant`): "mobilenet_v2", "xception_65", "keras:EfficientNetV2B0".
      num_classes: number of classes, background included, the ignore label not.
      weights: None = random; a checkpoint or training folder; "zoo:NAME" for a published checkpoint; "imagenet" for
        a backbone trained on ImageNet; "best_for_backbone" for one trained on segmentation, if there is one; a file of
        another project's weights (docs/starting_points.md). Variables that do not fit, such as logits of other
        classes, keep random values; a table of them is printed.
      class_names: one name per class; empty = `class_0` and so on.
      colors: RGB of each class, 0..255; empty = the default color map.
      fine_tune_batch_norm: whether `fit` updates the statistics of batch norm. Set it to False when batches have
        fewer than about 12 images and `weights` are given.
      **settings: the flags of the model by name: `atrous_rates=(6, 12, 18)`, `decoder_output_stride=4`,
        `output_stride=8`, `depth_multiplier=0.5` ... (`deeplab train --help` lists them).

    Raises:
      UserError: unknown names, settings that exclude each other, weights of another model.

    Example:
      >>> import deeplab
      >>> model = deeplab.create_model("mobilenet_v2", num_classes=3, depth_multiplier=0.5, atrous_rates=(6, 12, 18))
      >>> model.output_shape
      (None, None, None, 3)
    """
    from deeplab.checkpoint.restore import restore
    from deeplab.checkpoint.zoo import published_weights
    from deeplab.config.fields import make, typed
    from deeplab.config.model_config import ModelConfig
    from deeplab.model.segmentation_model import SegmentationModel
    from deeplab.utils import console
    from slim.layers import variables_by_name

    config = make(ModelConfig, typed([ModelConfig], {"model_variant": backbone, **settings}))
    model = SegmentationModel(config, num_classes, class_names, colors, fine_tune_batch_norm)
    if weights is not None:
        source = published_weights(os.fspath(weights), config)
        console.note(restore(variables_by_name(model), source).table())
    return model


def load_model(source: str | os.PathLike, **settings: Any) -> SegmentationModel:
    """Returns a trained model as a `keras.Model`, like `create_model`.

    Args:
      source: a `.keras` file; a training folder or checkpoint; "zoo:NAME" for a published checkpoint.
      **settings: for a checkpoint, flags of the model by name that differ from the training's: `output_stride=8`.

    Raises:
      UserError: there is no such model, it is damaged, or a setting contradicts its training.
    """
    from deeplab.config.fields import typed
    from deeplab.config.model_config import ModelConfig
    from deeplab.inference.load import load
    from deeplab.inference.predictor import ModelPredictor
    from deeplab.model.segmentation_model import SegmentationModel
    from deeplab.utils.errors import UserError
    from slim.layers import variables_by_name

    predictor = load(os.fspath(source), typed([ModelConfig], settings))
    if not isinstance(predictor, ModelPredictor):
        hint = "give the checkpoint or the .keras file; deeplab.Segmenter takes exported files"
        raise UserError("not-a-keras-model", "is an exported file without Keras layers", hint, where=source)
    colors = predictor.colors[: predictor.num_classes].tolist() if predictor.names_are_known else ()
    model = SegmentationModel(predictor.config, predictor.num_classes, predictor.class_names, colors)
    values = variables_by_name(predictor.model)
    for name, variable in variables_by_name(model).items():
        variable.assign(values[name])
    return model
