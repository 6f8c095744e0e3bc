"""`frozen_inference_graph.pb`: weights and operations in one file, for TensorFlow 1.15 to today's.

Names, types and shapes of the tensors are those of the research DeepLab's exports:

    ImageTensor               uint8   [1, ?, ?, C]       an image, RGB, 0..255
    SemanticPredictions       int32   [1, ?, ?]          the class of every pixel, at the image's size
    SemanticProbabilities     float32 [1, ?, ?, classes] 0..1, at the image's size
    ArgMax                    int64   [1, h, w]          classes at the crop size h x w, padding included
    RawSemanticPredictions    float32 [1, h, w]          the same as floats
    RawSemanticProbabilities  float32 [1, h, w, classes] probabilities at the crop size, padding included
    <scope>/<scope>/input     float32 [1, h, w, C]       the normalized image (MobilenetV2/MobilenetV2/input)

With `fixed_size` the image is prepared outside, as for other files of one size, and nothing is padded or cut inside:

    ImageTensor               float32 [1, h, w, C]       RGB, 0..255, or raw values of the model's bands
    SemanticPredictions and the others: at the crop size h x w; the raw outputs are the same ones
    deeplab.json              string, a constant         the description of the input, `FixedInput`

The research DeepLab's graphs fail on images larger than the crop. Ours predict all of such an image; the raw outputs
are then its top left part of crop size.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

import tensorflow as tf

import slim
from deeplab.config.fields import Size
from deeplab.data.bands import bands_of
from deeplab.data.transforms import scale_values
from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo
from deeplab.export.freeze import FrozenModel, describe
from deeplab.export.graph_optimizer import speed_up
from deeplab.inference.prediction import RawPrediction, TensorPrediction, predict_batch, predict_image
from deeplab.inference.runtimes import DESCRIPTION_FILE
from deeplab.inference.tensor_names import GRAPH_IMAGE, LABELS, PROBABILITIES, RAW_ARGMAX, RAW_LABELS, RAW_PROBABILITIES
from deeplab.utils.files import write_atomically

tf1 = tf.compat.v1

OUTPUTS = (LABELS, PROBABILITIES, RAW_ARGMAX, RAW_LABELS, RAW_PROBABILITIES)
GRAPH_TEXT = "inference_graph.pbtxt"
PRODUCER = 134  # GraphDef version of TensorFlow 1.15: the graph has no newer operation or attribute
_SCOPE = "predict"  # keeps the operations' own names apart from the public ones
_NORMALIZE = re.compile(r".*/normalize(_\d+)?/")  # the model's first layer
_MODEL_SCOPE = re.compile(rf"^{_SCOPE}/deeplab(_\d+)?/(single_scale(_\d+)?/)?")


def write(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes the frozen graph, and beside it as text where `save_inference_graph` is set."""
    definition = graph_definition(model)
    write_atomically(path, definition.SerializeToString(deterministic=True))
    if model.config.save_inference_graph:
        write_atomically(os.path.join(os.path.dirname(path), GRAPH_TEXT), str(definition).encode())
    return tensors(definition)


FORMATS.register("frozen_graph")(
    ExportFormat("frozen_inference_graph.pb", ".pb", write, takes_ranges=True, takes_fixed_size=True)
)


def graph_definition(model: FrozenModel) -> tf.compat.v1.GraphDef:
    """Builds the graph of a model with the steps before and after it: resize, pad, softmax, argmax, crop."""
    settings, fixed = model.settings, model.config.fixed_size
    assert settings.crop_size is not None
    graph = tf.Graph()
    with graph.as_default():
        dtype = tf.float32 if fixed else tf.as_dtype(settings.model.input_dtype)
        size = settings.crop_size if fixed else (None, None)
        image = tf1.placeholder(dtype, [1, *size, settings.model.input_channels], name=GRAPH_IMAGE)
        logits_of = model.in_this_graph()
        with tf.name_scope(_SCOPE):
            if fixed:
                raw = predict_batch(logits_of, scale_values(image, bands_of(settings.model)), settings)
            else:
                prediction = predict_image(logits_of, image[0], settings)
        if fixed:
            _name_outputs_of_one_size(raw)
        else:
            _name_outputs(prediction, settings.crop_size)
        definition = _as_definition(graph)
    if model.folded:
        speed_up(definition)
    names = {}
    normalized = _normalized_image(definition)
    if normalized is not None:
        scope = slim.find(settings.model.model_variant).scope
        names[normalized] = f"{scope}/{scope}/input"
        _take_sizes_from(definition, normalized)
    _rename(definition, _tidy_names(definition, names))
    definition = needed_in_order(definition)
    if fixed:
        description = definition.node.add(name=DESCRIPTION_FILE, op="Const")
        description.attr["dtype"].type = tf.string.as_datatype_enum
        description.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(describe(model).to_json()))
    return definition


def _name_outputs(prediction: TensorPrediction, crop: Size) -> None:
    """Adds the named outputs. The raw ones are cut to the crop, so that their size is static."""
    probabilities = tf.expand_dims(prediction.raw_probabilities, 0)
    tf.slice(probabilities, [0, 0, 0, 0], [1, *crop, probabilities.shape[-1]], name=RAW_PROBABILITIES)
    tf.cast(_raw_argmax(prediction.raw_labels, crop), tf.float32, name=RAW_LABELS)
    tf.expand_dims(prediction.labels, 0, name=LABELS)
    tf.expand_dims(prediction.probabilities, 0, name=PROBABILITIES)


