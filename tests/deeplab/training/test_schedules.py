"""Learning rates: every golden row, in Python and inside a `tf.function`, and the edges by hand."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises
from support.schedule_battery import STEPS, ScheduleBattery

from deeplab.config.durations import Length
from deeplab.config.training_config import OptimizerConfig
from deeplab.training import schedules


class TestPoly(ScheduleBattery):
    config = OptimizerConfig(learning_policy="poly", base_learning_rate=0.5)


class TestStep(ScheduleBattery):
    config = OptimizerConfig(learning_policy="step", base_learning_rate=0.5, learning_rate_decay_step=9)


class TestCosine(ScheduleBattery):
    config = OptimizerConfig(learning_policy="cosine", base_learning_rate=0.5)

    def test_half_way_it_is_half(self):
        assert self.rates([0, 10, 20, 40, 45]) == pytest.approx([0.5, 0.25 * (1 + np.sqrt(0.5)), 0.25, 0, 0], abs=1e-7)


class TestExponential(ScheduleBattery):
    config = OptimizerConfig(learning_policy="exponential", base_learning_rate=0.5, learning_rate_decay_step=9)

    def test_each_period_lowers_it_by_the_factor(self):
        assert self.rates([0, 9, 18, 4.5]) == pytest.approx([0.5, 0.05, 0.005, 0.5 * np.sqrt(0.1)], rel=1e-5)


class TestConstant(ScheduleBattery):
    config = OptimizerConfig(learning_policy="constant", base_learning_rate=0.5)

    def test_it_stays(self):
        assert self.rates() == [0.5] * (STEPS + 10)


class TestCosineRestarts(ScheduleBattery):
    config = OptimizerConfig(learning_policy="cosine_restarts", base_learning_rate=0.5, restart_period="10")
    falling = False

    def test_every_period_begins_at_the_top(self):
        assert self.rates([0, 5, 10, 15, 20, 40]) == pytest.approx([0.5, 0.25, 0.5, 0.25, 0.5, 0.5], abs=1e-6)


class TestGrowingRestarts(ScheduleBattery):
    config = OptimizerConfig(
        learning_policy="cosine_restarts", base_learning_rate=0.5, restart_period="4", restart_period_factor=2.0
    )
    falling = False

    def test_each_period_is_twice_as_long(self):
        """Periods of 4, 8, 16 and 32 steps begin at 0, 4, 12 and 28."""
        assert self.rates([0, 4, 12, 28]) == pytest.approx([0.5] * 4)
        assert self.rates([2, 8, 20, 44]) == pytest.approx([0.25] * 4, abs=1e-6)


class TestPiecewise(ScheduleBattery):
    config = OptimizerConfig(
        learning_policy="piecewise",
        base_learning_rate=0.5,
        learning_rate_boundaries=("0.25", "50%"),
        learning_rate_values=(0.5, 0.25, 0.125),
    )

    def test_a_warm_up_delays_it(self):
        """Boundaries count from the first step, as one plans them, warm-up or not."""
        late = self.rates(slow_start_step=7, slow_start_learning_rate=0.125)
        assert late == [0.125] * 7 + self.rates()[7:]

    def test_it_changes_at_the_boundaries(self):
        assert self.rates([9, 10, 19, 20]) == [0.5, 0.25, 0.25, 0.125]


class TestPlateau(ScheduleBattery):
    config = OptimizerConfig(learning_policy="plateau", base_learning_rate=0.5)

    @pytest.mark.parametrize(
        ("scores", "reductions"),
        [
            ([], 0),
            ([0.1, 0.2, 0.3], 0),
            ([0.3, 0.2], 0),
            ([0.3, 0.2, 0.3], 1),
            ([0.3, 0.2, 0.3, 0.4, 0.4, 0.4], 2),
            ([0.3] * 5, 2),
            ([0.3, float("nan"), float("nan")], 1),
            ([float("nan")] * 2 + [0.1], 1),
        ],
    )
    def test_it_waits_for_evaluations_without_a_better_one(self, scores, reductions):
        assert schedules.plateau_reductions(scores, 2) == reductions


class TestOneCycle(ScheduleBattery):
    config = OptimizerConfig(learning_policy="one_cycle", base_learning_rate=0.5)
    falling = False
    first_fraction = 1 / 25

    def test_it_rises_to_the_top_and_falls_to_almost_nothing(self):
        """The first, the top and the last rate, and the middle of both halves, of PyTorch's OneCycleLR."""
        low = 0.5 / 25
        rates = self.rates([0, 5.5, 11, 25, 39, 45])
        expected = [low, (low + 0.5) / 2, 0.5, (0.5 + low / 1e4) / 2, low / 1e4, low / 1e4]
        assert rates == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_a_linear_warm_up_climbs_to_where_the_schedule_begins():
    config = OptimizerConfig(
        base_learning_rate=1.0, slow_start_step=4, slow_start_learning_rate=0.2, slow_start_burnin_type="linear"
    )
    rates = [schedules.learning_rate(config, step, 14) for step in range(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.9**0.9], rel=1e-6)
    cycle = dataclasses.replace(config, learning_policy="one_cycle", slow_start_learning_rate=0.0)
    assert schedules.learning_rate(cycle, 2, 14) == pytest.approx(0.5 / 25, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "lion"])
