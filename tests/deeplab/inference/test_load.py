"""From what a person has to something that predicts."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from support import golden_recipe

from deeplab import checkpoint
from deeplab.checkpoint import manager
from deeplab.config import run_file
from deeplab.config.model_config import ModelConfig
from deeplab.inference import checkpoint_model, load
from deeplab.inference.runtimes import frozen_graph
from deeplab.utils.errors import UserError

IMAGE = golden_recipe.image(33, 40)[0]


class TestSettings:
    def test_saved_settings_come_from_beside_the_checkpoint(self, small_run):
        settings = checkpoint_model.resolve(
            {"output_stride": 8}, checkpoint.open(small_run / "model.ckpt-7"), [ModelConfig]
        )
        assert settings["depth_multiplier"] == 0.25 and settings["output_stride"] == 8
        assert settings["class_names"] == ["ground", "disc", "square"]

    def test_a_contradiction_is_refused(self, small_run):
        with pytest.raises(UserError, match=r"--depth_multiplier=0\.5, trained with 0\.25"):
            checkpoint_model.resolve(
                {"depth_multiplier": 0.5}, checkpoint.open(small_run / "model.ckpt-7"), [ModelConfig]
            )

    def test_without_config_the_variables_tell(self, small_run, tmp_path, capsys):
        for file in small_run.glob("model.ckpt-7.*"):
            shutil.copy(file, tmp_path)
        settings = checkpoint_model.resolve({}, checkpoint.open(tmp_path / "model.ckpt-7"), [ModelConfig])
        assert settings["depth_multiplier"] == 0.25 and settings["aspp_convs_filters"] == 32
        assert "has no config.yml beside it; its variables show mobilenet_v2" in capsys.readouterr().err

    def test_no_head(self, tmp_path):
        prefix = manager.save_step(tmp_path, 1, {"MobilenetV2/Conv/weights": np.zeros([3, 3, 3, 32], np.float32)})
        with pytest.raises(UserError, match=r"no segmentation head.*\n.*tf_initial_checkpoint"):
            checkpoint_model.classes_in(prefix)


def freeze(path, with_probabilities=True, assert_within=None):
    """A frozen graph as the reference's: class 1 where red is above 100; dies beyond `assert_within` pixels."""
    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.uint8, [1, None, None, 3], name="ImageTensor")
        red = tf.cast(image[..., 0], tf.float32)
        if assert_within:
            fits = tf.reduce_all(tf.shape(image)[1:3] <= assert_within)
            with tf.control_dependencies([tf.debugging.Assert(fits, ["too large"])]):
                red = tf.identity(red)
            tf.zeros([1, assert_within, assert_within], name="RawSemanticPredictions")
        tf.cast(red > 100, tf.int64, name="SemanticPredictions")
        if with_probabilities:
            tf.stack([1 - red / 255, red / 255], -1, name="SemanticProbabilities")
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return str(path)


