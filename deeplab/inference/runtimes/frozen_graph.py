"""Frozen graphs: ours, the research DeepLab's, its model zoo's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from deeplab.config.fields import Size
from deeplab.inference.runtimes import DESCRIPTION_FILE, RUNTIMES, LoadOptions, Runtime
from deeplab.inference.tensor_names import GRAPH_IMAGE, LABELS, PROBABILITIES, RAW_ARGMAX, RAW_LABELS
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_file

if TYPE_CHECKING:
    import tensorflow as tf

    from deeplab.inference.fixed_size import FixedInput
    from deeplab.inference.predictor import Predictor

RAW = (RAW_LABELS, RAW_ARGMAX)  # labels before cropping, whose shape shows the crop size
_HINT = "copy the file again, or export the model again"


def recognizes(path: str) -> bool:
    """Whether this is a `.pb` file other than a SavedModel's."""
    return path.endswith(".pb") and os.path.basename(path) != "saved_model.pb" and os.path.isfile(path)


def load(path: str, options: LoadOptions) -> Predictor:
    """Load a frozen graph with `ImageTensor:0` -> `SemanticPredictions:0`, whichever TensorFlow wrote it.

    Raises:
      UserError: the file is missing, truncated, not a graph, a graph with other tensors, or unsafe.
    """
    import tensorflow as tf

    from deeplab.inference.file_predictor import FilePredictor, bands_beside, first_line
    from deeplab.inference.fixed_size import FixedSizePredictor
    from deeplab.inference.runtimes import graph_safety

    definition = _read_definition(path)
    names = {node.name for node in definition.node}
    outputs = [LABELS, *([PROBABILITIES] if PROBABILITIES in names else [])]
    try:
        fixed = _description(definition)
        kept = [GRAPH_IMAGE, *outputs, *names.intersection(RAW)]
        definition, has_loops = graph_safety.check_graph(definition, kept, path, options.trust_model)
        wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(definition, name=""), [])
        fetches = [f"{name}:0" for name in outputs]
        labels_only, both = (wrapped.prune(f"{GRAPH_IMAGE}:0", some) for some in (fetches[:1], fetches))
        scores = wrapped.graph.get_tensor_by_name(fetches[1]).shape if len(fetches) > 1 else None
        num_classes = scores[-1] if scores is not None and scores.rank == 4 else None
        max_size = _crop_of(wrapped.graph)
        image = wrapped.graph.get_tensor_by_name(f"{GRAPH_IMAGE}:0")
        channels = image.shape[-1] if image.shape.rank == 4 else None
        if fixed:
            fixed.require_input(image.shape.as_list(), image.dtype.name)
        bands = bands_beside(path, channels, image.dtype.name)
    except UserError:
        raise
    except Exception as error:  # damaged bytes raise ValueError, KeyError, TypeError, OpError and others
        rule = f"is a damaged graph, or one of another TensorFlow: {first_line(error)}"
        raise UserError("damaged-model", rule, _HINT, where=path) from error

    def run(image: np.ndarray, probabilities: bool) -> tuple[np.ndarray, np.ndarray | None]:
        function = both if probabilities else labels_only
        limited = has_loops and not options.trust_model
        found = graph_safety.run_limited(lambda: function(tf.constant(image)), path, limited, image.size / 3e6)
        return found[0].numpy(), found[1].numpy() if len(found) > 1 else None

    if fixed:
        return FixedSizePredictor(path, run, num_classes, fixed)
    return FilePredictor(path, run, num_classes, max_size, bands)


def _read_definition(path: str) -> tf.compat.v1.GraphDef:
    """Read a graph.

    Raises:
      UserError: it is damaged or empty (`damaged-model`), or lacks the image or the labels (`not-a-deeplab-model`).
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(read_file(path))
    except (DecodeError, RecursionError):
        raise UserError("damaged-model", "is not a frozen graph, or a truncated one", _HINT, where=path) from None
    if not definition.node:
        raise UserError("damaged-model", "is an empty graph", _HINT, where=path)
    if not {GRAPH_IMAGE, LABELS} <= {node.name for node in definition.node}:
        inputs = [node.name for node in definition.node if node.op == "Placeholder"]
        rule = (
            f"is not a DeepLab graph: it needs the tensors {GRAPH_IMAGE}:0 and {LABELS}:0, and its inputs are {inputs}"
        )
        hint = "export the model with export_model.py"
        raise UserError("not-a-deeplab-model", rule, hint, where=path, value=inputs)
    return definition


def _description(definition: tf.compat.v1.GraphDef) -> FixedInput | None:
    """What a graph of one size says about its input; None for other graphs. Damage raises several exceptions."""
    import tensorflow as tf

    from deeplab.inference.fixed_size import FixedInput

    node = next((node for node in definition.node if node.name == DESCRIPTION_FILE), None)
    return None if node is None else FixedInput.from_json(tf.make_ndarray(node.attr["value"].tensor).item())


def _crop_of(graph: tf.Graph) -> Size | None:
    """The size to which the graph pads its input, as far as the shapes of its tensors show it."""
    for name in (*RAW, PROBABILITIES):
        try:
            shape = graph.get_tensor_by_name(f"{name}:0").shape
        except (KeyError, ValueError):
            continue
        if shape.rank and shape.rank >= 3 and None not in shape[1:3].as_list():
            height, width = shape[1:3].as_list()
            return height, width
    return None


RUNTIMES.register("frozen_graph")(Runtime(recognizes, load))
