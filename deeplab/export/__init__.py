"""Exports for other programs: one module per format, and the check against the model that every export must pass.

`deeplab.export(model, folder)` is the function `export` below: this package can be called.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeplab.export.exporter import Exported
    from deeplab.model.segmentation_model import SegmentationModel


def export(
    model: SegmentationModel | str | os.PathLike,
    folder: str | os.PathLike,
    formats: Sequence[str] = ("frozen_graph", "saved_model"),
    **settings: Any,
) -> Exported:
    """Writes a model as files for other programs, after comparing each file's predictions with the model's.

    Args:
      model: from `create_model`, or a checkpoint: training folder, prefix or "zoo:NAME".
      folder: where the files go, together with `labels.txt` and a description. It may end in the name of one file,
        such as `out/small.pb`; the other files are then named after it.
      formats: names of export formats.
      **settings: flags of `deeplab export` by name: `crop_size=(513, 513)`, `inference_scales`, `parity_folder`,
        `overwrite` ...; for a checkpoint also those of its model.

    Returns:
      The paths that were written, their tensors, and the comparison with the model.

    Raises:
      UserError: the files cannot be written or predict something else; nothing is left behind then.
    """
    from deeplab.config.data_config import ResizeConfig
    from deeplab.config.export_config import ExportConfig
    from deeplab.config.fields import typed
    from deeplab.config.model_config import ModelConfig
    from deeplab.export.exporter import export_checkpoint, export_model
    from deeplab.model.segmentation_model import SegmentationModel

    given = {**settings, "export_path": os.fspath(folder), "formats": tuple(formats)}
    if isinstance(model, SegmentationModel):
        return export_model(model, typed([ExportConfig, ResizeConfig], given))
    given["checkpoint_path"] = os.fspath(model)
    return export_checkpoint(typed([ExportConfig, ModelConfig, ResizeConfig], given))


class _CallablePackage(types.ModuleType):
    __call__ = staticmethod(export)


sys.modules[__name__].__class__ = _CallablePackage
