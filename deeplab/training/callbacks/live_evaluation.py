"""Evaluation of the model in training: the best checkpoint, the history, and the end of a training that stagnates.

The numbers are those that the eval command gives for the checkpoint in `best/`, which is a folder like a training
folder: `config.yml` beside `model.ckpt-STEP`. Where the training was too short for the batch-norm averages to settle,
they are computed again for the evaluation, as before the last checkpoint; the training goes on with its own.

All state is in files: a resumed training drops the lines of `history.csv` after the step it resumes from, and reads the
best mean IoU from `best/best.json`, so that it decides as if it had never stopped. Where a stop interrupts an
evaluation, the step's losses wait in `evaluation.json` for the row that the resumed training adds.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import io
import json
import pathlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import keras

from deeplab.checkpoint import manager
from deeplab.checkpoint.chosen import BEST, RECORD, read_best
from deeplab.config import run_file
from deeplab.config.training_config import TrainConfig
from deeplab.evaluation.evaluator import Evaluator, MeasuredPart
from deeplab.evaluation.report import Report
from deeplab.evaluation.sharding import packed, unpacked
from deeplab.evaluation.split_images import SplitImages
from deeplab.inference.prediction import PredictionSettings
from deeplab.inference.predictor import ModelPredictor
from deeplab.training import distribution, evaluation_model, guards, schedules
from deeplab.training.callbacks import Callback, register
from deeplab.training.state import TrainState
from deeplab.utils import console
from deeplab.utils.files import write_atomically

HISTORY = "history.csv"
INTERRUPTED = "evaluation.json"


@register("live_evaluation")
class LiveEvaluation(Callback):
    """Evaluates every `eval_every` and at the end, keeps the best checkpoint, and stops by `early_stopping`.

    The devices of all workers share the images; all workers know all numbers, and so decide alike. The chief alone
    writes files.
    """

    in_all_workers = True

    def on_start(self, state: TrainState) -> None:
        self._every = 0
        self._evaluators: list[Evaluator] = []
        if not state.config.eval_every:
            return
        self._folder = pathlib.Path(state.config.train_logdir)
        self._every = state.length.steps(state.config.eval_every, "eval_every")
        self._metric = state.config.best_metric
        rows: list[dict[str, str]] = []
        best: dict = {}
        if state.devices.is_chief:
            if state.step == 0:  # files of an earlier training that starts again
                (self._folder / BEST / RECORD).unlink(missing_ok=True)
                (self._folder / HISTORY).unlink(missing_ok=True)
                (self._folder / INTERRUPTED).unlink(missing_ok=True)
            rows, best = self._read_history(), read_best(self._folder)
        rows, self._best = json.loads(state.devices.gathered(json.dumps([rows, best]).encode())[0])
        if (self._best.get("split"), self._best.get("metric")) != (state.config.eval_split, self._metric):
            self._best = {}
        state.best = self._best
        self._rows = [row for row in rows if int(row["step"]) <= state.step]
        self._lower_rate(state)
        if state.step and not self._has_row(state):
            self.after_step(state)  # a stop came before or during the evaluation of this step
        self._stop_if_stagnant(state)

    def after_step(self, state: TrainState) -> None:
        if self._every and state.step % self._every == 0 and not state.is_last_step:
            with self._keeping_losses(state), evaluation_model.ready(state):
                self._evaluate(state)
            self._stop_if_stagnant(state)

    def on_end(self, state: TrainState) -> None:
        """Evaluates the final weights, whose batch-norm statistics have been computed again where needed."""
        if self._every and state.is_last_step and not self._has_row(state):
            ready = evaluation_model.ready(state, recalibrate=False)
            with guards.interrupted(state.stop), self._keeping_losses(state), ready:
                self._evaluate(state)

    # ---- one evaluation

    def _evaluate(self, state: TrainState) -> None:
        state.require_finite_loss()
        started = time.monotonic()
        self._evaluators = self._evaluators or make_evaluators(state, evaluation_model.model_of(state))
        evaluator = self._evaluators[0]
        evaluator.predictor.step = state.step
        with state.stop.at_once():
            report = shared_evaluation(state, self._evaluators)
        metrics = metrics_of(report)
        if metrics[self._metric] > self._best.get("value", -2.0):  # never for NaN
            self._save_best(state, metrics)
        self._add_row(state, metrics)
        whole = Evaluator(evaluator.predictor, dataclasses.replace(evaluator.images, part=(0, 1)))
        state.best, state.evaluation = self._best, (report, whole)
        self._lower_rate(state)
        for warning in report.warnings():
            first, *causes = warning.splitlines()
            console.warning(f"{first} report.html, written at the end, lists possible causes." if causes else first)
        console.note(f"{report.text()}\n{self._summary(state, metrics)}")
        seconds = time.monotonic() - started
        for actor in state.actors:
            actor.on_evaluation(state, {**metrics, "seconds": seconds})

    def _has_row(self, state: TrainState) -> bool:
        return any(int(row["step"]) == state.step for row in self._rows)

    def _summary(self, state: TrainState, metrics: dict[str, float]) -> str:
        """One line: this evaluation and the best one."""
        best = f"best {self._best['value']:.4f} at step {self._best['step']}" if self._best else "no best yet"
        name = "mean IoU" if self._metric == "mean_iou" else self._metric
        return f"step {state.step}: {name} {metrics[self._metric]:.4f} on {state.config.eval_split}, {best}"

    def _lower_rate(self, state: TrainState) -> None:
        """Sets the factor of a learning rate that waits for a plateau, from all evaluations so far."""
        scale, schedule = state.trainer.rate_scale, state.trainer.schedule
        if scale is None:
            return
        scores = [float(row[self._metric] or "nan") for row in self._rows if row["split"] == state.config.eval_split]
        reductions = schedules.plateau_reductions(scores, schedule.plateau_patience)
        factor = schedule.learning_rate_decay_factor**reductions
        if abs(factor - float(scale.numpy())) > 1e-6 * factor:
            rate = factor * schedule.base_learning_rate
            console.note(f"step {state.step}: no better {self._metric} for a while, learning rate now {rate:.3g}")
        scale.assign(factor)

    def _save_best(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Writes weights and settings, then the record: a kill in between leaves an older record, not a wrong one."""
        folder = self._folder / BEST
        if state.devices.is_chief:
            folder.mkdir(exist_ok=True)
            config = self._folder / run_file.FILE_NAME
            if config.exists():
                write_atomically(folder / run_file.FILE_NAME, config.read_bytes())
            manager.save_step(folder, state.step, evaluation_model.checkpoint_tensors(state), keep=1)
        value, split = metrics[self._metric], state.config.eval_split
        self._best = {"step": state.step, "metric": self._metric, "value": value, "split": split}
        self._best["mean_iou"] = metrics["mean_iou"]
        if state.devices.is_chief:
            write_atomically(folder / RECORD, json.dumps(self._best).encode())

    def _stop_if_stagnant(self, state: TrainState) -> None:
        patience = state.config.early_stopping
        if not patience or not self._best or state.is_last_step:
            return
        same_split = [row for row in self._rows if row["split"] == state.config.eval_split]
        since = [row for row in same_split if int(row["step"]) > self._best["step"]]
        if len(since) >= patience:
            state.stopped_early = True
            console.note(
                f"stopping early at step {state.step}: {len(since)} evaluations without a better {self._metric} than "
                f"{self._best['value']:.4f}, of step {self._best['step']} "
                f"({self._folder / BEST}); a higher `early_stopping` trains on"
            )

    # ---- files

    def _read_history(self) -> list[dict[str, str]]:
        path = self._folder / HISTORY
        if not path.is_file():
            return []
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def _add_row(self, state: TrainState, metrics: dict[str, float]) -> None:
        row = {
            "step": str(state.step),
            "split": state.config.eval_split,
            **self._losses(state),
            **{name: f"{value:.6f}" for name, value in metrics.items()},
        }
        self._rows.append(row)
        if not state.devices.is_chief:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomically(self._folder / HISTORY, text.getvalue().encode())
        (self._folder / INTERRUPTED).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _keeping_losses(self, state: TrainState) -> Iterator[None]:
        """Writes the losses of the step where an evaluation is interrupted: a resumed training no longer knows them."""
        try:
            yield
        except BaseException:
            if state.stop.received and state.devices.is_chief and not self._has_row(state):
                kept = {"step": state.step, **self._losses(state)}
                write_atomically(self._folder / INTERRUPTED, json.dumps(kept).encode())
            raise

    def _losses(self, state: TrainState) -> dict[str, str]:
        """Losses and learning rate of the step, as texts; empty where they are not known."""
        names = ("total_loss", *state.parts, "learning_rate")
        results = state.results  # none before the first step of a resumed training
        if results or not state.devices.is_chief:
            return {name: f"{results[name]:.6g}" if name in results else "" for name in names}
        path = self._folder / INTERRUPTED
        kept = json.loads(path.read_bytes()) if path.is_file() else {}
        return {name: kept.get(name, "") if kept.get("step") == state.step else "" for name in names}


