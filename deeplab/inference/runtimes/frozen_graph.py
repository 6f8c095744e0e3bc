"""Exported models as functions of a picture: frozen graphs (ours, the research DeepLab's, its zoo's), SavedModels."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from deeplab.data.dataset import Color
from deeplab.inference.prediction import LargerThanCrop
from deeplab.utils.errors import UserError

INPUT = "ImageTensor"
LABELS = "SemanticPredictions"
PROBABILITIES = "SemanticProbabilities"
LABELS_FILE, CONTRACT_FILE = "labels.txt", "contract.json"

# Answer of an exported model to uint8 [1, H, W, 3]: labels [1, H, W], and where it has them probabilities
# float32 [1, H, W, classes].
Answer = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Graph:
    """An exported model.

    Attributes:
      path: where it lies.
      run: (uint8 [1, H, W, 3], whether probabilities are wanted) -> `Answer`.
      num_classes: None where the export does not say.
      crop_size: height, width of its network's input, which pictures must not exceed; None where any size goes.
    """

    path: str
    run: Callable[[np.ndarray, bool], Answer]
    num_classes: int | None
    crop_size: tuple[int, int] | None

    def answer(self, image: np.ndarray, probabilities: bool) -> Answer:
        """Labels int32 [H, W] and probabilities float32 [H, W, classes] (None if unwanted or not there) of a picture.

        Args:
          image: uint8 [H, W, 3], RGB.
          probabilities: whether they are wanted.

        Raises:
          LargerThanCrop: the picture is larger than the graph's crop.
        """
        try:
            labels, scores = self.run(image[np.newaxis], probabilities)
        except tf.errors.InvalidArgumentError as fault:
            raise self._refusal(image, fault) from None
        return np.asarray(labels)[0].astype(np.int32), None if scores is None else np.asarray(scores)[0]

    def _refusal(self, image: np.ndarray, fault: Exception) -> UserError:
        height, width = image.shape[:2]
        crop = self.crop_size
        if crop and (height > crop[0] or width > crop[1]):
            rule = f"takes pictures up to {crop[0]}x{crop[1]} (height x width); this one is {height}x{width}"
            hint = (
                "`shrink_large_images=true` shrinks such pictures to fit and enlarges their masks again; sharper: "
                f"export anew with `crop_size={height},{width}`, or predict from the checkpoint, which takes any size"
            )
            return LargerThanCrop("unclassified", rule, hint, where=self.path)
        return UserError(
            "unclassified", f"cannot run on a picture of {height}x{width}: {_first_line(fault)}", where=self.path
        )


def load_frozen(path: str) -> Graph:
    """A frozen graph with `ImageTensor:0` -> `SemanticPredictions:0`, whichever TensorFlow wrote it.

    Raises:
      UserError: the file is missing, cut off, no graph, or a graph with other tensors.
    """
    definition = _read_definition(path)
    names = {node.name for node in definition.node}
    if INPUT not in names or LABELS not in names:
        inputs = [node.name for node in definition.node if node.op == "Placeholder"]
        rule = f"is no DeepLab graph: it needs the tensors {INPUT}:0 and {LABELS}:0, and its inputs are {inputs}"
        raise UserError("unclassified", rule, "export one: python deeplab/export_model.py", where=path)
    fetches = [f"{LABELS}:0"] + ([f"{PROBABILITIES}:0"] if PROBABILITIES in names else [])
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(definition, name=""), [])
    graph = wrapped.graph
    labels_only = wrapped.prune(f"{INPUT}:0", fetches[:1])
    both = wrapped.prune(f"{INPUT}:0", fetches)

    def run(image: np.ndarray, probabilities: bool) -> Answer:
        answers = (both if probabilities else labels_only)(tf.constant(image))
        return answers[0].numpy(), answers[1].numpy() if len(answers) > 1 else None

    scores = graph.get_tensor_by_name(fetches[1]) if len(fetches) > 1 else None
    return Graph(path, run, scores.shape[-1] if scores is not None else None, _crop_of(graph))


def _read_definition(path: str) -> tf.compat.v1.GraphDef:
    from google.protobuf.message import DecodeError

    definition = tf.compat.v1.GraphDef()
    try:
        with open(path, "rb") as file:
            definition.ParseFromString(file.read())
    except OSError as fault:
        raise UserError("unclassified", f"cannot be read: {fault.strerror or fault}", where=path) from None
    except DecodeError:
        raise UserError(
            "unclassified", "is no frozen graph, or a truncated one", "copy the file again, or export anew", where=path
        ) from None
    if not definition.node:
        raise UserError("unclassified", "is an empty graph", "copy the file again, or export anew", where=path)
    return definition


def _crop_of(graph: tf.Graph) -> tuple[int, int] | None:
    """The size the network's input is padded to, as far as the graph says."""
    for name in ("RawSemanticPredictions", "ArgMax", "SemanticProbabilities"):
        try:
            shape = graph.get_tensor_by_name(f"{name}:0").shape
        except (KeyError, ValueError):
            continue
        if shape.rank and shape.rank >= 3 and None not in shape[1:3].as_list():
            return tuple(shape[1:3].as_list())
    return None


