"""Evaluation during a training: numbers, the best checkpoint, the history, early stopping, and resuming."""

import csv
import json
import pathlib
import signal
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from support import tiny_backbone
from support.callback_battery import CallbackBattery
from support.errors import raises

import deeplab
from deeplab import checkpoint, train
from deeplab.checkpoint import manager
from deeplab.config.training_config import TrainConfig
from deeplab.data import colormaps
from deeplab.evaluation.evaluator import Evaluator
from deeplab.evaluation.report import Report
from deeplab.inference import load
from deeplab.training.callbacks import live_evaluation

pytestmark = pytest.mark.xdist_group("training")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with tiny_backbone.registered():
        yield


class TestLiveEvaluation(CallbackBattery):
    name = "live_evaluation"


def train_with(records, logdir, steps=6, **more):
    settings = {
        "dataset_dir": records,
        "train_logdir": logdir,
        "model_variant": "tiny",
        "train_crop_size": "33,33",
        "train_batch_size": 2,
        "training_number_of_steps": steps,
        "base_learning_rate": 0.02,
        "random_seed": 1,
        "batch_norm_calibration_batches": 2,
        "eval_every": 2,
        **more,
    }
    return train.COMMAND.main([f"--{name}={value}" for name, value in settings.items()])


def history(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(disc_records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    assert train_with(disc_records, folder) == 0
    return folder


@pytest.fixture
def scores(monkeypatch):
    """Makes every evaluation give the mean IoU that this dict has for its step."""
    by_step, measured = {}, live_evaluation.metrics_of
    scored = lambda report: {**measured(report), "mean_iou": by_step.get(report.step, 0.1)}  # noqa: E731
    monkeypatch.setattr(live_evaluation, "metrics_of", scored)
    return by_step


def test_the_history_has_a_line_an_evaluation(trained):
    rows = history(trained)
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert {"total_loss", "learning_rate", "mean_iou", "pixel_accuracy", "iou/ground", "iou/disc"} <= rows[0].keys()
    assert all(0 <= float(row["mean_iou"]) <= 1 and row["split"] == "val" for row in rows)


def test_tensorboard_shows_images_of_every_evaluation_with_the_names_of_the_classes(trained):
    shown = {}
    for path in sorted(trained.glob("events.out*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag == "evaluation/images":
                    width, height, encoded = tf.make_ndarray(value.tensor)[:3]
                    shown[event.step] = tf.io.decode_png(encoded).numpy()
                    assert shown[event.step].shape == (int(height), int(width), 3)
    assert sorted(shown) == [2, 4, 6]
    for color in colormaps.colors_for((), 3)[:3]:  # of the legend, at least
        assert (shown[6] == color).all(-1).any(), color


def test_the_best_folder_works_like_a_training_folder_and_has_the_same_numbers(trained, disc_records):
    best = json.loads((trained / "best" / "best.json").read_text())
    row = max(history(trained), key=lambda row: float(row["mean_iou"]))
    assert row["step"] == str(best["step"]) and best["mean_iou"] == pytest.approx(float(row["mean_iou"]), abs=1e-6)
    report = deeplab.evaluate(trained / "best", disc_records)
    assert report.step == best["step"] and report.mean_iou == best["mean_iou"]
    assert list(report.class_names) == ["ground", "disc", "square"]
    assert (trained / "best" / "config.yml").read_bytes() == (trained / "config.yml").read_bytes()


@pytest.mark.parametrize("which", ["latest", "best"])
def test_predictors_take_the_checkpoint_that_is_asked_for(trained, which, capsys):
    best = json.loads((trained / "best" / "best.json").read_text())["step"]
    predictor = load.load(trained, {"checkpoint": which})
    assert predictor.step == (best if which == "best" else 6)
    said = capsys.readouterr().err
    assert best == 6 or ("model.ckpt-6" in said and f"step {best}" in said)


def test_the_last_line_is_of_the_last_checkpoint(trained, disc_records):
    assert deeplab.evaluate(trained, disc_records).mean_iou == pytest.approx(
        float(history(trained)[-1]["mean_iou"]), abs=1e-6
    )


def test_evaluation_changes_nothing_in_the_training(trained, disc_records, tmp_path):
    assert train_with(disc_records, tmp_path, eval_every="") == 0
    with_it, without = (checkpoint.open(run).arrays() for run in (trained, tmp_path))
    assert with_it.keys() == without.keys()
    for name, value in without.items():
        np.testing.assert_allclose(with_it[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    assert not (tmp_path / "best").exists() and not (tmp_path / "history.csv").exists()


def test_the_best_is_kept_apart_from_the_rotation(disc_records, tmp_path, scores):
    scores.update({2: 0.5, 4: 0.3})
    assert train_with(disc_records, tmp_path, save_interval_steps=2, max_checkpoints_to_keep=1) == 0
    assert [checkpoint.open(path).step for path in manager.all_checkpoints(tmp_path)] == [6]
    assert [checkpoint.open(path).step for path in manager.all_checkpoints(tmp_path / "best")] == [2]


@pytest.mark.slow
def test_patience_ends_the_training_and_survives_resuming(disc_records, tmp_path, scores, capsys):
    scores.update({2: 0.5, 4: 0.3, 6: 0.5, 8: 0.6})
    given = {"early_stopping": 2, "save_interval_steps": 1}
    assert train_with(disc_records, tmp_path / "whole", 20, **given) == 0
    assert "stopping early at step 6" in capsys.readouterr().err
    assert checkpoint.open(tmp_path / "whole").step == 6
    assert json.loads((tmp_path / "whole/best/best.json").read_text())["step"] == 2

    assert train_with(disc_records, tmp_path / "parts", 5, **given) == 0
    (tmp_path / "parts" / "model.ckpt-5.index").unlink()  # as if killed before the end
    assert train_with(disc_records, tmp_path / "parts", 20, **given) == 0
    assert "stopping early at step 6" in capsys.readouterr().err
    assert [row["step"] for row in history(tmp_path / "parts")] == ["2", "4", "6"]

    before = {path.name: path.read_bytes() for path in pathlib.Path(tmp_path / "whole").glob("model*")}
    assert train_with(disc_records, tmp_path / "whole", 20, **given) == 0  # it has stopped: nothing more to do
    assert "stopping early at step 6" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in pathlib.Path(tmp_path / "whole").glob("model*")} == before
    assert train_with(disc_records, tmp_path / "whole", 8, early_stopping=3, save_interval_steps=1) == 0
    assert json.loads((tmp_path / "whole/best/best.json").read_text())["step"] == 8


def test_a_training_that_starts_again_forgets_the_old_numbers(disc_records, tmp_path, scores):
    scores.update({2: 0.9})
    assert train_with(disc_records, tmp_path, 2) == 0
    for path in tmp_path.glob("model.ckpt*"):
        path.unlink()
    scores.update({2: 0.2})
    assert train_with(disc_records, tmp_path, 2) == 0
    assert json.loads((tmp_path / "best" / "best.json").read_text())["mean_iou"] == 0.2
    assert len(history(tmp_path)) == 1


def test_a_split_without_records_stops_before_anything_is_written(disc_records, tmp_path, capsys):
    assert train_with(disc_records, tmp_path / "new", eval_split="test") == 1
    assert "[unknown-split]" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_a_warning_takes_one_line_and_its_causes_are_in_the_report(disc_records, tmp_path, monkeypatch, capsys):
    text = "disc has 100.00% of the predictions.\n  Possible causes:\n  1. wrong masks"
    monkeypatch.setattr(Report, "warnings", lambda report: [text])
    assert train_with(disc_records, tmp_path / "new", steps=2) == 0
    said = capsys.readouterr().err
    assert "disc has 100.00% of the predictions. report.html" in said and "Possible causes" not in said
    assert "Possible causes" in (tmp_path / "new" / "report.html").read_text(encoding="utf-8")


def test_early_stopping_needs_evaluations():
    with raises("missing-setting", "early_stopping"):
        TrainConfig("run", early_stopping=3)


def test_an_evaluation_that_a_stop_prevented_is_made_up_for(trained, disc_records, tmp_path, monkeypatch):
    """A signal ends an evaluation at once; the resumed training has the history of one that was never stopped."""
    measure = Evaluator.measure

    def interrupted(self, *args):
        monkeypatch.setattr(Evaluator, "measure", measure)
        signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)

    monkeypatch.setattr(Evaluator, "measure", interrupted)
    assert train_with(disc_records, tmp_path / "run") == 130
    assert checkpoint.open(tmp_path / "run").step == 2 and not (tmp_path / "run" / "history.csv").exists()
    monkeypatch.setattr(Evaluator, "measure", interrupted)  # a second time, before any step of the resumed training
    assert train_with(disc_records, tmp_path / "run") == 130
    assert train_with(disc_records, tmp_path / "run") == 0
    assert (tmp_path / "run/history.csv").read_bytes() == (trained / "history.csv").read_bytes()
    assert not (tmp_path / "run/evaluation.json").exists()


@pytest.mark.parametrize("settings", [{}, {"ema_decay": 0.9}], ids=["weights", "averages"])
def test_the_last_evaluation_is_made_up_for_as_well(trained, disc_records, tmp_path, monkeypatch, settings):
    """It may be the best one; the statistics of batch norm, computed again before it, are those of the checkpoint."""
    measure, calls = Evaluator.measure, []

    def interrupted(self, *args):
        calls.append(self)
        if len(calls) == 3:
            signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)
        return measure(self, *args)

    whole = trained
    if settings:
        whole = tmp_path / "whole"
        assert train_with(disc_records, whole, **settings) == 0
    monkeypatch.setattr(Evaluator, "measure", interrupted)
    assert train_with(disc_records, tmp_path / "run", **settings) == 130
    assert [row["step"] for row in history(tmp_path / "run")] == ["2", "4"]
    assert train_with(disc_records, tmp_path / "run", **settings) == 0
    assert (tmp_path / "run/history.csv").read_bytes() == (whole / "history.csv").read_bytes()
    assert json.loads((tmp_path / "run/best/best.json").read_bytes()) == json.loads(
        (whole / "best/best.json").read_bytes()
    )
    for name, value in checkpoint.open(whole).arrays().items():
        np.testing.assert_array_equal(checkpoint.open(tmp_path / "run").array(name), value)
    count = len(calls)
    assert train_with(disc_records, tmp_path / "run", **settings) == 0 and len(calls) == count  # nothing is left to do


@pytest.mark.parametrize("at", [0, 1])
def test_devices_measure_at_the_same_time_and_an_interruption_of_one_ends_all(at):
    together = threading.Barrier(2, timeout=60)

    class Measuring:
        observe = None

        def __init__(self, number):
            self.number, self.images = number, 0

        def measure(self, quiet=False):
            assert quiet == (self.number > 0)
            together.wait()
            if self.number == at:
                raise KeyboardInterrupt if at == 0 else ValueError
            while self.images < 6000 and self.number:
                self.images += 1
                self.observe(0, None, None)
                time.sleep(0.01)

    evaluators = [Measuring(0), Measuring(1)]
    with pytest.raises(KeyboardInterrupt if at == 0 else ValueError):
        live_evaluation._measured_together(evaluators)
    assert evaluators[1].images < 6000