def was_interrupted(config: TrainConfig, step: int) -> bool:
    """Whether a stop has ended the evaluation of this step in a training of one machine."""
    path = pathlib.Path(config.train_logdir, INTERRUPTED)
    return bool(config.eval_every) and path.is_file() and json.loads(path.read_bytes()).get("step") == step


def make_evaluators(state: TrainState, model: keras.Model) -> list[Evaluator]:
    """Evaluators of a model in training on `eval_split`, with the defaults of the eval command: one for each device.

    Each has its part of the images; together, those of all workers have the whole split.
    """
    assert state.configs
    dataset, devices = state.dataset, state.devices
    settings = PredictionSettings(state.configs.model, state.configs.resize)
    predictor = ModelPredictor(
        model, settings, dataset.num_classes, class_names=dataset.class_names, colors=dataset.colors
    )
    split = SplitImages(dataset, state.configs.dataset.dataset_dir, state.config.eval_split, settings)
    local = 1 if distribution.is_tpu(devices.strategy) else devices.local_replicas
    found = []
    for number in range(local):
        images = dataclasses.replace(split, part=(devices.worker * local + number, devices.workers * local))
        own = predictor.within(functools.partial(devices.replica, number)) if local > 1 else predictor
        found.append(Evaluator(own, images))
    return found


