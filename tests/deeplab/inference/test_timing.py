"""Timings of calls that take a known time, and of a small model."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from support.threshold_predictor import ByRed

from deeplab.inference import timing


def test_calls_are_timed_after_the_warm_up():
    counted = []

    def call():
        counted.append(1)
        time.sleep(0.02)

    seconds, processor = timing.time_calls([call] * 4, warm_up=3)
    assert len(counted) == 7 and seconds.shape == (4,) and seconds.min() >= 0.02 and processor >= 0


def test_numbers_by_hand():
    found = timing._timing("m", "9x9", 2, np.array([0.1, 0.2, 0.3, 0.4, 0.5]), 3.0)
    assert found.median_ms == pytest.approx(300) and found.p90_ms == pytest.approx(460)
    assert found.images_per_second == pytest.approx(2 / 0.3) and found.cpu_seconds == pytest.approx(0.3)
    assert len(found.row()) == len(timing.HEADER) and found.row()[:4] == ("9x9", "2", "300.0", "460.0")
    assert found.content()["calls"] == 5 and found.memory_mb > 20


def test_images_take_turns():
    class Seen(ByRed):
        sizes = ()

        def _predict(self, image, probabilities):
            self.sizes += (image.shape[0],)
            return super()._predict(image, probabilities)

    model = Seen()
    found = timing.time_images(model, [timing.noise(8), timing.noise(9)], "2 images", 4, 1)
    assert model.sizes == (8, 8, 9, 8, 9) and found.batch == 1 and found.calls == 4


def test_noise_is_the_same_every_time():
    assert timing.noise(5, 4).shape == (5, 5, 4) and (timing.noise(5) == timing.noise(5)).all()


MEMORY = """
import json, sys, types
for name in ("tensorflow", "deeplab.inference.prediction", "deeplab.inference.predictor"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["deeplab.inference.prediction"].prepare = None
sys.modules["deeplab.inference.predictor"].ModelPredictor = sys.modules["deeplab.inference.predictor"].Predictor = None
import numpy as np
from deeplab.inference import timing

found = {"can reset": timing.reset_peak_memory()}
before = timing.peak_memory()
held = np.ones(400_000_000, np.uint8)
found["held"] = timing.peak_memory() - before
del held
found["given back"] = timing.peak_memory() - before
timing.time_calls([lambda: np.ones(160_000_000, np.uint8)], warm_up=0)
found["of the calls"] = timing.peak_memory() - before
print(json.dumps(found))
"""


def test_memory_is_that_of_these_calls():
    """What was taken and given back before does not count.

    In a process of its own without TensorFlow, whose threads and hundreds of megabytes of code come and go: the code
    that is left to read from files, at most 40 MB, may be dropped from memory at any time.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", MEMORY]
    run = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=300)
    found = json.loads(run.stdout)
    if not found["can reset"]:
        pytest.skip("this system cannot measure the memory from a point in time")
    assert found["held"] > 350 and found["given back"] > 350
    assert 110 < found["of the calls"] < 210


def test_the_measurement_of_memory_starts_before_the_first_call(monkeypatch):
    events = []
    monkeypatch.setattr(timing, "reset_peak_memory", lambda: events.append("reset"))
    timing.time_calls([lambda: events.append("call")] * 2, warm_up=1)
    assert events == ["reset", "call", "call", "call"]
