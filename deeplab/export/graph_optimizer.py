"""Makes the graph of a model with folded batch norm faster, by algebra on its operations.

Three identities for TensorFlow, of which the last two are for other programs as well, and one more for those. Each is
found by its pattern, and not applied where another operation reads an inner result:

- *activate_before_batch_to_space*: TensorFlow computes atrous depthwise convolutions as SpaceToBatchND -> depthwise ->
  BatchToSpaceND. The bias and activation after it are elementwise, so they can come before BatchToSpaceND, where
  TensorFlow fuses them with the convolution.
- *compose_projection*: MobileNetV2's last projection is linear. Where only a 1x1 convolution and the mean of image
  pooling read it, the two convolutions are one, and the mean can be taken before the projection.
- *split_pooled_from_concat*: image pooling gives every pixel the same values. A 1x1 convolution of their concatenation
  with others is the convolution of the others, plus a bias computed once per image.
- *dilate_natively*: SpaceToBatchND -> depthwise -> BatchToSpaceND is one depthwise convolution with dilation, which
  TensorFlow cannot run on a processor but ONNX Runtime, OpenVINO and OpenCV can.

Measured on MobileNetV2 with image pooling, 513x513: 5 % of the time at output stride 16, 7 % at 8.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

Node = Any  # tf.compat.v1.NodeDef
_ACTIVATIONS = ("Relu", "Relu6")


def speed_up(definition: tf.compat.v1.GraphDef) -> None:
    """Applies all identities where they fit. Nodes that are no longer read stay in the graph."""
    graph = _Graph(definition)
    for node in list(definition.node):
        if node.op == "BatchToSpaceND":
            activate_before_batch_to_space(graph, node)
        elif node.op == "Mean":
            compose_projection(graph, node)
        elif node.op == "ConcatV2":
            split_pooled_from_concat(graph, node)


def speed_up_for_others(definition: tf.compat.v1.GraphDef, dilates: bool = True, splits: bool = True) -> None:
    """Applies the identities for programs other than TensorFlow. Nodes that are no longer read stay in the graph.

    Args:
      definition: what is changed.
      dilates: whether atrous depthwise convolutions get dilation; LiteRT's converter does that itself.
      splits: whether image pooling is split from its concatenation; integers are more exact without the sum.
    """
    graph = _Graph(definition)
    for node in list(definition.node):
        if node.op == "BatchToSpaceND" and dilates:
            dilate_natively(graph, node)
        elif node.op == "Mean":
            compose_projection(graph, node)
        elif node.op == "ConcatV2" and splits:
            split_pooled_from_concat(graph, node, as_bias=False)


class _Graph:
    """A graph's nodes by name, their readers, and how to add nodes."""

    def __init__(self, definition: tf.compat.v1.GraphDef):
        self.definition = definition
        self.nodes: dict[str, Node] = {node.name: node for node in definition.node}

    def readers(self, node: Node) -> list[Node]:
        return [other for other in self.definition.node if node.name in other.input]

    def only_reader(self, node: Node, *ops: str) -> Node | None:
        """The only node that reads this one, if it reads it as its first input and is of these operations."""
        found = self.readers(node)
        return found[0] if len(found) == 1 and found[0].op in ops and found[0].input[0] == node.name else None

    def source(self, node: Node, index: int = 0) -> Node:
        """The node whose result is an input of this one."""
        return self.nodes[node.input[index].split(":")[0]]

    def constant(self, node: Node, index: int) -> np.ndarray | None:
        """The value of an input that is a constant."""
        source = self.source(node, index)
        return tf.make_ndarray(source.attr["value"].tensor) if source.op == "Const" else None

    def pointwise(self, node: Node | None) -> np.ndarray | None:
        """The kernel [in, out] of a node that is a 1x1 convolution of stride 1 with constant weights."""
        if node is None or node.op != "Conv2D" or list(node.attr["strides"].list.i) != [1, 1, 1, 1]:
            return None
        kernel = self.constant(node, 1)
        return kernel[0, 0] if kernel is not None and kernel.shape[:2] == (1, 1) else None

    def add(self, like: Node, name: str, *inputs: str) -> str:
        """Adds a copy of a node with another name and other inputs."""
        added = self.definition.node.add()
        added.CopyFrom(like)
        added.name = name
        del added.input[:]
        added.input.extend(inputs)
        self.nodes[name] = added
        return name

    def add_operation(self, op: str, name: str, *inputs: str, **types: tf.DType) -> str:
        """Adds a node of an operation whose attributes are types."""
        node = tf.compat.v1.NodeDef(op=op)
        for attribute, dtype in types.items():
            node.attr[attribute].type = dtype.as_datatype_enum
        return self.add(node, name, *inputs)

    def add_constant(self, name: str, value: np.ndarray) -> str:
        """Adds a constant, unless one of this name exists: the same one, where the model runs at several scales."""
        if name in self.nodes:
            return name
        node = tf.compat.v1.NodeDef(op="Const")
        node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        return self.add(node, name)


