"""Progress lines."""

from support.callback_battery import CallbackBattery, make_state, run

from deeplab.training.callbacks.progress import Progress


class TestProgress(CallbackBattery):
    name = "progress"


def test_lines_at_the_first_step_the_interval_and_the_last(tmp_path, capsys):
    run(Progress(), make_state(tmp_path, log_steps=4))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step")]
    assert [line.split()[1] for line in lines] == ["1/6", "4/6", "6/6"]
    assert "loss 0.2500 (task 0.2500, weight decay 0.0000)  learning rate 0.5  " in lines[1]
    assert lines[0].endswith("left ...") and lines[2].endswith("left 00:00")
