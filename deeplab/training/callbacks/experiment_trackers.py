"""MLflow and Weights & Biases: the settings and numbers of a training, sent to an experiment tracker on request.

Owns what is sent, and which run of the tracker a resumed training continues; both libraries are extras.
Addresses and keys come from the libraries' own environment variables. A tracker that fails after the start is left out
with a warning: it never ends a training. Images, weights and paths are not sent.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from deeplab.config.fields import as_dict
from deeplab.config.training_config import MLFLOW, WANDB
from deeplab.training.callbacks import Callback, register
from deeplab.training.state import TrainState
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.extras import require
from deeplab.utils.files import write_atomically

NAMES = ("total_loss", "task_loss", "regularization_loss", "learning_rate")
RUN_FILE = ".{}_run"  # in the training folder: the run that a resumed training continues
_PATHS = re.compile(r"_dir$|_logdir$|^tf_initial_checkpoint$|_json$|^dataset$|^distill_(from|cache)$")
_MAX_NAME, _MAX_VALUE = 250, 500  # characters that MLflow takes


class Tracker(Protocol):
    """A connection to one run of a tracker."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Sends numbers of a step."""

    def close(self, is_complete: bool) -> None:
        """Ends the run, or leaves it open for the rest of the training."""


@register("experiment_trackers")
class ExperimentTrackers(Callback):
    """Sends losses every `log_steps` steps and metrics after evaluations, to what `report_to` names."""

    def __init__(self) -> None:
        self._trackers: dict[str, Tracker] = {}
        self._has_started = False

    def on_start(self, state: TrainState) -> None:
        if self._has_started:
            return
        self._has_started = True
        for name in (name for name in state.config.trackers() if name in TRACKERS):
            try:
                self._trackers[name] = TRACKERS[name](state)
            except UserError:
                raise
            except Exception as error:  # whatever the library raises: a missing key, a server that is not there
                rule = f"{name} does not start: {_short(error)}"
                hint = f"check its settings, or leave {name} out of `report_to`"
                raise UserError("tracker-failed", rule, hint, field="report_to", value=name) from error

    def after_step(self, state: TrainState) -> None:
        if self._trackers and state.is_log_step:
            self._send(lambda one: one.log({name: float(state.results[name]) for name in NAMES}, state.step))

    def on_evaluation(self, state: TrainState, metrics: dict[str, Any]) -> None:
        self.on_start(state)  # a resumed training may evaluate when the live evaluation starts, which is earlier
        values = {f"evaluation/{name}": float(value) for name, value in metrics.items() if float(value) == float(value)}
        self._send(lambda one: one.log(values, state.step))

    def on_end(self, state: TrainState) -> None:
        self._send(lambda one: one.close(state.is_last_step))

    def _send(self, action: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                action(tracker)
            except Exception as error:  # the network, mostly
                del self._trackers[name]
                console.warning(f"{name} failed, and nothing more is sent to it in this training: {_short(error)}")


class MlflowTracker:
    """A run of MLflow: at MLFLOW_TRACKING_URI (unset: in `mlruns` here), of the experiment MLFLOW_EXPERIMENT_NAME."""

    def __init__(self, state: TrainState):
        for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ALLOW_FILE_STORE"):
            os.environ.setdefault(name, "true")
        self._library = require("mlflow", MLFLOW)
        self._client = self._library.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or os.path.abspath("mlruns"))
        folder = pathlib.Path(state.config.train_logdir)
        self._run = _known_run(folder, MLFLOW) if state.step else ""
        if self._run:
            self._client.set_terminated(self._run, "RUNNING")
            return
        self._run = self._client.create_run(self._experiment(), run_name=folder.name).info.run_id
        for name, value in settings_of(state).items():
            self._client.log_param(self._run, name[:_MAX_NAME], str(value)[:_MAX_VALUE])
        _remember(folder, MLFLOW, self._run)

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "deeplab")
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def log(self, values: Mapping[str, float], step: int) -> None:
        metrics = [
            self._library.entities.Metric(_plain(name), value, 0, step, run_id=self._run)
            for name, value in values.items()
        ]
        self._client.log_batch(self._run, metrics)

    def close(self, is_complete: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if is_complete else "KILLED")


class WandbTracker:
    """A run of Weights & Biases; WANDB_PROJECT, WANDB_API_KEY and WANDB_MODE=offline say where it goes."""

    def __init__(self, state: TrainState):
        library = require("wandb", WANDB)
        folder = pathlib.Path(state.config.train_logdir)
        known = _known_run(folder, WANDB) if state.step else ""
        self._run = library.init(
            project=os.environ.get("WANDB_PROJECT", "deeplab"),
            name=folder.name,
            dir=str(folder),
            config=settings_of(state),
            id=known or None,
            resume="allow" if known else None,
            settings=library.Settings(console="off", disable_git=True, save_code=False),
        )
        _remember(folder, WANDB, str(self._run.id))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self, is_complete: bool) -> None:
        self._run.finish(exit_code=0 if is_complete else 1)


TRACKERS: dict[str, Callable[[TrainState], Tracker]] = {MLFLOW: MlflowTracker, WANDB: WandbTracker}


def settings_of(state: TrainState) -> dict[str, Any]:
    """Return the settings of a training by name, and what its dataset is; no paths, which name users and folders."""
    groups = state.configs.groups() if state.configs else (state.config,)
    settings = {name: value for group in groups for name, value in as_dict(group).items() if not _PATHS.search(name)}
    return {**settings, "num_classes": state.dataset.num_classes, "seed": state.seed}


def _known_run(folder: pathlib.Path, tracker: str) -> str:
    path = folder / RUN_FILE.format(tracker)
    text = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
    return text if re.fullmatch(r"[\w-]{1,64}", text) else ""


def _remember(folder: pathlib.Path, tracker: str, run: str) -> None:
    write_atomically(folder / RUN_FILE.format(tracker), f"{run}\n".encode())


def _plain(name: str) -> str:
    """A name with the signs that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", name)[:_MAX_NAME]


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