def activate_before_batch_to_space(graph: _Graph, restore: Node) -> bool:
    """Moves BatchToSpaceND after the BiasAdd and activation that follow it. Returns whether the pattern was found."""
    bias = graph.only_reader(restore, "BiasAdd")
    activation = graph.only_reader(bias, *_ACTIVATIONS) if bias is not None else None
    if bias is None or activation is None or graph.source(restore).op != "DepthwiseConv2dNative":
        return False
    for reader in graph.readers(activation):
        _replace_input(reader, activation.name, restore.name)
    bias.input[0], restore.input[0] = restore.input[0], activation.name
    return True


def dilate_natively(graph: _Graph, restore: Node) -> bool:
    """Replaces an atrous depthwise convolution by one with dilation. Returns whether the pattern was found."""
    depthwise = graph.source(restore)
    if depthwise.op != "DepthwiseConv2dNative" or depthwise.attr["padding"].s != b"VALID":
        return False
    spread = graph.source(depthwise)
    rate = graph.constant(spread, 1) if spread.op == "SpaceToBatchND" else None
    padding = _padding_of_atrous(graph, spread, restore) if rate is not None else None
    if rate is None or padding is None or list(depthwise.attr["strides"].list.i) != [1, 1, 1, 1]:
        return False
    name = f"{restore.name}/dilated"
    dilated = graph.nodes[graph.add(depthwise, name, spread.input[0], depthwise.input[1])]
    dilated.attr["padding"].s = b"EXPLICIT"
    dilated.attr["explicit_paddings"].list.i[:] = [0, 0, *padding.flatten().tolist(), 0, 0]
    dilated.attr["dilations"].list.i[:] = [1, *rate.tolist(), 1]
    for reader in graph.readers(restore):
        _replace_input(reader, restore.name, name)
    return True


def _padding_of_atrous(graph: _Graph, spread: Node, restore: Node) -> np.ndarray | None:
    """Padding before and after both axes, [2, 2], without what makes the size divisible by the rate.

    Where sizes are known, that rest is what BatchToSpaceND crops; else the graph computes the padding from the one
    constant of this shape.
    """
    padding, crops = graph.constant(spread, 2), graph.constant(restore, 2)
    if padding is not None and crops is not None:
        return padding - crops
    seen, stack, found = set(), [graph.source(spread, 2)], {}
    while stack:
        node = stack.pop()
        if node.name in seen:
            continue
        seen.add(node.name)
        if node.op == "Const":
            value = tf.make_ndarray(node.attr["value"].tensor)
            if value.shape == (2, 2):
                found[node.name] = value
        elif node.op != "Shape":
            stack += [graph.source(node, index) for index in range(len(node.input))]
    return next(iter(found.values())) if len(found) == 1 else None


class _Linear(NamedTuple):
    """A 1x1 convolution and the bias after it: kernel [in, out], offset [out], both float64."""

    convolution: Node
    bias: Node
    kernel: np.ndarray
    offset: np.ndarray


def _linear(graph: _Graph, bias: Node | None) -> _Linear | None:
    """The 1x1 convolution and bias that end in this BiasAdd, or None."""
    if bias is None or bias.op != "BiasAdd":
        return None
    convolution, offset = graph.source(bias), graph.constant(bias, 1)
    kernel = graph.pointwise(convolution)
    if kernel is None or offset is None or len(graph.readers(convolution)) > 1:
        return None
    return _Linear(convolution, bias, kernel.astype(np.float64), offset.astype(np.float64))


def compose_projection(graph: _Graph, mean: Node) -> bool:
    """Composes a projection with the 1x1 convolution that reads it, where that saves work. Returns whether it did."""
    projection = _linear(graph, graph.source(mean))
    if projection is None or not _is_global(graph, mean):
        return False
    readers = [node for node in graph.readers(projection.bias) if node.op != "Shape" and node.name != mean.name]
    second = _linear(graph, graph.only_reader(readers[0], "BiasAdd")) if len(readers) == 1 else None
    if second is None:
        return False
    kernel = projection.kernel @ second.kernel
    if kernel.size >= projection.kernel.size + second.kernel.size:
        return False
    _project_after(graph, mean, projection)
    before = projection.convolution.input[0]
    for reader in graph.readers(projection.bias):  # the mean, the second convolution, and readers of height and width
        _replace_input(reader, projection.bias.name, before)
    offset = projection.offset @ second.kernel + second.offset
    _set_constant(graph, second.convolution, kernel[np.newaxis, np.newaxis], "composed")
    _set_constant(graph, second.bias, offset, "composed")
    return True


