"""Durations as steps, epochs and fractions."""

import pytest
from support.errors import raises

from deeplab.config import durations
from deeplab.config.durations import Length
from deeplab.config.training_config import OptimizerConfig, TrainConfig

STEPS = [
    ("", 0),
    (" ", 0),
    ("0", 0),
    ("0.0", 0),
    ("0 epochs", 0),
    ("7", 7),
    ("7 steps", 7),
    ("1 step", 1),
    ("7.0 steps", 7),
    ("1 epoch", 40),
    ("2epochs", 80),
    (".5 epochs", 20),
    ("1.26 epochs", 50),
    ("0.001 epochs", 1),
    ("0.05", 50),
    (".5", 500),
    ("1.0", 1000),
    ("1.", 1000),
    ("5%", 50),
    ("0.1 %", 1),
    ("100%", 1000),
    ("0.00001", 1),
    (" 12 ", 12),
    ("2147483647", 2**31 - 1),
]


@pytest.mark.parametrize(("text", "steps"), STEPS)
def test_every_kind_of_duration_in_steps(text, steps):
    assert Length(1000, 40.0).steps(text) == steps


NO_DURATIONS = ["-1", "often", "1.5", "1.5 steps", "epoch", "steps", "101%", "1e3", "nan", "inf", "3 weeks", "1 2", "²"]


@pytest.mark.parametrize("text", [*NO_DURATIONS, "2147483648", "2147483648 epochs", "١٢ weeks", "7\nsteps"])
def test_other_texts_are_refused(text):
    with raises("wrong-type", "warmup") as caught:
        Length(1000, 40.0).steps(text, "warmup")
    assert caught.value.value == text and "epochs" in caught.value.hint


@pytest.mark.parametrize("field", ["warmup", "restart_period"])
def test_settings_are_checked_when_they_are_read(field):
    assert getattr(OptimizerConfig(**{field: "2 epochs"}), field) == "2 epochs"
    with raises("wrong-type", field):
        OptimizerConfig(**{field: "soon"})


@pytest.mark.parametrize("text", ["0", "0.0", "0 epochs", "0%"])
def test_intervals_are_above_zero(text):
    with raises("wrong-type", "eval_every"):
        TrainConfig("run", eval_every=text)
    durations.require(text, "warmup")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30min", 1800),
        ("30 minutes", 1800),
        ("1.5h", 5400),
        ("2 days", 172800),
        (" 5 M", None),
        ("1 H", 3600),
    ],
)
def test_times_in_seconds(text, seconds):
    if seconds is None:
        with raises("wrong-type", "time_budget"):
            durations.seconds(text, "time_budget")
    else:
        assert durations.seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("30", "wrong-type"),
        ("soon", "wrong-type"),
        ("-1h", "wrong-type"),
        ("0min", "out-of-range"),
        ("9999d", "out-of-range"),
    ],
)
def test_other_times_are_refused(text, code):
    with raises(code, "time_budget") as caught:
        durations.seconds(text, "time_budget")
    assert caught.value.value == text