@pytest.mark.parametrize("text", ["10", "0.1", "2 epochs"])
def test_warmup_climbs_from_zero_for_every_optimizer(optimizer, text):
    given = OptimizerConfig(
        optimizer=optimizer, base_learning_rate=0.001, adam_learning_rate=0.001, learning_policy="constant", warmup=text
    )
    config = schedules.resolved(given, Length(100, 5.0))
    rates = [schedules.learning_rate(config, step, 100) for step in (0, 5, 10, 99)]
    assert rates == pytest.approx([0.0, 0.0005, 0.001, 0.001], abs=1e-9)
    traced = tf.function(lambda step: schedules.learning_rate(config, step, 100), autograph=False)
    assert [float(traced(tf.constant(step, tf.int64))) for step in (0, 5, 10, 99)] == pytest.approx(rates, abs=1e-9)


def test_boundaries_must_ascend_once_they_are_steps():
    config = OptimizerConfig(
        learning_policy="piecewise",
        learning_rate_boundaries=("0.5", "20 steps"),
        learning_rate_values=(1.0, 0.1, 0.01),
    )
    with raises("not-ascending", "learning_rate_boundaries") as caught:
        schedules.resolved(config, Length(100))
    assert "50, 20" in caught.value.rule
    assert schedules.resolved(config, Length(30)).learning_rate_boundaries == ("15", "20")


def test_piecewise_needs_one_rate_more_than_boundaries():
    with raises("wrong-number-of-values", "learning_rate_values"):
        OptimizerConfig(learning_policy="piecewise", learning_rate_boundaries=("5",), learning_rate_values=(1.0,))


def golden_rate(row, step):
    """The rate of one golden row; two of them need what no setting reaches."""
    config, extra = OptimizerConfig(**row["settings"]), row["extra"]
    elapsed = schedules.steps_after_warm_up(step, config.slow_start_step)
    if "boundaries" in extra:
        return schedules.piecewise_constant(elapsed, extra["boundaries"], extra["boundary_learning_rates"])
    if "slow_start_burnin_type" in extra:
        rate = schedules.poly(elapsed, config.base_learning_rate, row["total_steps"] - config.slow_start_step)
        start, end = config.slow_start_learning_rate, config.base_learning_rate
        return schedules.warm_up(rate, step, config.slow_start_step, start, linear_to=end)
    return schedules.learning_rate(config, step, row["total_steps"])


@pytest.mark.parametrize("number", range(10))
def test_golden_rows(golden, number):
    row = json.loads((golden / "schedules.json").read_text())[number]
    traced = tf.function(lambda step: golden_rate(row, step), autograph=False)
    expected = [pytest.approx(rate, rel=1e-6, abs=1e-11) for rate in row["rates"]]
    assert [float(golden_rate(row, step)) for step in row["steps"]] == expected
    assert [float(traced(tf.constant(step, tf.int64))) for step in row["steps"]] == expected


def test_poly_by_hand():
    config = OptimizerConfig(base_learning_rate=0.5)
    assert schedules.learning_rate(config, 3, 10) == pytest.approx(0.5 * 0.7**0.9, rel=1e-6)


def test_straight_line_by_hand():
    config = OptimizerConfig(base_learning_rate=1.0, learning_power=1.0, end_learning_rate=0.2)
    rates = [schedules.learning_rate(config, step, 4) for step in range(7)]
    assert rates == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2])


def test_step_schedule_falls_exactly_at_the_period():
    config = OptimizerConfig(
        learning_policy="step", base_learning_rate=1.0, learning_rate_decay_step=7, learning_rate_decay_factor=0.5
    )
    traced = tf.function(lambda step: schedules.learning_rate(config, step, 1000), autograph=False)
    for period in range(1, 60):
        expected = [0.5 ** (period - 1), 0.5**period]
        assert [schedules.learning_rate(config, 7 * period - 1 + i, 1000) for i in (0, 1)] == expected
        assert [float(traced(tf.constant(7 * period - 1 + i, tf.int64))) for i in (0, 1)] == expected


def test_warm_up_as_long_as_the_training():
    config = OptimizerConfig(slow_start_step=10, slow_start_learning_rate=0.25, base_learning_rate=1.0)
    assert [schedules.learning_rate(config, step, 10) for step in (0, 9, 10, 11)] == [0.25, 0.25, 1.0, 0.0]
    assert float(schedules.learning_rate(config, tf.constant(9, tf.int64), 5)) == 0.25


def test_adam_is_constant_but_its_schedule_can_be_read():
    config = OptimizerConfig(optimizer="adam", adam_learning_rate=0.25, base_learning_rate=1.0, slow_start_step=2)
    assert [schedules.learning_rate(config, step, 10) for step in (0, 5, 10)] == [0.25, 0.25, 0.25]
    assert float(schedules.learning_rate(config, tf.constant(5, tf.int64), 10)) == 0.25
    assert schedules.scheduled_rate(config, 2, 10) == 1.0


def test_unknown_policy_names_the_nearest():
    with raises("unknown-name", "learning_policy") as caught:
        schedules.learning_rate(OptimizerConfig(learning_policy="polly"), 0, 10)
    assert caught.value.value == "polly" and "'poly'" in caught.value.hint


def test_piecewise_constant_refuses_wrong_lists():
    with raises("wrong-number-of-values", where="rates") as caught:
        schedules.piecewise_constant(0.0, [10, 20], [1.0, 0.1])
    assert "2 boundaries need 3 rates, not 2" in caught.value.rule
    with raises("not-ascending", where="boundaries") as caught:
        schedules.piecewise_constant(0.0, [20, 10], [1.0, 0.1, 0.01])
    assert caught.value.value == [20, 10] and "[10, 20]" in caught.value.hint