def _project_after(graph: _Graph, mean: Node, projection: _Linear) -> None:
    """Makes the readers of a mean read its projection instead."""
    name = f"{mean.name}/projection"
    readers = graph.readers(mean)
    graph.add(projection.convolution, name, mean.name, projection.convolution.input[1])
    graph.add(projection.bias, f"{name}/BiasAdd", name, projection.bias.input[1])
    for reader in readers:
        _replace_input(reader, mean.name, f"{name}/BiasAdd")


def split_pooled_from_concat(graph: _Graph, concat: Node, as_bias: bool = True) -> bool:
    """Takes pooled values out of a concatenation before a 1x1 convolution. Returns whether the pattern was found.

    Args:
      graph: what is changed.
      concat: the concatenation.
      as_bias: whether the pooled values' part is added as a bias, which TensorFlow fuses with the convolution; else its
        negative is subtracted, since other programs want constants as biases, and OpenCV 5 refuses a sum of maps of
        different sizes after a convolution.
    """
    convolution = graph.only_reader(concat, "Conv2D")
    merged = _linear(graph, graph.only_reader(convolution, "BiasAdd")) if convolution is not None else None
    resize, others = graph.source(concat), list(concat.input)[1:-1]
    if merged is None or resize.op != "ResizeBilinear" or not others:
        return False
    channels = _channels_of_pooled(graph, graph.source(resize))
    if channels is None:
        return False
    kernel = merged.kernel[np.newaxis, np.newaxis]
    name = f"{merged.convolution.name}_of_pooled"
    pooled = graph.nodes[graph.add(merged.convolution, name, resize.input[0], merged.convolution.input[1])]
    of_pooled = kernel[:, :, :channels]
    _set_constant(graph, pooled, of_pooled if as_bias else -of_pooled, "of_pooled")
    _set_constant(graph, merged.convolution, kernel[:, :, channels:], "of_others")
    if as_bias:
        shape = graph.add_constant(f"{name}/shape", np.array([-1], np.int32))
        graph.add_operation("Reshape", f"{name}/flat", name, shape, T=tf.float32, Tshape=tf.int32)
        total = graph.add_operation("AddV2", f"{name}/sum", merged.bias.input[1], f"{name}/flat", T=tf.float32)
        merged.bias.input[1] = total
    else:
        graph.add(merged.bias, f"{name}/BiasAdd", name, merged.bias.input[1])
        _set_constant(graph, graph.nodes[f"{name}/BiasAdd"], -merged.offset, "of_pooled")
        merged.bias.input[1] = f"{name}/BiasAdd"
        merged.bias.op = "Sub"
        merged.bias.attr.pop("data_format", None)
    merged.convolution.input[0] = others[0]
    if len(others) > 1:
        rest = graph.add(concat, f"{concat.name}_of_others", *others, concat.input[-1])
        graph.nodes[rest].attr["N"].i = len(others)
        merged.convolution.input[0] = rest
    return True


def _channels_of_pooled(graph: _Graph, node: Node) -> int | None:
    """Channels of a 1x1 feature map: the image's mean, perhaps after 1x1 convolutions. None for other nodes."""
    channels = None
    while node.op in (*_ACTIVATIONS, "BiasAdd", "Conv2D"):
        kernel = graph.pointwise(node)
        if node.op == "Conv2D" and kernel is None:
            return None
        channels = kernel.shape[1] if channels is None and kernel is not None else channels
        node = graph.source(node)
    return channels if node.op == "Mean" and _is_global(graph, node) else None


def _is_global(graph: _Graph, mean: Node) -> bool:
    """Whether a mean is taken over height and width and keeps both axes."""
    axes = graph.constant(mean, 1)
    return axes is not None and axes.tolist() == [1, 2] and mean.attr["keep_dims"].b


def _set_constant(graph: _Graph, node: Node, value: np.ndarray, suffix: str) -> None:
    """Replaces the constant of a convolution or bias; the new one is float32 and named after the old one."""
    node.input[1] = graph.add_constant(f"{node.input[1]}_{suffix}", value.astype(np.float32))


def _replace_input(node: Node, old: str, new: str) -> None:
    for index, tensor in enumerate(node.input):
        if tensor == old:
            node.input[index] = new
