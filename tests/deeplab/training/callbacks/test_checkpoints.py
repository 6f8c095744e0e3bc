"""When checkpoints are written, and that none follows a loss that is not finite."""

import numpy as np
import pytest
from support.callback_battery import CallbackBattery, make_state, run
from support.errors import raises

from deeplab import checkpoint
from deeplab.checkpoint import manager
from deeplab.training.callbacks.checkpoints import Checkpoints


class TestCheckpoints(CallbackBattery):
    name = "checkpoints"


def steps_in(folder):
    return [checkpoint.open(prefix).step for prefix in manager.all_checkpoints(folder)]


@pytest.mark.parametrize(
    ("begin", "end", "every", "expected"),
    [(0, 6, 0, [0, 6]), (0, 6, 2, [0, 2, 4, 6]), (0, 3, 2, [0, 2, 3]), (0, 4, 2, [0, 2, 4]), (4, 6, 0, [6])],
)
def test_steps_that_are_saved(tmp_path, begin, end, every, expected):
    state = make_state(tmp_path, begin, save_interval_steps=every)
    run(Checkpoints(), state, end)
    assert steps_in(tmp_path) == expected
    assert state.checkpoint == str(tmp_path / f"model.ckpt-{end}")


def test_what_is_saved(tmp_path):
    state = make_state(tmp_path)
    run(Checkpoints(), state)
    arrays = checkpoint.open(tmp_path).arrays()
    assert arrays["global_step"] == 6 and arrays["global_step"].dtype == np.int64
    np.testing.assert_array_equal(arrays["logits/weights"], state.model.weights[0])


def test_no_checkpoint_follows_a_loss_that_is_not_finite(tmp_path):
    state = make_state(tmp_path, save_interval_steps=3)
    with raises("loss-not-finite", where="step 2"):
        run(Checkpoints(), state, loss=lambda step: np.nan if step >= 2 else 1.0)
    assert steps_in(tmp_path) == [0]
