"""Frozen graphs as Predictors."""

import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises
from support.runtime_battery import IMAGE, RuntimeBattery
from support.small_graphs import freeze, threshold_graph

from deeplab.config.data_config import ResizeConfig
from deeplab.inference.fixed_size import FixedInput
from deeplab.inference.load import load


class TestBattery(RuntimeBattery):
    name = "frozen_graph"

    @pytest.fixture(scope="class")
    def path(self, tmp_path_factory):
        return freeze(tmp_path_factory.mktemp("graph") / "graph.pb")


class TestWithoutProbabilities(RuntimeBattery):
    name = "frozen_graph"
    has_probabilities = False

    @pytest.fixture(scope="class")
    def path(self, tmp_path_factory):
        return freeze(tmp_path_factory.mktemp("graph") / "graph.pb", with_probabilities=False)


def test_labels_and_probabilities(tmp_path):
    predictor = load(freeze(tmp_path / "graph.pb"))
    labels, probabilities = predictor.predict(IMAGE)
    np.testing.assert_array_equal(labels, IMAGE[..., 0] > 100)
    np.testing.assert_allclose(probabilities[..., 1], IMAGE[..., 0] / 255, atol=1e-6)
    assert predictor.class_names == ("class_0", "class_1")


def test_without_probabilities_the_classes_are_unknown(tmp_path):
    predictor = load(freeze(tmp_path / "graph.pb", with_probabilities=False))
    assert predictor.class_names == () and predictor.num_classes is None


def test_larger_than_its_crop(tmp_path):
    path = freeze(tmp_path / "graph.pb", assert_within=33)
    with raises("larger-than-crop", where=path) as caught:
        load(path).predict(IMAGE, False)
    assert caught.value.value == (33, 40) and "`shrink_large_images=true`" in caught.value.hint
    shrinking = load(path, shrink_large_images=True)
    labels, probabilities = shrinking.predict(np.full([66, 80, 3], 200, np.uint8))
    assert labels.shape == (66, 80) and (labels == 1).all() and probabilities.shape == (66, 80, 2)


def test_damaged_and_foreign(tmp_path):
    (tmp_path / "empty.pb").touch()
    with tf.Graph().as_default() as graph:
        tf.compat.v1.placeholder(tf.float32, [1], name="input")
    (tmp_path / "other.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with raises("damaged-model", where="empty.pb"):
        load(tmp_path / "empty.pb")
    with raises("not-a-deeplab-model", where="other.pb") as caught:
        load(tmp_path / "other.pb")
    assert caught.value.value == ["input"]


def test_thousand_mutations_never_end_in_a_traceback(tmp_path):
    """Damaged graphs are refused, or they predict: nothing else. (Mutations that crash TensorFlow itself: none.)"""
    whole = (tmp_path / "whole.pb", freeze(tmp_path / "whole.pb"))[0].read_bytes()
    draw = np.random.default_rng(5)
    refused = 0
    for number in range(60):
        content = bytearray(whole)
        for position in draw.integers(0, len(content), 1 + number % 4):
            content[position] = draw.integers(256)
        (tmp_path / "mutated.pb").write_bytes(content)
        try:
            load(tmp_path / "mutated.pb").predict(IMAGE)
        except Exception as error:
            assert type(error).__name__ in ("UserError", "LargerThanCrop"), (number, error)
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("size", [(10**9, 33), (33, 40), None], ids=["huge", "another", "no description"])
def test_a_description_of_another_input_is_refused(tmp_path, size):
    definition, path = threshold_graph(), tmp_path / "graph.pb"  # it takes images of any size
    text = FixedInput(size, (127.5,) * 3, ResizeConfig()).to_json() if size else "[1"
    node = definition.node.add(name="deeplab.json", op="Const")
    node.attr["dtype"].type = tf.string.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(text))
    path.write_bytes(definition.SerializeToString())
    with raises("damaged-model", where=path):
        load(path)