class _InterruptedError(Exception):
    """Ends an evaluation in another thread."""


def shared_evaluation(state: TrainState, evaluators: list[Evaluator]) -> Report:
    """The report on the whole split, of which each device of each worker has predicted its part."""
    started = time.monotonic()
    parts = _measured_together(evaluators)
    if state.devices.workers > 1:
        parts = [unpacked(part) for mine in parts for part in state.devices.gathered(packed(mine))]
    return evaluators[0].report(parts, {"dataset_dir": evaluators[0].images.folder}, started)


def _measured_together(evaluators: list[Evaluator]) -> list[MeasuredPart]:
    """What evaluators measure, each in its own thread, the first in this one, which shows the progress."""
    stopped = threading.Event()

    def check(*_: object) -> None:
        if stopped.is_set():
            raise _InterruptedError

    for other in evaluators[1:]:
        other.observe = check
    with ThreadPoolExecutor(max(1, len(evaluators) - 1)) as pool:
        others = [pool.submit(each.measure, quiet=True) for each in evaluators[1:]]
        try:
            return [evaluators[0].measure(), *(other.result() for other in others)]
        except BaseException:
            stopped.set()
            raise


def metrics_of(report: Report) -> dict[str, float]:
    """The metrics of the split by name, and the IoU of each class as `iou/CLASS`."""
    by_class = zip(report.class_names, report.per_class()["iou"].tolist(), strict=True)
    return {**report.overall(), **{f"iou/{name}": value for name, value in by_class}}
