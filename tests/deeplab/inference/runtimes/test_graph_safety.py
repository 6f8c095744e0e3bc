"""Model files that do more than predict are refused before they run."""

import pathlib
import time

import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises
from support.runtime_battery import IMAGE
from support.small_graphs import Threshold, freeze, threshold_graph

from deeplab.inference.load import load
from deeplab.inference.runtimes import graph_safety


def read(image):
    text = tf.io.read_file("/etc/hostname")
    return tf.cast(image[..., 0], tf.int64) * 0 + tf.cast(tf.strings.length(text), tf.int64)


def write(target):
    def labels_of(image):
        with tf.control_dependencies([tf.raw_ops.WriteFile(filename=target, contents="x")]):
            return tf.cast(image[..., 0], tf.int64) * 0

    return labels_of


def inside_a_function(image):
    return tf.map_fn(lambda one: read(one[tf.newaxis])[0], image, fn_output_signature=tf.int64)


def inside_a_condition(image):
    return tf.cond(tf.reduce_all(image > 3), lambda: read(image), lambda: tf.cast(image[..., 0], tf.int64))


def python(image):
    return tf.numpy_function(lambda x: x[..., 0].astype(np.int64), [image], tf.int64)


def printed_into_a_file(image):
    with tf.control_dependencies([tf.print("x", output_stream="file:///tmp/never")]):
        return tf.cast(image[..., 0], tf.int64) * 0


def variables_of_others(image):
    found = tf.raw_ops.RestoreV2(prefix="/x", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.int64])
    return tf.cast(image[..., 0], tf.int64) * 0 + found[0]


def dataset(image):
    texts = tf.raw_ops.TextLineDataset(filenames="/etc/hostname", compression_type="", buffer_size=1)
    size = tf.raw_ops.DatasetCardinality(input_dataset=texts)
    return tf.cast(image[..., 0], tf.int64) * 0 + size


@pytest.mark.parametrize(
    "labels_of",
    [read, inside_a_function, inside_a_condition, python, printed_into_a_file, variables_of_others, dataset],
)
def test_operations_beyond_prediction_are_refused(labels_of, tmp_path):
    path = freeze(tmp_path / "graph.pb", labels_of=labels_of, with_probabilities=False)
    with raises("unsafe-operation", where=path) as caught:
        load(path)
    assert "`trust_model=true`" in caught.value.hint


def test_a_trusted_file_runs(tmp_path):
    target = tmp_path / "written"
    path = freeze(tmp_path / "graph.pb", labels_of=write(str(target)), with_probabilities=False)
    with raises("unsafe-operation", where=path) as caught:
        load(path)
    assert caught.value.value == "WriteFile" and not target.exists()
    load(path, {"trust_model": True}).predict(IMAGE)
    assert target.read_text() == "x"


def test_operations_that_prediction_does_not_reach_are_left_out(tmp_path):
    definition = threshold_graph()
    with tf.Graph().as_default() as other:
        tf.raw_ops.ReadFile(filename="/etc/hostname", name="unused")
    definition.node.extend(other.as_graph_def().node)
    (tmp_path / "graph.pb").write_bytes(definition.SerializeToString())
    assert load(tmp_path / "graph.pb").predict(IMAGE).labels.any()


class Writer(Threshold):
    """A SavedModel that writes a file when it is called."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
    def serve(self, images):
        tf.raw_ops.WriteFile(filename="/tmp/never", contents="x")
        return {"SemanticPredictions": tf.cast(images[..., 0], tf.int32) * 0}


class ReadsAtLoad(Threshold):
    """A SavedModel whose table reads a file when it is loaded."""

    def __init__(self, file):
        super().__init__()
        names = tf.lookup.TextFileInitializer(
            file, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self.table = tf.lookup.StaticHashTable(names, -1)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
    def serve(self, images):
        known = tf.cast(self.table.lookup(tf.constant("a")), tf.int32)
        return {"SemanticPredictions": tf.cast(images[..., 0], tf.int32) * 0 + known * 0}


def test_saved_models_too(tmp_path):
    (tmp_path / "words.txt").write_text("a\nb\n")
    for name, module in (("writer", Writer()), ("reader", ReadsAtLoad(str(tmp_path / "words.txt")))):
        tf.saved_model.save(module, str(tmp_path / name), {"serving_default": module.serve})
        with raises("unsafe-operation", where=tmp_path / name):
            load(tmp_path / name)
    assert not pathlib.Path("/tmp/never").exists()
    assert load(tmp_path / "reader", {"trust_model": True}).predict(IMAGE).labels.shape == IMAGE.shape[:2]


def test_an_endless_loop_ends(tmp_path, monkeypatch):
    def labels_of(image):
        total = tf.while_loop(
            lambda i: i >= 0, lambda i: tf.math.floormod(i + 1, 5), [tf.reduce_max(image[..., 0]) // 255]
        )
        return tf.cast(image[..., 0] + tf.cast(total[0], tf.uint8), tf.int64)

    path = freeze(tmp_path / "graph.pb", labels_of=labels_of, with_probabilities=False)
    monkeypatch.setattr(graph_safety, "SECONDS", 1.0)
    started = time.monotonic()
    with raises("time-limit", where=path):
        load(path).predict(IMAGE)
    assert time.monotonic() - started < 20


def test_loops_that_end_are_harmless(tmp_path):
    def labels_of(image):
        return tf.map_fn(lambda row: tf.cast(row[..., 0] > 100, tf.int64), image[0], fn_output_signature=tf.int64)[None]

    predictor = load(freeze(tmp_path / "graph.pb", labels_of=labels_of, with_probabilities=False))
    np.testing.assert_array_equal(predictor.predict(IMAGE).labels, IMAGE[..., 0] > 100)


def test_functions_that_call_themselves(tmp_path):
    definition = threshold_graph()
    function = definition.library.function.add()
    function.signature.name = "again"
    function.signature.input_arg.add(name="x", type=9)
    function.signature.output_arg.add(name="y", type=9)
    node = function.node_def.add(name="inner", op="again", input=["x"])
    function.ret["y"] = "inner:y:0"
    labels = next(node for node in definition.node if node.name == "SemanticPredictions")
    labels.name = "before"
    definition.node.add(name="SemanticPredictions", op="again", input=["before"])
    (tmp_path / "graph.pb").write_bytes(definition.SerializeToString())
    with raises("damaged-model", where="graph.pb") as caught:
        load(tmp_path / "graph.pb")
    assert caught.value.value == "again" and node.op == "again"


def test_unknown_operations_are_named(tmp_path):
    definition = threshold_graph()
    next(node for node in definition.node if node.name == "SemanticPredictions").op = "MyOwnOp"
    (tmp_path / "graph.pb").write_bytes(definition.SerializeToString())
    with raises("unknown-operation", where="graph.pb") as caught:
        load(tmp_path / "graph.pb")
    assert caught.value.value == "MyOwnOp"


def test_constants_that_are_not_finite(tmp_path):
    def labels_of(image):
        kernel = tf.constant(np.full([3, 16], np.nan, np.float32), name="logits/semantic/weights")
        return tf.argmax(tf.tensordot(tf.cast(image, tf.float32), kernel, 1), -1)

    path = freeze(tmp_path / "graph.pb", labels_of=labels_of)
    with raises("not-finite", where=path) as caught:
        load(path)
    assert caught.value.value == "logits/semantic/weights"
