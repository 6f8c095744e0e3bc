"""When a training is ended because of its loss: late rather than wrong."""

import math

import pytest
from support.errors import raises

from deeplab.training.loss_watch import LossWatch


def watch(losses, mode="stop", total_steps=4000, from_scratch=True, begin=1):
    watched = LossWatch(mode, total_steps, from_scratch)
    for step, loss in enumerate(losses, start=begin):
        watched.add(step, loss)


def noisy(level, step):
    return level * (1 + 0.8 * math.sin(7 * step))


def test_a_loss_that_rises_tenfold_is_divergence():
    with raises("diverging-loss", where="step 90") as caught:
        watch([1.0] * 60 + [20.0] * 200)
    assert "`base_learning_rate`" in caught.value.hint and caught.value.value == 20.0


@pytest.mark.parametrize(
    "losses",
    [
        [1.0] * 60 + [1000.0] * 10 + [1.0] * 200,  # single bad batches
        [1.0] * 60 + [8.0] * 300,
        [noisy(1.0, step) for step in range(900)],
        [0.0] * 2000,  # an empty dataset, or a loss that is 0: nothing to compare with
        [5.0] * 20,
    ],
)
def test_what_is_no_divergence(losses, capsys):
    watch(losses)
    assert capsys.readouterr().err == ""


def test_a_loss_that_does_not_fall_ends_a_training_from_scratch_after_a_quarter():
    with raises("loss-does-not-fall", where="step 1"):
        watch([noisy(1.1, step) for step in range(1500)], total_steps=4000)
    with raises("loss-does-not-fall", where="step 2"):
        watch([noisy(1.1, step) for step in range(3000)], total_steps=8000)
    watch([noisy(1.1 * 0.999**step, step) for step in range(3000)])


def test_after_an_initial_checkpoint_or_a_resume_it_does_not_end(capsys):
    losses = [noisy(0.2, step) for step in range(2000)]
    watch(losses, from_scratch=False)
    assert capsys.readouterr().err.count("[loss-does-not-fall]") == 1
    watch(losses, begin=501)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("mode", "warnings"), [("warn", 1), ("off", 0)])
def test_other_modes_go_on(mode, warnings, capsys):
    watch([1.0] * 60 + [20.0] * 2000, mode=mode)
    assert capsys.readouterr().err.count("[diverging-loss]") == warnings
