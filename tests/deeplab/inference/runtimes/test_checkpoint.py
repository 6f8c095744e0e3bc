"""Checkpoints as Predictors: where their settings come from."""

import re
import shutil

import numpy as np
import pytest
from support.errors import raises
from support.runtime_battery import IMAGE, RuntimeBattery

from deeplab import checkpoint
from deeplab.checkpoint import manager
from deeplab.checkpoint.names import is_bookkeeping
from deeplab.config import run_file
from deeplab.config.model_config import ModelConfig
from deeplab.inference.load import load
from deeplab.inference.runtimes.checkpoint import classes_in, resolve
from slim.layers import variables_by_name


class TestBattery(RuntimeBattery):
    name = "checkpoint"

    @pytest.fixture(scope="class")
    def path(self, small_run):
        return str(small_run)

    def files_of(self, path):
        return [path / "model.ckpt-7.index", path / "model.ckpt-7.data-00000-of-00001"]


def test_saved_settings_come_from_beside_the_checkpoint(small_run):
    settings = resolve({"output_stride": 8}, checkpoint.open(small_run / "model.ckpt-7"), [ModelConfig])
    assert settings["depth_multiplier"] == 0.25 and settings["output_stride"] == 8
    assert settings["class_names"] == ["ground", "disc", "square"]


def test_a_contradiction_is_refused(small_run):
    with raises("checkpoint-mismatch", where="config.yml") as caught:
        resolve({"depth_multiplier": 0.5}, checkpoint.open(small_run / "model.ckpt-7"), [ModelConfig])
    assert "`depth_multiplier=0.5`, trained with 0.25" in caught.value.rule


def test_without_config_the_variables_tell(small_run, tmp_path, capsys):
    for file in small_run.glob("model.ckpt-7.*"):
        shutil.copy(file, tmp_path)
    settings = resolve({}, checkpoint.open(tmp_path / "model.ckpt-7"), [ModelConfig])
    assert settings["depth_multiplier"] == 0.25 and settings["aspp_convs_filters"] == 32
    assert "has no config.yml beside it; its variables show mobilenet_v2" in capsys.readouterr().err


def test_no_head(tmp_path):
    prefix = manager.save_step(tmp_path, 1, {"MobilenetV2/Conv/weights": np.zeros([3, 3, 3, 32], np.float32)})
    with raises("not-a-deeplab-model", where=prefix) as caught:
        classes_in(checkpoint.open(prefix))
    assert "tf_initial_checkpoint" in caught.value.hint


def test_the_index_is_opened_once(small_run, monkeypatch):
    opened = []
    real = checkpoint.bundle.Checkpoint.__init__
    monkeypatch.setattr(
        checkpoint.bundle.Checkpoint, "__init__", lambda self, prefix: (opened.append(prefix), real(self, prefix))[1]
    )
    load(small_run)
    assert len(opened) == 1


def test_weights_that_are_not_finite_are_refused(small_run, tmp_path):
    shutil.copy(small_run / "config.yml", tmp_path)
    arrays = checkpoint.open(small_run).arrays()
    arrays["aspp0/weights"] = arrays["aspp0/weights"] * np.nan
    prefix = manager.save_step(tmp_path, 7, arrays)
    with raises("not-finite", where=prefix) as caught:
        load(tmp_path)
    assert caught.value.value == "aspp0/weights"


def test_an_image_pyramid_gives_way_to_scales_of_several_passes(small_run, tmp_path, capsys):
    shutil.copytree(small_run, tmp_path / "run")
    given = {"image_pyramid": (0.5, 1.0)}
    assert load(tmp_path / "run", given).settings.model.image_pyramid == (0.5, 1.0)
    several = load(tmp_path / "run", {**given, "eval_scales": (0.5, 1.0)})
    assert several.settings.model.image_pyramid == ()
    assert re.search(r"replace (`|--)image_pyramid", capsys.readouterr().err)
    assert several.predict(IMAGE).labels.shape == IMAGE.shape[:2]


def test_config_file_name():
    assert run_file.FILE_NAME == "config.yml"  # messages and documents call it so


@pytest.mark.parametrize("wanted", [{}, {"use_averages": False}], ids=["by default", "off"])
def test_running_averages_are_taken_unless_they_are_switched_off(small_run, tmp_path, wanted):
    weights = checkpoint.open(small_run).arrays()
    name = "logits/semantic/weights"
    averages = {f"{name}/ExponentialMovingAverage": weights[name] * 2}
    manager.save_step(tmp_path, 7, weights | averages)
    shutil.copy(small_run / "config.yml", tmp_path)
    kernel = variables_by_name(load(tmp_path, wanted).model)[name]
    np.testing.assert_array_equal(kernel, weights[name] * (1 if wanted else 2))


@pytest.mark.parametrize("with_config", [True, False])
def test_a_checkpoint_of_averages_alone_is_the_model_of_the_averages(small_run, tmp_path, capsys, with_config):
    """Published checkpoints hold the averages under their own names, and batch norm's statistics plainly or not."""
    whole = checkpoint.open(small_run).arrays()
    kept = {name: value for name, value in whole.items() if not is_bookkeeping(name)}
    alone = {
        name if name.endswith("moving_mean") else f"{name}/ExponentialMovingAverage": value
        for name, value in kept.items()
    }
    manager.save_step(tmp_path, 7, alone)
    if with_config:
        shutil.copy(small_run / "config.yml", tmp_path)
    found, expected = load(tmp_path, {"use_averages": False}), load(small_run)
    said = capsys.readouterr().err
    assert said.count(f"running averages of {len([n for n in alone if n.endswith('Average')])} weights alone") == 1
    np.testing.assert_array_equal(found.predict(IMAGE).probabilities, expected.predict(IMAGE).probabilities)