class TestFrozenGraphs:
    def test_labels_and_probabilities(self, tmp_path):
        predictor = load.load(freeze(tmp_path / "graph.pb"))
        labels, probabilities = predictor.answer(IMAGE, True)
        np.testing.assert_array_equal(labels, IMAGE[..., 0] > 100)
        np.testing.assert_allclose(probabilities[..., 1], IMAGE[..., 0] / 255, atol=1e-6)
        assert labels.dtype == np.int32 and predictor.class_names == ("class_0", "class_1")

    def test_without_probabilities(self, tmp_path):
        predictor = load.load(freeze(tmp_path / "graph.pb", with_probabilities=False))
        labels, probabilities = predictor.answer(IMAGE, True)
        assert probabilities is None and labels.shape == (33, 40) and predictor.class_names == ()

    def test_larger_than_its_crop(self, tmp_path):
        path = freeze(tmp_path / "graph.pb", assert_within=33)
        with pytest.raises(UserError, match=r"takes pictures up to 33x33 .*; this one is 33x40\n.*shrink_large_images"):
            load.load(path).answer(IMAGE, False)
        labels, probabilities = load.load(path, shrink_large_images=True).answer(
            np.full([66, 80, 3], 200, np.uint8), True
        )
        assert labels.shape == (66, 80) and (labels == 1).all() and probabilities.shape == (66, 80, 2)

    def test_settings_cannot_be_changed(self, tmp_path):
        with pytest.raises(UserError, match="--eval_scales cannot be set any more"):
            load.load(freeze(tmp_path / "graph.pb"), {"eval_scales": (0.5,)})

    def test_damaged_and_foreign(self, tmp_path):
        whole = freeze(tmp_path / "graph.pb")
        (tmp_path / "cut.pb").write_bytes((tmp_path / "graph.pb").read_bytes()[:-7])
        (tmp_path / "empty.pb").touch()
        with tf.Graph().as_default() as graph:
            tf.compat.v1.placeholder(tf.float32, [1], name="input")
        (tmp_path / "other.pb").write_bytes(graph.as_graph_def().SerializeToString())
        for name, words in (("cut", "truncated"), ("empty", "empty graph"), ("other", r"its inputs are \['input'\]")):
            with pytest.raises(UserError, match=words):
                load.load(tmp_path / f"{name}.pb")
        assert load.identify(whole) == (whole, "frozen graph")

    def test_class_names_beside_it(self, tmp_path):
        path = freeze(tmp_path / "graph.pb")
        (tmp_path / "labels.txt").write_text("0 ground\n1 disc\n")
        assert load.load(path).class_names == ("ground", "disc")
        contract = {"classes": ["floor", "ball"], "colors": [[1, 2, 3], [4, 5, 6]]}
        (tmp_path / "graph_contract.json").write_text(json.dumps(contract))
        predictor = load.load(path)
        assert predictor.class_names == ("floor", "ball")
        np.testing.assert_array_equal(predictor.colors[:2], contract["colors"])
        (tmp_path / "labels.txt").write_text("3 wheeler\ncar\n")
        assert frozen_graph.classes_beside(str(tmp_path / "another.pb"))[0] == ("3 wheeler", "car")

    def test_a_data_set_of_other_classes_is_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"pascal_voc_seg has 21 classes, the network in .* 2"):
            load.load(freeze(tmp_path / "graph.pb"), dataset="pascal_voc_seg")


class Threshold(tf.Module):
    """A SavedModel with the signature of our exports."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
    def serve(self, images):
        return {"SemanticPredictions": tf.cast(images[..., 0] > 100, tf.int32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def other(self, x):
        return {"y": x}


class TestSavedModels:
    def test_labels(self, tmp_path):
        module = Threshold()
        tf.saved_model.save(module, tmp_path / "saved_model", {"serving_default": module.serve})
        for given in (tmp_path / "saved_model", tmp_path / "saved_model" / "saved_model.pb", tmp_path):
            labels, probabilities = load.load(given).answer(IMAGE, True)
            np.testing.assert_array_equal(labels, IMAGE[..., 0] > 100)
            assert probabilities is None

    def test_another_signature(self, tmp_path):
        module = Threshold()
        tf.saved_model.save(module, tmp_path, {"serving_default": module.other})
        with pytest.raises(UserError, match=r"must take one uint8 image.*'x', 'float32'"):
            load.load(tmp_path)

    def test_damaged(self, tmp_path):
        (tmp_path / "saved_model.pb").write_bytes(b"no model")
        with pytest.raises(UserError, match="cannot be loaded as a SavedModel"):
            load.load(tmp_path)


class TestSources:
    def test_nothing_of_use(self, tmp_path):
        with pytest.raises(UserError, match="does not exist"):
            load.load(tmp_path / "none")
        with pytest.raises(UserError, match="it is empty"):
            load.load(tmp_path)
        (tmp_path / "model.tflite").touch()
        with pytest.raises(UserError, match=r"a \.tflite file is none of"):
            load.load(tmp_path / "model.tflite")

    def test_several_graphs(self, tmp_path):
        for name in ("a.pb", "b.pb"):
            freeze(tmp_path / name)
        with pytest.raises(UserError, match=r"several graphs: a\.pb, b\.pb"):
            load.load(tmp_path)

    def test_checkpoints_come_before_exports(self, tmp_path):
        freeze(tmp_path / "a.pb")
        manager.save_step(tmp_path, 3, {"weights": [1.0]})
        assert load.identify(str(tmp_path)) == (str(tmp_path), "checkpoint")

    def test_config_file_name(self):
        assert run_file.FILE_NAME == "config.yml"  # messages and documents call it so


def test_shrunk_size_keeps_the_aspect_ratio():
    assert load.shrunk_size((1000, 2000), (513, 513)) == (256, 513)
    assert load.shrunk_size((4000, 3), (513, 513)) == (513, 1)
