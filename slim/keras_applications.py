"""Any model of `keras.applications` as a backbone: `keras:EfficientNetV2B0`, `keras:ConvNeXtTiny` and so on.

The model is built without its top, its maps at strides 4, 8 and 16 are found by their sizes, and it is dilated
where an output stride below 32 is wanted. It normalizes its input (0..255) itself, each in its own way.
"""

from __future__ import annotations

import difflib
import inspect
import re
from functools import partial
from typing import Any

import keras
import numpy as np

from slim.backbones import Backbone, Features, OptionError, Options, register_family
from slim.dilate import CannotDilate, LayerPosition, copy, dilated
from slim.layers import ConfiguredLayer, serializable

PREFIX = "keras:"
PROBE = 512  # side in pixels of the image with which the sizes of all maps are computed
NATURAL_STRIDE = 32
LOW_LEVEL_STRIDES = (2, 4, 8, 16)
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of values 0..1


def find(name: str) -> Backbone:
    """The backbone for a name with its prefix.

    Raises:
      KeyError: Keras has no such model; the text suggests the nearest.
    """
    application = name.removeprefix(PREFIX)
    if application not in applications():
        near = difflib.get_close_matches(application, applications(), n=1, cutoff=0.4)
        hint = f"did you mean {PREFIX}{near[0]}?" if near else "choose from " + ", ".join(applications())
        raise KeyError(f"keras.applications has no model {application!r}; {hint}")
    return Backbone(name, partial(build, application), application, own_normalization=True)


def applications() -> list[str]:
    """Names of all models in `keras.applications`."""
    return [name for name, value in vars(keras.applications).items() if name[0].isupper() and callable(value)]


def build(application: str, image, options: Options) -> Features:
    """The features of an image [B, H, W, 3] in 0..255, with random weights (`imagenet_weights` gives trained ones).

    Raises:
      OptionError: the model cannot be dilated to that output stride, needs images of one size, or the image does
        not have 3 channels.
    """
    if image.shape[-1] != 3:
        raise OptionError(
            "input_channels",
            f"{PREFIX}{application} needs images of 3 channels, not {image.shape[-1]}",
            "choose another `model_variant` for other images",
        )
    original = _original(application, None)
    positions, low_level = _survey(application, original)
    names = _layer_names(original)

    def twin(operation):
        if not isinstance(operation, keras.Layer):
            return operation  # arithmetic without weights or settings
        return _clone(application, names[operation], positions[operation], options, operation)

    try:
        model = keras.models.clone_model(original, clone_function=twin)
    except CannotDilate as error:
        raise OptionError(
            "output_stride",
            f"{PREFIX}{application} cannot be dilated to {options.output_stride}, because of its layer {error}",
            _hint(positions, options.output_stride),
        ) from None
    outputs = {stride: _output(model.operations[index]) for stride, index in low_level.items()}
    extractor = keras.Model(model.input, [model.output, *outputs.values()], name=f"{application}.features")
    normalized = Preprocess(application, name=f"{application}.preprocess")(image)
    final, *maps = extractor(normalized)
    return Features(final, dict(zip(outputs, maps, strict=True)), {})


def imagenet_weights(application: str) -> dict[str, np.ndarray]:
    """ImageNet weights by the TensorFlow-1 style names of the variables that `build` makes.

    Raises:
      OSError: the weights are not in Keras' cache and cannot be downloaded; the text says which file to put where.
    """
    try:
        original = _original(application, "imagenet")
    except Exception as error:  # Keras raises bare Exceptions here
        address = re.search(r"https?://\S+?(?=[:\s]*(\s|$))", str(error))
        source = address.group(0) if address else "the address that Keras names"
        raise OSError(
            f"the ImageNet weights of {PREFIX}{application} cannot be downloaded ({str(error).splitlines()[0]}); "
            f"download {source} elsewhere and put it into ~/.keras/models, or train without them"
        ) from error
    weights = {}
    for layer, name in _layer_names(original).items():
        if not isinstance(layer, keras.layers.Normalization):  # constants in the backbone, see `_normalization`
            for variable in layer.weights:
                weights[_inner_name(application, layer, name, variable)] = np.asarray(variable)
    return weights


def _hint(positions: dict[Any, LayerPosition], output_stride: int) -> str:
    for stride in (16, NATURAL_STRIDE):
        try:
            for layer, position in positions.items():
                if stride > output_stride and isinstance(layer, keras.Layer):
                    dilated(layer, position, stride)
        except CannotDilate:
            continue
        if stride > output_stride:
            return f"`output_stride={stride}`"
    return "choose another `model_variant`"


def _inner_name(application: str, layer, name: str, variable) -> str:
    inner = variable.path.split(f"{layer.name}/")[-1]
    return f"{application}/{name}/" + re.sub(r"^variable(_\d+)?$", "gamma", inner)


@serializable
class Preprocess(ConfiguredLayer):
    """The model's own `preprocess_input`: [B, H, W, 3] in 0..255 -> what its ImageNet weights expect."""

    arguments = ("application",)

    def __init__(self, application: str, **kwargs):
        super().__init__(**kwargs)
        self.application = application
        self.function: Any = inspect.getmodule(getattr(keras.applications, application)).preprocess_input  # type: ignore[union-attr]

    def call(self, image):
        return self.function(image)


