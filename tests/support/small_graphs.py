"""Small model files: class 1 where red is above 100."""

import pathlib

import tensorflow as tf


def threshold_graph(with_probabilities=True, assert_within=None, labels_of=None) -> tf.compat.v1.GraphDef:
    """A graph with the tensors of the research DeepLab's.

    Args:
      with_probabilities: whether it has `SemanticProbabilities`.
      assert_within: pixels beyond which it stops, as graphs with a crop size do.
      labels_of: makes the labels from the image tensor uint8 [1, H, W, 3] instead.
    """
    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.uint8, [1, None, None, 3], name="ImageTensor")
        red = tf.cast(image[..., 0], tf.float32)
        if assert_within:
            fits = tf.reduce_all(tf.shape(image)[1:3] <= assert_within)
            with tf.control_dependencies([tf.debugging.Assert(fits, ["too large"])]):
                red = tf.identity(red)
            tf.zeros([1, assert_within, assert_within], name="RawSemanticPredictions")
        labels = labels_of(image) if labels_of else tf.cast(red > 100, tf.int64)
        tf.identity(labels, name="SemanticPredictions")
        if with_probabilities:
            tf.stack([1 - red / 255, red / 255], -1, name="SemanticProbabilities")
    return graph.as_graph_def()


def freeze(path: pathlib.Path, **options) -> str:
    """Write `threshold_graph` into a file; its path."""
    path.write_bytes(threshold_graph(**options).SerializeToString())
    return str(path)


class Threshold(tf.Module):
    """A SavedModel with the signature of our exports, and others."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
    def serve(self, images):
        red = tf.cast(images[..., 0], tf.float32) / 255
        labels = tf.cast(images[..., 0] > 100, tf.int32)
        return {"SemanticPredictions": labels, "SemanticProbabilities": tf.stack([1 - red, red], -1)}

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, "ImageTensor")])
    def labels_alone(self, image):
        return {"SemanticPredictions": tf.cast(image[..., 0] > 100, tf.int32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def other(self, x):
        return {"y": x}


def save_model(folder: pathlib.Path, signature: str = "serve") -> str:
    """Write a SavedModel of one of those signatures; its path."""
    module = Threshold()
    tf.saved_model.save(module, str(folder), {"serving_default": getattr(module, signature)})
    return str(folder)