def _name_outputs_of_one_size(raw: RawPrediction) -> None:
    """Adds the named outputs of a graph of one size, where the raw ones are the others."""
    decision = raw.labels.op
    if decision.type == "ArgMax":  # converters look for it at the end of the graph
        labels = tf.argmax(decision.inputs[0], axis=-1, output_type=tf.int64, name=RAW_ARGMAX)
    else:
        labels = tf.cast(raw.labels, tf.int64, name=RAW_ARGMAX)
    tf.cast(labels, tf.int32, name=LABELS)
    tf.cast(labels, tf.float32, name=RAW_LABELS)
    tf.identity(raw.probabilities, name=PROBABILITIES)
    tf.identity(raw.probabilities, name=RAW_PROBABILITIES)


def _raw_argmax(labels: tf.Tensor, crop: Size) -> tf.Tensor:
    """Cuts the labels [h, w] to the crop: int64 [1, *crop].

    Where they are an argmax, this is the argmax of the scores cut to the crop, because converters to mobile formats
    look for that operation at the end of the graph.
    """
    decision = labels.op.inputs[0].op
    if decision.type == "ArgMax":
        scores = decision.inputs[0]
        scores = tf.slice(scores, [0, 0, 0, 0], [1, *crop, scores.shape[-1]])
        return tf.argmax(scores, axis=-1, output_type=tf.int64, name=RAW_ARGMAX)
    return tf.cast(tf.slice(tf.expand_dims(labels, 0), [0, 0, 0], [1, *crop]), tf.int64, name=RAW_ARGMAX)


def _as_definition(graph: tf.Graph) -> tf.compat.v1.GraphDef:
    """The nodes that the outputs need, without attributes at their defaults, some of which are newer than 1.15."""
    definition = tf1.train.export_meta_graph(graph=graph, strip_default_attrs=True).graph_def
    for node in definition.node:
        node.attr.pop("_output_shapes", None)
        node.ClearField("experimental_type")
    return needed_in_order(definition)


def needed_in_order(definition: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
    """The nodes that the outputs need, each after those it reads, as programs other than TensorFlow may expect."""
    nodes = {node.name: node for node in definition.node}
    done: dict[str, None] = {}
    stack = [*reversed(OUTPUTS), GRAPH_IMAGE]
    while stack:
        unread = [name for name in map(_node_of, nodes[stack[-1]].input) if name not in done]
        if unread and stack[-1] not in done:
            stack += reversed(unread)
        else:
            done[stack.pop()] = None
    return tf.compat.v1.GraphDef(node=[nodes[name] for name in done], versions={"producer": PRODUCER})


def _normalized_image(definition: tf.compat.v1.GraphDef) -> str | None:
    """The node of the normalized image: the last of the first normalizing layer.

    None for a backbone that normalizes by itself.
    """
    layers = [(match[0], node) for node in definition.node if (match := _NORMALIZE.match(node.name))]
    nodes = [node.name for layer, node in layers if layer == layers[0][0] and node.op != "Const"]
    return nodes[-1] if nodes else None


def _take_sizes_from(definition: tf.compat.v1.GraphDef, normalized: str) -> None:
    """Makes the operations after the normalized image read the image's size from it, not from the image before.

    The graph can then be cut at that tensor, as converters to other formats do.
    """
    nodes = {node.name: node for node in definition.node}
    before = normalized
    while _NORMALIZE.match(before):
        before = next(name for name in map(_node_of, nodes[before].input) if nodes[name].op != "Const")
    for node in definition.node:
        if node.op == "Shape" and _node_of(node.input[0]) == before:
            node.input[0] = normalized


def _tidy_names(definition: tf.compat.v1.GraphDef, names: Mapping[str, str]) -> dict[str, str]:
    """New names: `names` as given, and for the model's operations those that TensorFlow 1 would have given them.

    `predict/deeplab_1/MobilenetV2.Conv_1/BiasAdd` becomes `MobilenetV2/Conv/BiasAdd` where that is free.
    """
    taken = {node.name for node in definition.node} | set(names.values())
    renamed = dict(names)
    for node in definition.node:
        if node.name not in renamed and _MODEL_SCOPE.match(node.name):
            layer, slash, operation = _MODEL_SCOPE.sub("", node.name).partition("/")
            tidy = re.sub(r"_1$", "", layer).replace(".", "/") + slash + operation if slash else layer
            new = next(name for name in (tidy, node.name) if name not in taken or name == node.name)
            taken.add(new)
            renamed[node.name] = new
    return renamed


def _rename(definition: tf.compat.v1.GraphDef, names: Mapping[str, str]) -> None:
    for node in definition.node:
        node.name = names.get(node.name, node.name)
        for index, tensor in enumerate(node.input):
            old = _node_of(tensor)
            node.input[index] = tensor.replace(old, names.get(old, old), 1)


def _node_of(tensor: str) -> str:
    """`^scope/op:1` -> `scope/op`."""
    return tensor.removeprefix("^").split(":")[0]


def tensors(definition: tf.compat.v1.GraphDef, names: Iterable[str] = (GRAPH_IMAGE, *OUTPUTS)) -> list[TensorInfo]:
    """(name, type, shape) of tensors as TensorFlow infers them, e.g. `("ArgMax:0", "int64", "1 x 513 x 513")`."""
    graph, copy = tf.Graph(), tf.compat.v1.GraphDef()
    copy.CopyFrom(definition)  # importing puts the default attributes back into what is imported
    with graph.as_default():
        tf1.import_graph_def(copy, name="")
    found = [graph.get_tensor_by_name(f"{name}:0") for name in names]
    return [(tensor.name, tensor.dtype.name, shape_text(tensor.shape)) for tensor in found]


def shape_text(shape: tf.TensorShape) -> str:
    """`1 x ? x ? x 21`."""
    return " x ".join("?" if length is None else str(length) for length in shape)
