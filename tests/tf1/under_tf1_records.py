"""Reads or writes TFRecords; run by the tests with a Python 3.7, see tf1_runner.py."""

import numpy as np
import tensorflow as tf

TEXTS = (
    "image/encoded",
    "image/filename",
    "image/format",
    "image/segmentation/class/encoded",
    "image/segmentation/class/format",
)
NUMBERS = ("image/height", "image/width", "image/channels")


def read(path):
    """All examples, parsed and decoded by a TensorFlow 1 input pipeline."""
    keys = {key: tf.FixedLenFeature((), tf.string) for key in TEXTS}
    keys.update({key: tf.FixedLenFeature((), tf.int64) for key in NUMBERS})
    example = tf.data.TFRecordDataset(path).map(lambda one: tf.parse_single_example(one, keys))
    values = tf.data.make_one_shot_iterator(example).get_next()
    values["image"] = tf.image.decode_image(values["image/encoded"], channels=3)
    values["label"] = tf.image.decode_image(values["image/segmentation/class/encoded"], channels=1)
    found, number = {}, 0
    with tf.Session() as session:
        while True:
            try:
                one = session.run(values)
            except tf.errors.OutOfRangeError:
                return dict(found, count=number)
            # bytes as uint8: NumPy's own bytes type drops zeros at the end
            found.update({f"{number}:{key}": as_array(value) for key, value in one.items()})
            number += 1


def as_array(value):
    """Bytes as uint8 [length], anything else as it is."""
    return np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value


def write(path, inputs):
    """Examples with the reference's keys, written by TensorFlow 1."""
    with tf.python_io.TFRecordWriter(path) as writer:
        for number in range(int(inputs["count"])):
            feature = {}
            for key in TEXTS:
                content = inputs[f"{number}:{key}"].tobytes()
                feature[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
            for key in NUMBERS:
                value = int(inputs[f"{number}:{key}"])
                feature[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def run(inputs):
    """`read` returns what the file holds; `write` puts the given examples there."""
    path = str(inputs["path"])
    if str(inputs["mode"]) == "read":
        return read(path)
    write(path, inputs)
    return {}