@serializable
class LayerScale(ConfiguredLayer):
    """A factor for each channel: ConvNeXt's own layer, whose variable is named by a running number in Keras.

    Args:
      init_values: initial value of the factors.
      projection_dim: number of channels.
    """

    arguments = ("init_values", "projection_dim")

    def __init__(self, init_values: float, projection_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.init_values, self.projection_dim = init_values, projection_dim

    def build(self, input_shape):
        initializer = keras.initializers.Constant(self.init_values)
        self.gamma = self.add_weight(name="gamma", shape=(self.projection_dim,), initializer=initializer)

    def call(self, inputs):
        return inputs * self.gamma


@serializable
class FrozenStatisticsBatchNorm(keras.layers.BatchNormalization):
    """Batch norm that uses its averages in training as well, while gamma and beta still learn."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)


def _original(application: str, weights: str | None) -> keras.Model:
    function = getattr(keras.applications, application)
    return function(include_top=False, weights=weights, input_shape=(None, None, 3))


def _layer_names(model: keras.Model) -> dict[Any, str]:
    """Layer -> name that is the same in every process: Keras' running numbers start at 0 for each model."""
    counts: dict[str, int] = {}
    names = {}
    for layer in model.layers:
        stem = re.sub(r"_\d+$", "", layer.name)
        automatic = stem == re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", type(layer).__name__).lower()
        if not automatic:
            names[layer] = layer.name
            continue
        number = counts[stem] = counts.get(stem, -1) + 1
        names[layer] = f"{stem}_{number}" if number else stem
    return names


def _survey(application: str, model: keras.Model) -> tuple[dict[Any, LayerPosition], dict[int, int]]:
    """The strides around each layer, and stride -> index of the last operation with a map of that stride."""
    operations = list(model.operations)
    shapes = _output_shapes(application, model, operations)
    strides = {operation: _stride(shape) for operation, shape in zip(operations, shapes, strict=True)}
    positions, last = {}, {}
    for index, operation in enumerate(operations):
        parents = [node.operation for node in operation._inbound_nodes[-1].parent_nodes]
        stride_in = max((strides[parent] for parent in parents if strides[parent]), default=1)
        positions[operation] = LayerPosition(stride_in, strides[operation] or stride_in, _zeros(parents))
        if strides[operation] and not isinstance(operation, keras.layers.ZeroPadding2D):
            last[strides[operation]] = index
    return positions, {stride: last[stride] for stride in LOW_LEVEL_STRIDES if stride in last}


def _output_shapes(application: str, model: keras.Model, operations: list) -> list[tuple]:
    everything = keras.Model(model.input, [_output(operation) for operation in operations])
    try:
        specification = everything.compute_output_spec(keras.KerasTensor((1, PROBE, PROBE, 3)))
    except ValueError:  # NASNet pads by the size it is built for
        raise OptionError(
            "model_variant",
            f"{PREFIX}{application} needs images of one size",
            "choose another backbone, for example keras:EfficientNetV2B0 or nas_pnasnet",
        ) from None
    return [tuple(tensor.shape) for tensor in specification]


def _output(operation) -> keras.KerasTensor:
    # Not `operation.output`: a Sequential among the layers gives its inner one.
    return operation._inbound_nodes[-1].output_tensors[0]


def _stride(shape: tuple) -> int:
    """The power of two nearest to image size over map size; 0 for what is no map."""
    if len(shape) != 4 or shape[1] == 1:
        return 0
    return 2 ** round(np.log2(PROBE / shape[1]))


def _zeros(parents: list) -> tuple[int, int]:
    if len(parents) == 1 and isinstance(parents[0], keras.layers.ZeroPadding2D):
        return parents[0].padding[0]
    return 0, 0


def _clone(application: str, name: str, position: LayerPosition, options: Options, layer):
    """A layer's counterpart in the backbone: renamed, dilated, with batch norm as asked for."""
    if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
        return _normalization(f"{application}.{name}")
    if isinstance(layer, keras.Sequential):
        parts = [_dilated_part(part, position, options) for part in layer.layers]
        return keras.Sequential(parts, name=f"{application}.{name}")
    twin = dilated(layer, position, options.output_stride)
    changes: dict[str, Any] = {"name": f"{application}.{name}"}
    kind = LayerScale if type(layer).__name__ == "LayerScale" else None
    if isinstance(layer, keras.layers.BatchNormalization):
        if options.group_norm:
            rule = "backbones of keras.applications have batch norm"
            raise OptionError("group_norm", rule, "leave `normalization` at batch, or take another backbone")
        kind = None if options.train_batch_norm else FrozenStatisticsBatchNorm
        changes |= {"synchronized": True} if options.sync_batch_norm else {}
        changes["momentum"] = layer.momentum if options.batch_norm_decay is None else options.batch_norm_decay
    return copy(twin, kind, **changes)


def _dilated_part(part, position: LayerPosition, options: Options):
    strided = max(getattr(part, "strides", (1,))) > 1
    unstrided = LayerPosition(position.stride_in, position.stride_in)
    return dilated(part, position if strided else unstrided, options.output_stride)


def _normalization(name: str) -> keras.Layer:
    # EfficientNet holds these constants among its weights, and half of them in a layer that only exists with
    # trained weights; ConvNeXt and EfficientNetV2 hold them as here.
    variance = [deviation**2 for deviation in IMAGENET_DEVIATION]
    return keras.layers.Normalization(mean=IMAGENET_MEAN, variance=variance, name=name)


register_family(PREFIX, find)
