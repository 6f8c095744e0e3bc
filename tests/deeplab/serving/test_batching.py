"""The queue in front of a model: batches of one size, a bound, an end that loses nothing."""

import asyncio
import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest
from support.threshold_predictor import ByRed

from deeplab.inference.predictor import Prediction
from deeplab.serving.batching import Batcher, ModelFailed, QueueFull
from deeplab.utils.errors import UserError


class Gated(ByRed):
    """Predicts when it is allowed to, and remembers how many images came together."""

    def __init__(self):
        super().__init__()
        self.gate, self.entered, self.sizes = threading.Event(), threading.Event(), []

    def predict_images(self, images, probabilities=True):
        self.entered.set()
        assert self.gate.wait(60)
        self.sizes.append(len(images))
        return super().predict_images(images, probabilities)


def image(red=200, size=(3, 4)):
    return np.full((*size, 3), (red, 0, 0), np.uint8)


@pytest.fixture
def gated():
    model = Gated()
    batcher = Batcher(model, max_batch=3, wait_seconds=0.0, max_queue=4)
    yield model, batcher
    model.gate.set()
    batcher.stop(60)


def test_images_of_one_size_are_predicted_together_and_answers_belong_to_their_images(gated):
    model, batcher = gated
    first = batcher.submit([image()], False)
    assert model.entered.wait(60)  # the model is busy with it; the others gather meanwhile
    wide = batcher.submit([image(0, (2, 5))], False)
    others = batcher.submit([image(0), image(200), image(0)], False)
    model.gate.set()
    found = [future.result(60) for future in [*first, *wide, *others]]
    assert [one.labels.max() for one in found] == [1, 0, 0, 1, 0]
    assert [one.labels.shape for one in found] == [(3, 4), (2, 5), (3, 4), (3, 4), (3, 4)]
    assert model.sizes == [1, 1, 3]


def test_a_full_queue_takes_nothing(gated):
    model, batcher = gated
    batcher.submit([image()], False)
    assert model.entered.wait(60)
    batcher.submit([image()] * 4, False)
    with pytest.raises(QueueFull):
        batcher.submit([image()], False)
    assert len(batcher) == 4


def test_a_cancelled_image_is_not_predicted(gated):
    model, batcher = gated
    (first,) = batcher.submit([image()], False)
    assert model.entered.wait(60)
    (unwanted,) = batcher.submit([image(size=(9, 9))], False)
    (last,) = batcher.submit([image()], False)
    assert unwanted.cancel()
    model.gate.set()
    assert first.result(60) and last.result(60)
    assert model.sizes == [1, 1]


def test_a_stop_predicts_what_waits_and_takes_nothing_more(gated):
    model, batcher = gated
    futures = batcher.submit([image()], False)
    assert model.entered.wait(60)
    futures += batcher.submit([image()] * 4, False)
    model.gate.set()
    batcher.stop(60)
    assert all(future.result(0).labels.all() for future in futures)
    with pytest.raises(QueueFull):
        batcher.submit([image()], False)
    batcher.start()
    assert batcher.submit([image()], False)[0].result(60)


def test_errors_reach_those_who_wait_and_the_queue_goes_on():
    class Moody(ByRed):
        def _predict(self, image, probabilities):
            if image[0, 0, 2] == 1:
                raise UserError("model-failed", "no")
            return super()._predict(image, probabilities)

    batcher = Batcher(Moody(), max_batch=1)
    bad = image()
    bad[..., 2] = 1
    failing, working = *batcher.submit([bad], False), *batcher.submit([image()], False)
    assert failing.exception(60).code == "model-failed" and working.result(60).labels.all()
    batcher.stop(60)


class Raising(Gated):
    """Raises an error for images whose blue is not 0: `ERRORS[blue - 1]`, or returns what no model should."""

    ERRORS = (
        RuntimeError("broken"),
        StopIteration("end"),
        CancelledError(),
        SystemExit(3),
        GeneratorExit(),
        None,
        "lazy",
    )

    def predict_images(self, images, probabilities=True):
        found = super().predict_images(images, probabilities)
        if not images[0, 0, 0, 2]:
            return found
        error = self.ERRORS[images[0, 0, 0, 2] - 1]
        if error == "lazy":
            return (1 // 0 for _ in found)
        if error is None:
            return found[:-1]
        raise error


@pytest.mark.parametrize("place", range(len(Raising.ERRORS)))
def test_whatever_a_model_raises_all_of_the_batch_get_an_error_and_the_thread_lives_on(place, caplog):
    """Also through asyncio, whose futures refuse StopIteration and take CancelledError for a cancellation."""
    model, numbers, failures = Raising(), [], []
    batcher = Batcher(model, 3, 0.0, 4, lambda number, _seconds: numbers.append(number), failures.append)
    batcher.submit([image()], False)
    assert model.entered.wait(60)
    bad = image()
    bad[..., 2] = place + 1
    failing = batcher.submit([bad] * 3, False)
    model.gate.set()

    async def wait():
        waiting = [asyncio.wrap_future(future) for future in failing]
        return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)

    found = asyncio.run(wait())
    assert [type(one) for one in found] == [ModelFailed] * 3 and len(set(map(id, found))) == 3
    assert failures == ["internal-error"] and numbers == [1]
    (record,) = caplog.records
    assert record.name == "deeplab.serving" and record.exc_info[1] is not None and "3 images of 3x4x3" in caplog.text
    assert batcher.submit([image()], False)[0].result(60).labels.all() and numbers == [1, 1]
    batcher.stop(60)


def test_numbers_that_cannot_be_kept_cost_nobody_the_prediction(caplog):
    def fail(*_facts):
        raise OSError("disk full")

    batcher = Batcher(Raising(), on_batch=fail, on_failure=fail)
    batcher._predictor.gate.set()
    bad = image()
    bad[..., 2] = 1
    for _ in range(2):
        assert batcher.submit([image()], False)[0].result(60).labels.all()
        assert type(batcher.submit([bad], False)[0].exception(60)) is ModelFailed
    assert caplog.text.count("OSError: disk full") == 4
    batcher.stop(60)


def test_a_batch_that_does_not_fit_into_memory_is_predicted_one_by_one():
    class Small(Gated):
        def predict_images(self, images, probabilities=True):
            found = super().predict_images(images, probabilities)
            if len(images) > 1:
                raise UserError("out-of-memory", "too much")
            return found

    model = Small()
    batcher = Batcher(model, max_batch=2)
    futures = batcher.submit([image(), image(0)], True)
    model.gate.set()
    assert [type(future.result(60)) for future in futures] == [Prediction] * 2
    assert model.sizes == [2, 1, 1]
    batcher.stop(60)
