"""The model of the Python API: a `keras.Model` from images to logits at their size, with its settings and classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from deeplab.config.fields import as_dict, make
from deeplab.config.model_config import ModelConfig
from deeplab.model.deeplab import MERGED_LOGITS, build_model
from slim.layers import ResizeLike

_RESIZE = "logits_at_image_size"


@keras.saving.register_keras_serializable("deeplab")
class SegmentationModel(keras.Model):
    """DeepLab as one `keras.Model`: float32 images [B, H, W, C], 0..255 -> logits float32 [B, H, W, num_classes].

    It is trained, saved (`model.save("m.keras")`) and loaded (`keras.models.load_model`) like any Keras model;
    `deeplab.evaluate`, `deeplab.export` and `deeplab.Segmenter` take it as it is.

    Args:
      config: architecture.
      num_classes: number of classes, background included, the ignore label not.
      class_names: one name per class; empty = `class_0` and so on.
      colors: RGB of each class, 0..255; empty = the default color map.
      train_batch_norm: whether `fit` updates the statistics of batch norm.
      prediction: how `deeplab.Segmenter` turns images into masks with this model, where that differs from the
        defaults: `crop_size`, `scales`, `flip`, `resize`, as in `PredictionSettings`.

    Attributes:
      config, num_classes, class_names, colors, train_batch_norm, prediction: as given.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_classes: int,
        class_names: Sequence[str] = (),
        colors: Sequence[Sequence[int]] = (),
        train_batch_norm: bool = True,
        prediction: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        core = build_model(config, num_classes, train_batch_norm=train_batch_norm)
        image = core.input
        logits = ResizeLike(config.align_corners, name=_RESIZE)(core.output[MERGED_LOGITS], image)
        super().__init__(image, logits, **{"name": "deeplab", **kwargs})
        self.config, self.num_classes, self.train_batch_norm = config, num_classes, train_batch_norm
        self.class_names = tuple(class_names) or tuple(f"class_{index}" for index in range(num_classes))
        self.colors = tuple((red, green, blue) for red, green, blue in colors)
        self._prediction = json.dumps(prediction or {})  # Keras would replace a dictionary by one of its own

    @property
    def prediction(self) -> dict[str, Any]:
        return json.loads(self._prediction)

    @property
    def core(self) -> keras.Model:
        """The same model without the last resize: images -> {"merged_logits": [B, h, w, num_classes]}, any stride."""
        features, _ = self.get_layer(_RESIZE).input
        return keras.Model(self.input, {MERGED_LOGITS: features}, name="core")

    def get_config(self) -> dict[str, Any]:
        return {
            "model": as_dict(self.config),
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "colors": [list(color) for color in self.colors],
            "train_batch_norm": self.train_batch_norm,
            "prediction": self.prediction,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> SegmentationModel:
        return cls(make(ModelConfig, config["model"]), **{k: v for k, v in config.items() if k != "model"})
