"""The profile of a few steps."""

import pytest
from support.callback_battery import CallbackBattery, make_state, run

from deeplab.training.callbacks import profiler
from deeplab.training.callbacks.profiler import Profiler


class TestProfiler(CallbackBattery):
    name = "profiler"


@pytest.fixture
def calls(monkeypatch):
    """What the profiler was told."""
    made = []
    monkeypatch.setattr(profiler.tf.profiler.experimental, "start", lambda folder: made.append(folder))
    monkeypatch.setattr(profiler.tf.profiler.experimental, "stop", lambda: made.append("stop"))
    return made


@pytest.mark.parametrize(
    ("steps", "expected"), [(5, []), (7, ["profile", "stop"]), (10, ["profile", "stop"]), (30, ["profile", "stop"])]
)
def test_it_starts_and_stops_once(tmp_path, calls, steps, expected):
    run(Profiler(), make_state(tmp_path, training_number_of_steps=steps, profile_logdir="profile"))
    assert calls == expected


def test_without_a_folder_it_does_nothing(tmp_path, calls):
    run(Profiler(), make_state(tmp_path, training_number_of_steps=30))
    assert calls == []
