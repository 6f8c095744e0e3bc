"""Any network of `keras.applications` as a backbone: `keras:EfficientNetV2B0`, `keras:ConvNeXtTiny` and so on.

The network is built without its top, its maps at strides 4, 8 and 16 are found by their sizes, and it is dilated
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
from slim.dilate import CannotDilate, Place, copy, dilated

PREFIX = "keras:"
PROBE = 512  # side in pixels of the image on which sizes are read off
NATURAL_STRIDE = 32
LOW_LEVEL_STRIDES = (2, 4, 8, 16)
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of values 0..1


def find(name: str) -> Backbone:
    """The backbone for a name with its prefix.

    Raises:
      KeyError: Keras has no such network; the text suggests the nearest.
    """
    application = name.removeprefix(PREFIX)
    if application not in applications():
        near = difflib.get_close_matches(application, applications(), n=1, cutoff=0.4)
        hint = f"did you mean {PREFIX}{near[0]}?" if near else "there are: " + ", ".join(applications())
        raise KeyError(f"keras.applications has no network {application!r}; {hint}")
    return Backbone(name, partial(build, application), application, own_normalization=True)


def applications() -> list[str]:
    """Names of all networks in `keras.applications`."""
    return [name for name, value in vars(keras.applications).items() if name[0].isupper() and callable(value)]


def build(application: str, image, options: Options) -> Features:
    """The features of an image [B, H, W, 3] in 0..255, with random weights (`imagenet_weights` gives trained ones).

    Raises:
      OptionError: the network cannot be dilated to that output stride, wants images of one size, or the image does
        not have 3 channels.
    """
    if image.shape[-1] != 3:
        raise OptionError(
            "input_channels",
            f"{PREFIX}{application} takes images of 3 channels, not {image.shape[-1]}",
            "choose another `model_variant` for other images",
        )
    original = _original(application, None)
    places, low_level = _survey(application, original)
    names = _layer_names(original)

    def twin(operation):
        if not isinstance(operation, keras.Layer):
            return operation  # arithmetic without weights or settings
        return _clone(application, names[operation], places[operation], options, operation)

    try:
        network = keras.models.clone_model(original, clone_function=twin)
    except CannotDilate as fault:
        raise OptionError(
            "output_stride",
            f"{PREFIX}{application} cannot be dilated to {options.output_stride}, because of its layer {fault}",
            _hint(places, options.output_stride),
        ) from None
    outputs = {stride: _output(network.operations[index]) for stride, index in low_level.items()}
    extractor = keras.Model(network.input, [network.output, *outputs.values()], name=f"{application}.features")
    normalized = Preprocess(application, name=f"{application}.preprocess")(image)
    final, *maps = extractor(normalized)
    return Features(final, dict(zip(outputs, maps, strict=True)), {})


def imagenet_weights(application: str) -> dict[str, np.ndarray]:
    """ImageNet weights by the TensorFlow-1 style names of the variables that `build` makes.

    Raises:
      OSError: the weights are not in Keras' cache and cannot be fetched; the text says what to put where.
    """
    try:
        original = _original(application, "imagenet")
    except Exception as fault:  # Keras raises bare Exceptions here
        address = re.search(r"https?://\S+?(?=[:\s]*(\s|$))", str(fault))
        source = address.group(0) if address else "the address that Keras names"
        raise OSError(
            f"the ImageNet weights of {PREFIX}{application} cannot be fetched ({str(fault).splitlines()[0]}); "
            f"on a machine with network, download {source} and put it into ~/.keras/models, or train without them"
        ) from fault
    weights = {}
    for layer, name in _layer_names(original).items():
        if not isinstance(layer, keras.layers.Normalization):  # constants in the backbone, see `_normalization`
            for variable in layer.weights:
                weights[_inner_name(application, layer, name, variable)] = np.asarray(variable)
    return weights


def _hint(places: dict[Any, Place], output_stride: int) -> str:
    for stride in (16, NATURAL_STRIDE):
        try:
            for layer, place in places.items():
                if stride > output_stride and isinstance(layer, keras.Layer):
                    dilated(layer, place, stride)
        except CannotDilate:
            continue
        if stride > output_stride:
            return f"`output_stride={stride}`"
    return "choose another `model_variant`"


def _inner_name(application: str, layer, name: str, variable) -> str:
    inner = variable.path.split(f"{layer.name}/")[-1]
    return f"{application}/{name}/" + re.sub(r"^variable(_\d+)?$", "gamma", inner)


class Preprocess(keras.Layer):
    """The network's own `preprocess_input`: [B, H, W, 3] in 0..255 -> what its ImageNet weights expect."""

    def __init__(self, application: str, **kwargs):
        super().__init__(**kwargs)
        self.function: Any = inspect.getmodule(getattr(keras.applications, application)).preprocess_input  # type: ignore[union-attr]

    def call(self, image):
        return self.function(image)