def load_saved_model(folder: str) -> Graph:
    """A SavedModel whose `serving_default` takes one uint8 image and gives labels.

    Raises:
      UserError: damaged, or with another signature; the message shows the one it has.
    """
    try:
        loaded = tf.saved_model.load(folder)
    except (OSError, ValueError, tf.errors.OpError) as fault:
        raise UserError(
            "unclassified", f"cannot be loaded as a SavedModel: {_first_line(fault)}", "export anew", where=folder
        ) from None
    signature = loaded.signatures.get("serving_default")
    inputs = list(signature.structured_input_signature[1].values()) if signature else []
    outputs = dict(signature.structured_outputs) if signature else {}
    labels, scores = _find(outputs, LABELS, "labels"), _find(outputs, PROBABILITIES, "probabilities")
    if len(inputs) != 1 or inputs[0].dtype != tf.uint8 or labels is None:
        shown = f"inputs {[(i.name, i.dtype.name) for i in inputs]}, outputs {sorted(outputs)}"
        rule = f"its serving_default must take one uint8 image and give {LABELS}; it has {shown}"
        raise UserError("unclassified", rule, "export one: python deeplab/export_model.py", where=folder)

    def run(image: np.ndarray, probabilities: bool) -> Answer:
        _ = loaded  # the variables live as long as it does
        answers = signature(**{inputs[0].name: tf.constant(image)})
        return answers[labels].numpy(), answers[scores].numpy() if scores and probabilities else None

    return Graph(folder, run, outputs[scores].shape[-1] if scores else None, None)


def _find(outputs: dict, *names: str) -> str | None:
    by_lower = {name.lower(): name for name in outputs}
    return next((by_lower[name.lower()] for name in names if name.lower() in by_lower), None)


def classes_beside(path: str) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Names and colors of the classes from the files that an export writes beside itself; empty where there are none.

    Args:
      path: a frozen graph, or a SavedModel's folder.
    """
    if os.path.isdir(path):
        folders, stem = [os.path.join(path, "assets"), os.path.dirname(path.rstrip(os.sep)) or "."], ""
    else:
        folders, stem = [os.path.dirname(path) or "."], os.path.splitext(os.path.basename(path))[0]
    for folder in folders:
        for name in (f"{stem}_{CONTRACT_FILE}", CONTRACT_FILE):
            described = _read_contract(os.path.join(folder, name))
            if described[0]:
                return described
    for folder in folders:
        names = _read_labels(os.path.join(folder, LABELS_FILE))
        if names:
            return names, ()
    return (), ()


def _read_contract(path: str) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        names = tuple(map(str, content["classes"]))
        colors = content.get("colors", content.get("colours"))  # the second spelling: written before version 0.2
        return names, tuple((int(red), int(green), int(blue)) for red, green, blue in colors)
    except (OSError, ValueError, KeyError, TypeError):  # of another program
        return (), ()


def _read_labels(path: str) -> tuple[str, ...]:
    """One name a line; numbers before the names are dropped where they are the lines' own."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file if line.strip()]
    except (OSError, ValueError):
        return ()
    numbered = [re.fullmatch(rf"{index}[\s:]+(.+)", line) for index, line in enumerate(lines)]
    return tuple(match[1] for match in numbered if match) if all(numbered) else tuple(lines)


def _first_line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:200]
