"""The curves in files: every logged step once, also after a stop and a kill."""

import numpy as np
import pytest
from support.callback_battery import CallbackBattery, make_state, run

from deeplab.training.callbacks import curves
from deeplab.training.callbacks.curves import Curves


class TestCurves(CallbackBattery):
    name = "curves"


def steps(folder):
    return [int(row["step"]) for row in curves.read(folder / curves.LOSSES)]


def test_a_line_for_every_logged_step_and_a_plot_at_the_end(tmp_path):
    run(Curves(), make_state(tmp_path))
    rows = curves.read(tmp_path / curves.LOSSES)
    assert [row["step"] for row in rows] == [1, 2, 4, 6]
    assert rows[1] == {"step": 2, "total_loss": 0.5, "task_loss": 0.5, "regularization_loss": 0, "learning_rate": 0.5}
    assert (tmp_path / curves.CURVES).read_bytes().startswith(b"\x89PNG")


def test_a_stop_does_not_wait_for_a_plot(tmp_path):
    state = make_state(tmp_path)
    state.stop.received = True
    actor = Curves()
    run(actor, state, until=3)
    actor.on_evaluation(state, {})  # the stop came during an evaluation
    assert steps(tmp_path) == [1, 2] and not (tmp_path / curves.CURVES).exists()


def test_a_resumed_training_has_the_lines_of_one_that_never_stopped(tmp_path):
    run(Curves(), make_state(tmp_path / "whole"))
    run(Curves(), make_state(tmp_path / "parts"), until=5)
    with open(tmp_path / "parts" / curves.LOSSES, "a") as file:
        file.write("6,0.1")  # cut by a kill
    run(Curves(), make_state(tmp_path / "parts", step=3))
    assert steps(tmp_path / "parts") == [1, 2, 4, 6]
    run(Curves(), make_state(tmp_path / "parts", step=0))
    whole, parts = ((tmp_path / name / curves.LOSSES).read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_parts_of_the_loss_have_columns_that_outlive_them(tmp_path, monkeypatch):
    state = make_state(tmp_path)
    monkeypatch.setattr(type(state), "parts", ("loss/dice(a=1, b=2)",))
    callback, part = Curves(), {"loss/dice(a=1, b=2)": 0.125}
    callback.on_start(state)
    monkeypatch.setattr(type(state), "results", {**dict.fromkeys(curves.NAMES, 1.0), **part})
    for state.step in (1, 2):
        callback.after_step(state)
    assert curves.read(tmp_path / curves.LOSSES)[1] == {"step": 2, **dict.fromkeys(curves.NAMES, 1.0), **part}
    monkeypatch.undo()
    run(Curves(), make_state(tmp_path, step=2))
    rows = curves.read(tmp_path / curves.LOSSES)
    assert [part.keys() <= row.keys() for row in rows] == [True, True, False, False]


@pytest.mark.parametrize("text", ["", "nonsense", "step,total_loss\n1", "step\nx\n", "\0\n"])
def test_damaged_files_have_no_rows(tmp_path, text):
    (tmp_path / "file").write_text(text)
    assert curves.read(tmp_path / "file") == [] == curves.read(tmp_path / "missing")


@pytest.mark.parametrize("value", [1 / 3, 1e-30, 3.4e38, 0.0, float("inf")])
def test_numbers_keep_all_digits_of_float32(tmp_path, value):
    (tmp_path / "file").write_text(
        ",".join(("step", *curves.NAMES)) + "\n" + curves.line_of({"step": 1, **dict.fromkeys(curves.NAMES, value)})
    )
    assert np.float32(curves.read(tmp_path / "file")[0]["task_loss"]) == np.float32(value)