@keras.saving.register_keras_serializable("slim")
class LayerScale(keras.Layer):
    """A factor for each channel: ConvNeXt's own layer, whose variable is named by a running number in Keras.

    Args:
      init_values: where the factors begin.
      projection_dim: number of channels.
    """

    def __init__(self, init_values: float, projection_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.init_values, self.projection_dim = init_values, projection_dim

    def build(self, input_shape):
        initializer = keras.initializers.Constant(self.init_values)
        self.gamma = self.add_weight(name="gamma", shape=(self.projection_dim,), initializer=initializer)

    def call(self, inputs):
        return inputs * self.gamma

    def get_config(self):
        return {**super().get_config(), "init_values": self.init_values, "projection_dim": self.projection_dim}


@keras.saving.register_keras_serializable("slim")
class FrozenStatisticsBatchNorm(keras.layers.BatchNormalization):
    """Batch norm that uses its averages in training, too, while gamma and beta still learn."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)


def _original(application: str, weights: str | None) -> keras.Model:
    function = getattr(keras.applications, application)
    return function(include_top=False, weights=weights, input_shape=(None, None, 3))


def _layer_names(network: keras.Model) -> dict[Any, str]:
    """Layer -> name that is the same in every process: Keras' running numbers start at 0 for each network."""
    counts: dict[str, int] = {}
    names = {}
    for layer in network.layers:
        stem = re.sub(r"_\d+$", "", layer.name)
        automatic = stem == re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", type(layer).__name__).lower()
        if not automatic:
            names[layer] = layer.name
            continue
        number = counts[stem] = counts.get(stem, -1) + 1
        names[layer] = f"{stem}_{number}" if number else stem
    return names


def _survey(application: str, network: keras.Model) -> tuple[dict[Any, Place], dict[int, int]]:
    """Where each layer stands, and stride -> index of the last operation with a map of that stride."""
    operations = list(network.operations)
    shapes = _output_shapes(application, network, operations)
    strides = {operation: _stride(shape) for operation, shape in zip(operations, shapes, strict=True)}
    places, last = {}, {}
    for index, operation in enumerate(operations):
        parents = [node.operation for node in operation._inbound_nodes[-1].parent_nodes]
        stride_in = max((strides[parent] for parent in parents if strides[parent]), default=1)
        places[operation] = Place(stride_in, strides[operation] or stride_in, _zeros(parents))
        if strides[operation] and not isinstance(operation, keras.layers.ZeroPadding2D):
            last[strides[operation]] = index
    return places, {stride: last[stride] for stride in LOW_LEVEL_STRIDES if stride in last}


def _output_shapes(application: str, network: keras.Model, operations: list) -> list[tuple]:
    everything = keras.Model(network.input, [_output(operation) for operation in operations])
    try:
        specification = everything.compute_output_spec(keras.KerasTensor((1, PROBE, PROBE, 3)))
    except ValueError:  # NASNet pads by the size it is built for
        raise OptionError(
            "model_variant",
            f"{PREFIX}{application} runs on images of one size only",
            "choose another network, for example keras:EfficientNetV2B0 or nas_pnasnet",
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


def _clone(application: str, name: str, place: Place, options: Options, layer):
    """A layer's counterpart in the backbone: renamed, dilated, with batch norm as asked for."""
    if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
        return _normalization(f"{application}.{name}")
    if isinstance(layer, keras.Sequential):
        parts = [_dilated_part(part, place, options) for part in layer.layers]
        return keras.Sequential(parts, name=f"{application}.{name}")
    twin = dilated(layer, place, options.output_stride)
    changes: dict[str, Any] = {"name": f"{application}.{name}"}
    kind = LayerScale if type(layer).__name__ == "LayerScale" else None
    if isinstance(layer, keras.layers.BatchNormalization):
        kind = None if options.train_batch_norm else FrozenStatisticsBatchNorm
        changes["momentum"] = layer.momentum if options.batch_norm_decay is None else options.batch_norm_decay
    return copy(twin, kind, **changes)


def _dilated_part(part, place: Place, options: Options):
    strided = max(getattr(part, "strides", (1,))) > 1
    return dilated(part, place if strided else Place(place.stride_in, place.stride_in), options.output_stride)


def _normalization(name: str) -> keras.Layer:
    # EfficientNet holds these constants among its weights, and half of them in a layer that only exists with
    # trained weights; ConvNeXt and EfficientNetV2 hold them as here.
    variance = [deviation**2 for deviation in IMAGENET_DEVIATION]
    return keras.layers.Normalization(mean=IMAGENET_MEAN, variance=variance, name=name)


register_family(PREFIX, find)
