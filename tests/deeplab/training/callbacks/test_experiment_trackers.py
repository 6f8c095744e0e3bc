"""Experiment trackers: what is sent, to which run, and that their failures end no training."""

import sys
import types

import pytest
from support.callback_battery import CallbackBattery, make_state, run
from support.errors import raises

from deeplab.config.compression_config import CompressionConfig
from deeplab.config.training_config import TrainConfig
from deeplab.training.callbacks import experiment_trackers
from deeplab.training.callbacks.experiment_trackers import ExperimentTrackers


class TestExperimentTrackers(CallbackBattery):
    name = "experiment_trackers"


class FakeMlflow(types.ModuleType):
    """The part of MLflow's client that is used."""

    def __init__(self):
        super().__init__("mlflow")
        self.runs, self.params, self.metrics, self.states, self.fails = [], {}, [], [], False
        self.MlflowClient = lambda address: self
        self.entities = types.SimpleNamespace(
            Metric=lambda name, value, when, step, run_id: (run_id, name, value, step)
        )

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return f"number of {name}"

    def create_run(self, experiment, run_name):
        self.runs.append((experiment, run_name))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"run{len(self.runs)}"))

    def log_param(self, run, name, value):
        self.params[name] = value

    def log_batch(self, run, metrics):
        if self.fails:
            raise ConnectionError("no\nserver")
        self.metrics += metrics

    def set_terminated(self, run, state):
        self.states.append((run, state))


class FakeWandb(types.ModuleType):
    """The part of Weights & Biases that is used."""

    def __init__(self):
        super().__init__("wandb")
        self.calls, self.rows, self.ends = [], [], []
        self.Settings = dict

    def init(self, **given):
        self.calls.append(given)
        return types.SimpleNamespace(
            id=given["id"] or "new1",
            log=lambda values, step: self.rows.append((step, values)),
            finish=lambda exit_code: self.ends.append(exit_code),
        )


@pytest.fixture
def mlflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", FakeMlflow())
    return sys.modules["mlflow"]


@pytest.fixture
def wandb(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb())
    return sys.modules["wandb"]


def test_mlflow_gets_settings_losses_and_metrics(mlflow, tmp_path):
    state = make_state(tmp_path / "mine", report_to=("mlflow",))
    callback = ExperimentTrackers()
    run(callback, state)
    assert mlflow.runs == [("number of deeplab", "mine")] and mlflow.states == [("run1", "FINISHED")]
    losses = [entry for entry in mlflow.metrics if entry[1] == "total_loss"]
    assert [step for *_, step in losses] == [1, 2, 4, 6] and losses[1] == ("run1", "total_loss", 0.5, 2)
    assert mlflow.params["train_batch_size"] and mlflow.params["num_classes"] == "3"
    assert not [value for value in mlflow.params.values() if str(tmp_path) in value]
    callback.on_evaluation(state, {"mean_iou": 0.5, "iou/hair (dark)": float("nan")})
    assert mlflow.metrics[-1] == ("run1", "evaluation/mean_iou", 0.5, 6)


def test_a_resumed_training_goes_on_with_its_run(mlflow, wandb, tmp_path):
    settings = {"report_to": ("mlflow,wandb",)}
    run(ExperimentTrackers(), make_state(tmp_path, **settings), until=3)
    run(ExperimentTrackers(), make_state(tmp_path, step=3, **settings))
    assert len(mlflow.runs) == 1
    assert mlflow.states == [("run1", "KILLED"), ("run1", "RUNNING"), ("run1", "FINISHED")]
    assert [(call["id"], call["resume"]) for call in wandb.calls] == [(None, None), ("new1", "allow")]
    assert wandb.ends == [1, 0] and [step for step, _ in wandb.rows] == [1, 2, 4, 6]
    run(ExperimentTrackers(), make_state(tmp_path, **settings))  # from the beginning: another run
    assert len(mlflow.runs) == 2 and wandb.calls[-1]["id"] is None


def test_an_evaluation_before_its_start_is_sent_to_the_run_of_the_training(mlflow, tmp_path):
    callback, state = ExperimentTrackers(), make_state(tmp_path, report_to=("mlflow",))
    callback.on_evaluation(state, {"mean_iou": 0.5})
    callback.on_start(state)
    assert len(mlflow.runs) == 1 and mlflow.metrics == [("run1", "evaluation/mean_iou", 0.5, 0)]
    ExperimentTrackers().on_evaluation(make_state(tmp_path), {"mean_iou": 0.5})  # without trackers


def test_a_tracker_that_fails_ends_no_training(mlflow, tmp_path, capsys):
    mlflow.fails = True
    run(ExperimentTrackers(), make_state(tmp_path, report_to=("mlflow",)))
    said = capsys.readouterr().err
    assert said.count("mlflow failed, and nothing more is sent to it in this training: ConnectionError: no server") == 1


def test_a_tracker_that_does_not_start_is_an_error(mlflow, tmp_path, monkeypatch):
    monkeypatch.setattr(mlflow, "create_run", lambda *_, **__: 1 / 0)
    with raises("tracker-failed", field="report_to"):
        ExperimentTrackers().on_start(make_state(tmp_path, report_to=("mlflow",)))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with raises("missing-library", where="wandb"):
        ExperimentTrackers().on_start(make_state(tmp_path, report_to=("wandb",)))


def test_no_setting_that_names_a_place_is_sent(tmp_path):
    teacher, state = str(tmp_path / "patients"), make_state(tmp_path)
    compression = CompressionConfig(distill_from=teacher, distill_cache=teacher)
    state.configs = types.SimpleNamespace(groups=lambda: (state.config, compression))
    sent = experiment_trackers.settings_of(state)
    assert sent["distill_weight"] == 1 and not [value for value in sent.values() if teacher in str(value)]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ((), ()),
        (("none",), ()),
        (("tensorboard",), ("tensorboard",)),
        (("mlflow, WANDB", "mlflow"), ("mlflow", "wandb")),
    ],
)
def test_names(given, names):
    assert TrainConfig("logs", report_to=given).trackers() == names


def test_a_name_that_is_none():
    with raises("unknown-name", field="report_to") as error:
        TrainConfig("logs", report_to=("tensorbord",))
    assert "tensorboard" in error.value.hint


@pytest.mark.parametrize("text", ["", "../../x", "a b", "\0", "x" * 100])
def test_a_damaged_run_file_means_a_new_run(tmp_path, text):
    (tmp_path / ".mlflow_run").write_text(text)
    assert experiment_trackers._known_run(tmp_path, "mlflow") == ""


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_the_library_itself_keeps_the_numbers_here(name, tmp_path, monkeypatch):
    pytest.importorskip(name, reason=f"the extra {name} is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "runs"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    run(ExperimentTrackers(), make_state(tmp_path / "mine", report_to=(name,)))
    kept = {"mlflow": "runs/*/*/metrics/total_loss", "wandb": "mine/wandb/offline-*"}
    assert list(tmp_path.glob(kept[name]))
    assert (tmp_path / "mine" / f".{name}_run").read_text().strip()
