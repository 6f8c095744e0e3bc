"""Simulated int8: ranges from images, weights that follow the model, and the labels of the file that it stands for."""

import dataclasses

import numpy as np
import pytest
from support.errors import raises
from support.golden_recipe import image
from support.small_exports import NARROW, make_balanced_network, make_network, make_settings

from deeplab.config.export_config import ExportConfig
from deeplab.export.formats import litert
from deeplab.export.freeze import freeze
from deeplab.inference.load import load
from deeplab.inference.simulated_int8 import Int8Simulation
from slim.layers import variables_by_name
from slim.quantization import ActivationRange, ranges

PIXELS = image(65, 97)[0]
IMAGES = [np.roll(PIXELS, 9 * index, axis=1) for index in range(4)]


@pytest.fixture(scope="module")
def live_model():
    made = make_balanced_network(PIXELS)
    made.settings = make_settings()
    return made


@pytest.fixture(scope="module")
def simulation():
    return Int8Simulation(IMAGES)


def test_it_predicts_what_the_exported_file_predicts(live_model, simulation, tmp_path):
    twin = simulation.twin_of(live_model)
    config = ExportConfig(int8_output="labels")
    frozen = dataclasses.replace(freeze(live_model, make_settings()), calibration=IMAGES, config=config)
    litert.write_int8(frozen, str(tmp_path / "model_int8.tflite"))
    written = load(tmp_path / "model_int8.tflite", {"trust_model": True}).predict(PIXELS).labels
    simulated, exact = (one.predict(PIXELS).labels for one in (twin, live_model))
    assert len(np.unique(exact)) > 1 and np.mean(simulated == exact) < 1
    assert np.mean(simulated == written) > 0.85  # other ranges of sums and resizes


def test_the_twin_follows_the_weights(live_model, simulation):
    before = simulation.twin_of(live_model)
    biases = variables_by_name(live_model.model)["logits/semantic/biases"]
    old = np.asarray(biases)
    biases.assign(old + np.array([0, 0, 0, 100.0]))
    after = simulation.twin_of(live_model)
    assert after is before and np.all(after.predict(PIXELS).labels == 3)
    biases.assign(old)
    assert len(np.unique(simulation.twin_of(live_model).predict(PIXELS).labels)) > 1
    assert not any(one.calibrates for one in ranges(after.model) if isinstance(one, ActivationRange))


def test_a_model_that_rounds_by_itself_is_taken_as_it_is(simulation):
    trained = make_network(dataclasses.replace(NARROW, quantize_delay_step=0))
    assert simulation.twin_of(trained) is trained


def test_an_architecture_without_ranges_is_refused(simulation):
    other = make_network(dataclasses.replace(NARROW, image_pyramid=(0.5, 1.0)))
    with raises("not-supported", field="image_pyramid"):
        Int8Simulation(IMAGES).twin_of(other)
