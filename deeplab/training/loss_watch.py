"""Watches the loss: a training that diverges, or learns nothing, ends with advice instead of using up its time.

Both judgments compare medians over windows of steps, so that single batches do not decide, and are made to be late
rather than wrong: a loss ten times that of the beginning, or no better than it after a quarter of the training. They
change nothing in the numbers. Used by `guards.UncheckedResults`, which sees the loss of every step in order.
"""

from __future__ import annotations

import statistics
from collections import deque

from deeplab.utils import console
from deeplab.utils.errors import UserError

WINDOW = 30  # steps
DIVERGED = 10.0  # times the loss of the first window
FALLEN = 0.98  # fraction of it that counts as falling
MIN_STEPS = 1000  # before the loss must have fallen


class LossWatch:
    """The loss of one run of a training.

    Args:
      mode: stop = a UserError; warn = a warning; off = nothing.
      total_steps: length of the training.
      from_scratch: the weights are random at step 0, so that the loss must fall. Otherwise a loss that does not is only
        warned of: the initial checkpoint may have been good already.
    """

    def __init__(self, mode: str = "stop", total_steps: int = 1, from_scratch: bool = False):
        self._mode, self._from_scratch = mode, from_scratch
        self._due = max(MIN_STEPS, total_steps // 4)
        self._first: list[float] = []
        self._begin: int | None = None
        self._last: deque[float] = deque(maxlen=WINDOW)

    def add(self, step: int, loss: float) -> None:
        """Takes the loss of a step, counted from 1, without the weight decay.

        Raises:
          UserError: the training diverges (`diverging-loss`) or learns nothing (`loss-does-not-fall`).
        """
        if self._mode == "off":
            return
        self._begin = step if self._begin is None else self._begin
        if len(self._first) < WINDOW:
            self._first.append(loss)
            return
        self._last.append(loss)
        if len(self._last) == WINDOW and step % WINDOW == 0:
            self._judge(step, statistics.median(self._first), statistics.median(self._last))

    def _judge(self, step: int, first: float, last: float) -> None:
        about = f"the median loss of {WINDOW} steps is {last:.4g}; at step {self._begin} it was {first:.4g}"
        if last > DIVERGED * first > 0:
            hint = "lower `base_learning_rate`, add `warmup=0.05` or `gradient_clip_norm=1`"
            self._act(
                UserError("diverging-loss", about, f"{hint}; {_CONTINUE}", where=f"step {step}", value=last), True
            )
        elif step >= self._due and self._begin == 1 and last > FALLEN * first > 0:
            hint = (
                "look at the labels (`deeplab browse-data`), then try a `base_learning_rate` 10 times higher or lower, "
                "or an initial checkpoint (`tf_initial_checkpoint=imagenet`)"
            )
            found = UserError("loss-does-not-fall", about, f"{hint}; {_CONTINUE}", where=f"step {step}", value=last)
            self._act(found, self._from_scratch)

    def _act(self, error: UserError, may_stop: bool) -> None:
        if may_stop and self._mode == "stop":
            raise error
        console.warning(f"{error.where}: {error.rule}; {error.hint} [{error.code}]")
        self._mode = "off"  # once is enough


_CONTINUE = "`loss_guard=warn` continues from the last checkpoint"
