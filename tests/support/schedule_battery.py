"""What every schedule is tested for. A schedule gets it all by a class of a few lines:

class TestCosine(ScheduleBattery):
    config = OptimizerConfig(learning_policy="cosine", base_learning_rate=0.5)
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from deeplab.config.training_config import OptimizerConfig
from deeplab.training import schedules

STEPS = 40


class ScheduleBattery:
    """All tests; see the head of this file.

    Attributes:
      config: names the schedule.
      falling: whether the rate never rises.
      first_fraction: the first rate over the base rate.
    """

    config = OptimizerConfig()
    falling = True
    first_fraction = 1.0

    def rates(self, steps=range(STEPS + 10), total_steps=STEPS, **changes):
        config = dataclasses.replace(self.config, **changes)
        return [schedules.learning_rate(config, step, total_steps) for step in steps]

    def test_python_and_graph_agree_at_every_step(self):
        traced = tf.function(lambda step: schedules.learning_rate(self.config, step, STEPS), autograph=False)
        in_graph = [float(traced(tf.constant(step, tf.int64))) for step in range(STEPS + 10)]
        assert in_graph == pytest.approx(self.rates(), rel=1e-6, abs=1e-7 * self.config.base_learning_rate)

    def test_int_gives_float_and_tensor_gives_float32_scalar(self):
        assert type(schedules.learning_rate(self.config, 3, STEPS)) is float
        for step in (tf.constant(3, tf.int64), tf.Variable(3, dtype=tf.int64)):
            rate = schedules.learning_rate(self.config, step, STEPS)
            assert rate.dtype == tf.float32 and rate.shape == []

    def test_it_begins_at_the_base_rate_and_stays_finite(self):
        rates = self.rates()
        assert rates[0] == pytest.approx(self.first_fraction * self.config.base_learning_rate)
        assert np.isfinite(rates).all() and min(rates) >= 0
        if self.falling:
            assert np.all(np.diff(rates) <= 0)

    def test_a_warm_up_delays_it(self):
        late = self.rates(total_steps=STEPS + 7, slow_start_step=7, slow_start_learning_rate=0.125)
        assert late[:7] == [0.125] * 7
        assert late[7:] == pytest.approx(self.rates()[: len(late) - 7], rel=1e-6, abs=1e-11)

    @pytest.mark.parametrize("total_steps", [5, 10])
    def test_a_warm_up_as_long_as_the_training_stays_finite(self, total_steps):
        rates = self.rates(range(15), total_steps, slow_start_step=10, slow_start_learning_rate=0.25)
        assert rates[:10] == [0.25] * 10 and np.isfinite(rates).all()
