"""Evaluation in two processes gives what one gives, and their errors arrive."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from support.errors import raises
from support.threshold_predictor import ByRed

from deeplab.config.data_config import ResizeConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import EvalConfig, InferenceConfig
from deeplab.evaluation import sharding
from deeplab.evaluation.evaluator import Evaluator, Measures
from deeplab.evaluation.report_files import metrics_of
from deeplab.inference.load import load

GROUPS = (EvalConfig, InferenceConfig, ResizeConfig, ModelConfig)
MEASURES = Measures(extra=["boundary_iou", "calibration"], uncertainty=True, group_by="[13]$")


def content(report):
    return {name: value for name, value in metrics_of(report).items() if name != "seconds"}


def test_parts_add_up_in_any_order(disc_images):
    """Without processes: the images of three parts, put together in another order."""
    parts = [
        Evaluator(ByRed(), dataclasses.replace(disc_images, part=(index, 3)), MEASURES).measure(quiet=True)
        for index in (2, 0, 1)
    ]
    evaluator = Evaluator(ByRed(), disc_images, MEASURES)
    together, alone = evaluator.report(parts), evaluator.evaluate()
    assert content(together) == content(alone) and together.images.names == [f"pair_{n}" for n in range(100, 104)]


def test_parts_travel_as_bytes(disc_images):
    parts = [Evaluator(ByRed(), dataclasses.replace(disc_images, part=(index, 5))).measure(True) for index in range(5)]
    assert [len(part.positions) for part in parts].count(0) == 1  # four images
    evaluator = Evaluator(ByRed(), disc_images)
    found = evaluator.report([sharding.unpacked(sharding.packed(part)) for part in parts])
    expected = evaluator.evaluate()
    np.testing.assert_array_equal(found.matrix.counts, expected.matrix.counts)
    assert found.images.names == expected.images.names
    for name in ("sums", "uncertainties"):
        np.testing.assert_array_equal(getattr(found.images, name), getattr(expected.images, name))
    for ours, theirs in zip(found.images.cells, expected.images.cells, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_two_processes_equal_one(small_run, disc_images):
    evaluator = Evaluator(load(small_run), disc_images, MEASURES)
    together = sharding.evaluate_in_processes(evaluator, {}, GROUPS, 2)
    alone = evaluator.evaluate()
    np.testing.assert_array_equal(together.counts, alone.counts)
    assert json.dumps(content(together)) == json.dumps(content(alone))


class Sent:
    """The end of a pipe that keeps what is sent."""

    def send(self, found):
        self.found = found


def test_an_error_of_a_process_is_that_of_the_evaluation(small_run, disc_images, monkeypatch):
    end = Sent()
    images = dataclasses.replace(disc_images, name="none")
    sharding._work(end, pickle.dumps((str(small_run), {}, GROUPS, images, MEASURES)))
    assert end.found.code == "unknown-split"
    monkeypatch.setattr(sharding.multiprocessing.connection, "wait", list)
    monkeypatch.setattr(sharding.multiprocessing.connection, "Connection", Ended)
    monkeypatch.setattr(Ended, "recv", lambda self: end.found)
    with raises("unknown-split", field=end.found.field, where=end.found.where):
        sharding._collect([Ended()], disc_images)


class Ended:
    """The end of a pipe whose process is gone."""

    def recv(self):
        raise EOFError


def test_a_killed_process_is_reported(disc_images, monkeypatch):
    monkeypatch.setattr(sharding.multiprocessing.connection, "wait", list)
    monkeypatch.setattr(sharding.multiprocessing.connection, "Connection", Ended)
    with raises("worker-stopped", "eval_processes"):
        sharding._collect([Ended()], disc_images)


def test_no_more_processes_than_images(disc_images, monkeypatch):
    seen = []
    monkeypatch.setattr(sharding, "_collect", lambda ends, images: seen.append(len(ends)) or [])
    monkeypatch.setattr(sharding, "_work", print)

    class Process:
        def __init__(self, target, args, daemon):
            self.start = self.terminate = self.join = lambda: None

    context = type("Context", (), {"Pipe": staticmethod(lambda duplex: (Ended(), pytest)), "Process": Process})
    monkeypatch.setattr(sharding.multiprocessing, "get_context", lambda method: context)
    monkeypatch.setattr(pytest, "close", lambda: None, raising=False)
    sharding.evaluate_in_processes(Evaluator(ByRed(), disc_images), {}, GROUPS, 99)
    assert seen == [4]
