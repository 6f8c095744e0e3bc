"""The same models on Keras' JAX backend: what `slim` and the heads compute does not depend on TensorFlow."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from support.golden_models import zeros_for_random_values
from support.golden_recipe import image
from support.on_jax import golden_model

from deeplab.config.model_config import ModelConfig
from deeplab.model import MERGED_LOGITS, build_model
from slim.layers import variable_name

ROOT = pathlib.Path(__file__).resolve().parents[3]
CASES = {
    "v3+": {
        "config": {
            "model_variant": "mobilenet_v2",
            "depth_multiplier": 0.35,
            "atrous_rates": [2, 4],
            "decoder_output_stride": [4],
        },
        "size": [65, 49],
        "gradients": True,
    },
    "pyramid, group norm": {
        "config": {
            "model_variant": "mobilenet_v2",
            "depth_multiplier": 0.35,
            "normalization": "group",
            "image_pyramid": [0.5, 1.0],
        },
        "size": [65, 65],
        "gradients": False,
    },
    "cell with pooling": {
        "config": {"model_variant": "mobilenet_v3_small_seg", "dense_prediction_cell_json": "cell.json"},
        "size": [65, 49],
        "gradients": False,
    },
    "resnet": {"config": {"model_variant": "resnet_v1_18_beta"}, "size": [33, 49], "gradients": False},
}

CELL = [{"op": "pyramid_pooling", "kernel": 1, "grid_size": [2, 2], "input": -1}]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed (pip install jax)"),
]


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory):
    """Logits and gradients of all cases on JAX, by case and name."""
    folder = tmp_path_factory.mktemp("jax")
    CASES["cell with pooling"]["config"]["dense_prediction_cell_json"] = str(folder / "cell.json")
    (folder / "cases.json").write_text(json.dumps(CASES))
    (folder / "cell.json").write_text(json.dumps(CELL))
    command = [sys.executable, ROOT / "tests" / "support" / "on_jax.py", folder / "cases.json", folder / "found.npz"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    # Each model runs once: compiling it well takes longer than running it compiled badly.
    environment = {**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "found.npz") as found:
        return dict(found)


def pixels(name: str) -> np.ndarray:
    return image(*CASES[name]["size"], batch=2).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_those_on_tensorflow(name, on_jax):
    with zeros_for_random_values():
        model = golden_model(CASES[name]["config"], train_batch_norm=False)
    logits = model(pixels(name), training=False)[MERGED_LOGITS].numpy()
    found = on_jax[f"{name}/logits"]
    assert found.shape == logits.shape
    assert np.abs(found - logits).max() < 1e-4 * logits.std()


def test_gradients_equal_those_on_tensorflow(on_jax):
    (name,) = (name for name, case in CASES.items() if case["gradients"])
    with zeros_for_random_values():
        model = golden_model(CASES[name]["config"], train_batch_norm=False)
        learning = golden_model(CASES[name]["config"], train_batch_norm=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(pixels(name), training=True)[MERGED_LOGITS] ** 2)
    slopes = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    for variable, slope in zip(model.trainable_variables, slopes, strict=True):
        found = on_jax[f"{name}/gradients/{variable_name(variable)}"]
        assert np.abs(found - slope).max() < 1e-4 * np.abs(slope).max(), variable_name(variable)
    logits = learning(pixels(name), training=True)[MERGED_LOGITS].numpy()
    assert np.abs(on_jax[f"{name}/training"] - logits).max() < 5e-3 * logits.std()


def test_the_model_learns_on_jax():
    """Steps of the benchmark's peer, on random pixels and labels."""
    command = [sys.executable, ROOT / "benchmarks" / "jax_peer.py", "light", "33", "2", "float32", "train"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, input="\n" * 40, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    facts, *steps = map(json.loads, done.stdout.splitlines())
    expected = sum(np.prod(variable.shape) for variable in build_model(ModelConfig(), 21).trainable_variables)
    assert facts["parameters"] == expected
    losses = [step["result"] for step in steps]
    assert len(losses) == 40
    assert np.mean(losses[-10:]) < np.mean(losses[:10])  # slowly: the rate is small, and dropout adds noise
