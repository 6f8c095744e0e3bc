"""Progress lines, and the live line of a terminal."""

import pytest
import tensorflow as tf
from support.callback_battery import BATCH, CallbackBattery, make_state, run, step_results

from deeplab.config.durations import Length
from deeplab.training.callbacks import Pace
from deeplab.training.callbacks.progress import Progress
from deeplab.utils import console


class TestProgress(CallbackBattery):
    name = "progress"


def test_lines_at_the_first_step_the_interval_and_the_last(tmp_path, capsys):
    run(Progress(), make_state(tmp_path, log_steps=4))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step")]
    assert [line.split()[1] for line in lines] == ["1/6", "4/6", "6/6"]
    assert "loss 0.2500 (task 0.2500, weight decay 0.0000)  learning rate 0.5  " in lines[1]
    assert lines[0].endswith("left ...") and lines[2].endswith("left 00:00")


def test_a_sum_of_losses_is_shown_by_its_parts(tmp_path, capsys, monkeypatch):
    state, progress = make_state(tmp_path, log_steps=1), Progress()
    monkeypatch.setattr(type(state), "parts", ("loss/cross_entropy", "loss/0.5 * dice"))
    progress.on_start(state)
    parts = {"loss/cross_entropy": tf.constant(0.75), "loss/0.5 * dice": tf.constant(0.25)}
    state.advance(BATCH, {**step_results(1.0), **parts})
    progress.after_step(state)
    assert "loss 1.0000 (cross_entropy 0.7500, 0.5 * dice 0.2500, weight decay 0.0000)" in capsys.readouterr().err


def test_epoch_and_evaluations_are_in_the_line(tmp_path, capsys):
    state, progress = make_state(tmp_path, log_steps=1), Progress()
    state.length = Length(6, 4.0)
    progress.on_start(state)
    state.best = {"step": 2, "value": 0.75}
    progress.on_evaluation(state, {"mean_iou": 0.5, "seconds": 1.0})
    state.advance(BATCH, step_results(1.0))
    progress.after_step(state)
    line = capsys.readouterr().err
    assert "epoch 0.2  loss 1.0000" in line and "mean IoU 0.5000 (best 0.7500)" in line


def test_on_a_terminal_one_bar_moves_and_no_lines_are_printed(tmp_path, monkeypatch, capsys):
    made = []

    class Bar:
        def __init__(self, total, what):
            made.append(self)
            self.total, self.n, self.texts, self.closed = total, 0, [], False

        def __enter__(self):
            return self

        def update(self, steps=1):
            self.n += steps

        def describe(self, text):
            self.texts.append(text)

        def close(self):
            self.closed = True

    monkeypatch.setattr(console, "is_terminal", lambda: True)
    monkeypatch.setattr(console, "progress", Bar)
    run(Progress(), make_state(tmp_path, step=2, log_steps=2))
    (bar,) = made
    assert (bar.n, bar.total, bar.closed) == (6, 6, True) and len(bar.texts) == 2
    assert bar.texts[0].startswith("loss 0.2500") and "step" not in capsys.readouterr().err


@pytest.fixture
def clock(monkeypatch):
    """The time, which tests set."""
    now = [100.0]
    monkeypatch.setattr("deeplab.training.callbacks.time.monotonic", lambda: now[0])
    return now


def test_the_pace_leaves_out_what_is_not_a_step(clock):
    pace = Pace(0)
    for step, time in ((1, 102.0), (2, 104.0)):
        clock[0] = time
        pace.step(step)
    assert pace.lap(2) == 2.0
    pace.interrupt()
    clock[0] = 1000.0  # an evaluation, and step 3
    pace.step(3)
    assert pace.lap(3) == 2.0
    clock[0] = 1003.0
    pace.step(4)
    assert pace.lap(4) == 3.0
