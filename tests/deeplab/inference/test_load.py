"""From whatever predicts to a Predictor."""

import json
import pathlib
import re

import numpy as np
import pytest
from support import golden_recipe
from support.errors import raises
from support.small_graphs import freeze, save_model

from deeplab import checkpoint
from deeplab.checkpoint import manager
from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import EvalConfig, InferenceConfig
from deeplab.inference.load import each_model, find_model, load
from deeplab.inference.runtimes import RUNTIMES
from deeplab.model import build_model
from deeplab.model.segmentation_model import SegmentationModel
from slim.layers import variables_by_name

IMAGE = golden_recipe.image(33, 40)[0]
GROUPS = (EvalConfig, DatasetConfig, InferenceConfig, ResizeConfig, ModelConfig)
NARROW = {"depth_multiplier": 0.25, "aspp_convs_filters": 32, "add_image_level_feature": False}


class TestFinding:
    def test_nothing_of_use(self, tmp_path):
        with raises("checkpoint-not-found", where=tmp_path / "none"):
            load(tmp_path / "none")
        with raises("checkpoint-not-found", where=tmp_path):
            load(tmp_path)
        (tmp_path / "model.zip").write_bytes(b"PK\x03\x04" + bytes(30))
        with raises("not-a-checkpoint", where="model.zip"):
            load(tmp_path / "model.zip")

    def test_several_graphs(self, tmp_path):
        for name in ("a.pb", "b.pb"):
            freeze(tmp_path / name)
        with raises("ambiguous-model", where=tmp_path) as caught:
            load(tmp_path)
        assert "a.pb, b.pb" in caught.value.rule and caught.value.hint == f"give one: {tmp_path}/a.pb"

    def test_checkpoints_come_before_exports(self, tmp_path):
        freeze(tmp_path / "a.pb")
        manager.save_step(tmp_path, 3, {"weights": [1.0]})
        assert find_model(str(tmp_path)) == (str(tmp_path), "checkpoint")

    def test_a_folder_of_an_export(self, tmp_path):
        save_model(tmp_path / "saved_model")
        assert find_model(str(tmp_path)) == (str(tmp_path / "saved_model"), "saved_model")
        graph = freeze(tmp_path / "frozen_inference_graph.pb")
        assert find_model(str(tmp_path)) == (graph, "frozen_graph")

    def test_a_predictor_and_an_opened_checkpoint(self, small_run):
        predictor = load(checkpoint.open(small_run))
        assert load(predictor) is predictor and predictor.step == 7
        assert predictor.source == str(small_run / "model.ckpt-7")


class TestClasses:
    def test_names_beside_an_exported_file(self, tmp_path):
        path = freeze(tmp_path / "graph.pb")
        assert load(path).class_names == ("class_0", "class_1")
        (tmp_path / "labels.txt").write_text("0 ground\n1 disc\n")
        assert load(path).class_names == ("ground", "disc")
        description = {"classes": ["floor", "ball"], "colors": [[1, 2, 3], [4, 5, 6]]}
        (tmp_path / "graph_contract.json").write_text(json.dumps(description))
        predictor = load(path)
        assert predictor.class_names == ("floor", "ball") and predictor.names_are_known
        np.testing.assert_array_equal(predictor.colors[:2], description["colors"])

    def test_unknown_names_are_said_once(self, small_run, tmp_path, capsys):
        load(freeze(tmp_path / "graph.pb"))
        assert "graph.pb has no class names" in capsys.readouterr().err
        load(small_run)
        assert "class names" not in capsys.readouterr().err

    def test_names_of_a_dataset(self, small_run, disc_records):
        predictor = load(small_run, dataset=str(disc_records))
        assert len(predictor.class_names) == 3 and predictor.names_are_known
        with raises("class-count-mismatch", "dataset") as caught:
            load(small_run, dataset="pascal_voc_seg")
        assert caught.value.value == 21


class TestLiveModels:
    @pytest.fixture(scope="class")
    def model(self):
        model = SegmentationModel(ModelConfig(**NARROW), 3, ("ground", "disc", "square"))
        for name, variable in variables_by_name(model).items():
            variable.assign(golden_recipe.weight(name, tuple(variable.shape)))
        return model

    def test_it_predicts_as_its_checkpoint_does(self, model, small_run):
        live = load(model)
        labels, probabilities = live.predict(IMAGE)
        expected = load(small_run).predict(IMAGE)
        np.testing.assert_array_equal(labels, expected.labels)
        np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-5)
        assert live.class_names == ("ground", "disc", "square")

    def test_it_follows_the_weights(self, model):
        live = load(model)
        before = live.predict(IMAGE).probabilities
        bias = variables_by_name(model)["logits/semantic/biases"]
        kept = np.array(bias)
        bias.assign(kept + np.float32([9, 0, 0]))
        after = live.predict(IMAGE).probabilities
        bias.assign(kept)
        assert (after[..., 0] > before[..., 0]).all() and (after.argmax(-1) == 0).all()

    def test_weights_that_are_not_finite(self, model):
        bias = variables_by_name(model)["logits/semantic/biases"]
        kept = np.array(bias)
        bias.assign(kept * np.nan)
        with raises("not-finite"):
            load(model)
        bias.assign(kept)

    def test_other_models_are_refused(self):
        with raises("not-a-deeplab-model"):
            load(build_model(ModelConfig(**NARROW), 3))


class TestEachModel:
    def test_a_checkpoint_with_its_settings(self, small_run):
        (found,) = each_model(str(small_run), {"eval_crop_size": (65, 65)}, GROUPS, "eval_crop_size")
        predictor, resolved = found
        assert predictor.settings.crop_size == (65, 65) and predictor.settings.crop_field == "eval_crop_size"
        assert resolved["depth_multiplier"] == 0.25 and resolved["class_names"] == ["ground", "disc", "square"]

    def test_an_exported_file_comes_once(self, tmp_path):
        path = freeze(tmp_path / "graph.pb")
        given = {"eval_split": "val", "trust_model": True}
        assert [predictor.source for predictor, _ in each_model(path, given, GROUPS, "eval_crop_size", 0)] == [path]
        with raises("settings-built-in", where=path) as caught:
            list(each_model(path, {"eval_crop_size": (65, 65), "output_stride": 8}, GROUPS, "eval_crop_size"))
        assert caught.value.value == ["output_stride", "eval_crop_size"]

    def test_further_checkpoints_are_the_same_predictor_with_new_weights(self, small_run, tmp_path):
        (tmp_path / "config.yml").write_text((small_run / "config.yml").read_text() + "train:\n  x: 1\n")
        arrays = checkpoint.open(small_run).arrays()
        manager.save_step(tmp_path, 1, arrays)
        steps, seen = [], set()
        for predictor, _ in each_model(str(tmp_path), {}, GROUPS, "eval_crop_size", 2, 0):
            steps.append(predictor.step)
            seen.add(id(predictor))
            arrays["logits/semantic/biases"] = arrays["logits/semantic/biases"] + np.float32([0, 0, 50])
            manager.save_step(tmp_path, 2, arrays)
        assert steps == [1, 2] and len(seen) == 1
        assert (predictor.predict(IMAGE).labels == 2).all()


def test_every_runtime_passes_the_battery():
    """One class of tests per runtime derives from it."""
    tests = pathlib.Path(__file__).parents[1]
    found = set()
    for path in (*tests.glob("inference/runtimes/test_*.py"), tests / "serving" / "test_client.py"):
        found |= set(re.findall(r"class \w+\(RuntimeBattery\):.*?\n    name = \"(\w+)\"", path.read_text(), re.DOTALL))
    assert found == set(RUNTIMES)
