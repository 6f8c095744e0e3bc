"""Runs a frozen graph; run by the tests with a Python 3.7, see tf1_runner.py."""

import tensorflow as tf

USUAL = (
    "SemanticPredictions",
    "SemanticProbabilities",
    "RawSemanticPredictions",
    "RawSemanticProbabilities",
    "ArgMax",
)


def run(inputs):
    """Feeds `image` into ImageTensor and returns the outputs by name."""
    definition = tf.GraphDef()
    with open(str(inputs["graph"]), "rb") as file:
        definition.ParseFromString(file.read())
    present = {node.name for node in definition.node}
    names = [str(name) for name in inputs["outputs"]] or [name for name in USUAL if name in present]
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
        with tf.Session(graph=graph) as session:
            return session.run({name: name + ":0" for name in names}, {"ImageTensor:0": inputs["image"]})
