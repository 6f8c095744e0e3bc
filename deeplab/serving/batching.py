"""A bounded queue in front of a model, which predicts waiting images of one size together.

One thread per model takes images from the queue: the first, and those of the same size that come within a short time.
Whatever a model or a callback raises, those who wait get an error, and the thread goes on with the next images. Used by
the server; it does not depend on HTTP.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from deeplab.inference.predictor import Prediction, Predictor
from deeplab.utils.errors import UserError

_LOG = logging.getLogger("deeplab.serving")


class QueueFull(Exception):
    """No image can be taken now; the client may try again."""


class ModelFailed(Exception):
    """The model raised something that says nothing to a client; its cause is in the log with the traceback.

    Each waiting image gets one of its own: what models raise may be of types that futures refuse or take for a
    cancellation.
    """


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A waiting image, and the future of its prediction."""

    image: np.ndarray
    probabilities: bool
    result: Future[Prediction]

    @property
    def kind(self) -> tuple[tuple[int, ...], bool]:
        """Images of one kind can be predicted together."""
        return self.image.shape, self.probabilities


class Batcher:
    """Predicts images that come from many threads.

    Args:
      predictor: the model.
      max_batch: maximum number of images that are predicted together.
      wait_seconds: time that an image waits for others of its size.
      max_queue: maximum number of waiting images; those that are being predicted do not count.
      on_batch: called with the number of images and the seconds of every call of the model.
      on_failure: called with the error's code, and with `internal-error` for what is no UserError, instead.
    """

    def __init__(
        self,
        predictor: Predictor,
        max_batch: int = 8,
        wait_seconds: float = 0.002,
        max_queue: int = 32,
        on_batch: Callable[[int, float], None] = lambda _number, _seconds: None,
        on_failure: Callable[[str], None] = lambda _code: None,
    ):
        self._predictor, self._max_batch, self._wait_seconds = predictor, max_batch, wait_seconds
        self._max_queue, self._on_batch, self._on_failure = max_queue, on_batch, on_failure
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._changed = threading.Condition()
        self._stopping = True
        self.start()

    def start(self) -> None:
        """Take images again after a stop; called by the constructor."""
        with self._changed:
            if self._stopping:
                self._stopping = False
                self._thread = threading.Thread(target=self._run, name="deeplab-batches", daemon=True)
                self._thread.start()

    def __len__(self) -> int:
        """Number of images that wait."""
        return len(self._waiting)

    def submit(self, images: list[np.ndarray], probabilities: bool) -> list[Future[Prediction]]:
        """Put images, uint8 [H, W, C], into the queue, all or none. Cancel a future that is not needed any more.

        Raises:
          QueueFull: there is no room for all of them, or the server is about to stop.
        """
        with self._changed:
            if self._stopping or (self._waiting and len(self._waiting) + len(images) > self._max_queue):
                raise QueueFull
            entries = [_Waiting(image, probabilities, Future()) for image in images]
            self._waiting.extend(entries)
            self._changed.notify()
        return [entry.result for entry in entries]

    def stop(self, timeout: float) -> None:
        """Predict what waits, take nothing more, and end the thread; after `timeout` seconds the rest is cancelled."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout)
        with self._changed:
            for entry in self._waiting:
                entry.result.cancel()
            self._waiting.clear()

    def _run(self) -> None:
        while batch := self._next_batch():
            batch = [entry for entry in batch if entry.result.set_running_or_notify_cancel()]
            if batch:
                self._predict(batch)

    def _next_batch(self) -> list[_Waiting]:
        """Wait for images; the first one's kind, in the order in which they came. Empty when all is done."""
        with self._changed:
            while not self._waiting:
                if self._stopping:
                    return []
                self._changed.wait()
            deadline = time.monotonic() + self._wait_seconds
            while len(self._of_first_kind()) < self._max_batch and not self._stopping:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            batch = self._of_first_kind()
            chosen = set(map(id, batch))
            self._waiting = collections.deque(entry for entry in self._waiting if id(entry) not in chosen)
            return batch

    def _of_first_kind(self) -> list[_Waiting]:
        if not self._waiting:
            return []
        kind = self._waiting[0].kind
        return [entry for entry in self._waiting if entry.kind == kind][: self._max_batch]

    def _predict(self, batch: list[_Waiting]) -> None:
        """Predict images together; each future gets its prediction or an error, whatever happens."""
        started = time.monotonic()
        try:
            images = np.stack([entry.image for entry in batch])
            found = list(self._predictor.predict_images(images, batch[0].probabilities))
            if len(found) != len(batch):
                raise ValueError(f"the model gave {len(found)} predictions for {len(batch)} images")
        except UserError as problem:
            if len(batch) > 1 and problem.code == "out-of-memory":
                for entry in batch:  # too many together
                    self._predict([entry])
                return
            self._report(self._on_failure, problem.code)
            for entry in batch:
                entry.result.set_exception(problem)
        except BaseException as problem:  # SystemExit and the like end neither the thread nor the program
            shown = f"{len(batch)} images of {'x'.join(map(str, batch[0].image.shape))}"
            _LOG.error("%s failed on %s", self._predictor.source, shown, exc_info=problem)
            self._report(self._on_failure, "internal-error")
            for entry in batch:
                entry.result.set_exception(ModelFailed(type(problem).__name__))
        else:
            self._report(self._on_batch, len(batch), time.monotonic() - started)
            for entry, prediction in zip(batch, found, strict=True):
                entry.result.set_result(prediction)

    def _report(self, callback: Callable[..., None], *facts: object) -> None:
        """Call back; predictions are delivered in spite of an error there, such as a full disk under the metrics."""
        try:
            callback(*facts)
        except Exception:
            _LOG.exception("the numbers of %s cannot be kept", self._predictor.source)
