"""Processes that train together (tests/support/cluster_training.py).

`--long` adds what takes more than a few seconds of processor time.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf
from support.errors import raises

from deeplab.training import connection
from deeplab.training.cluster import Cluster

pytestmark = pytest.mark.xdist_group("training")

TESTS = pathlib.Path(__file__).parents[2]


def test_errors_of_other_workers_are_explained(monkeypatch):
    found = Cluster(("127.0.0.1:1", "127.0.0.1:2"), 0)
    aborted = tf.errors.InternalError(None, None, "Collective ops is aborted by: peer is gone")
    for error in (tf.errors.UnavailableError(None, None, "gone"), aborted):
        with raises("worker-lost", where="worker 0") as info, connection.explained(found):
            raise error
        assert info.value.value == ("1 (127.0.0.1:2)",)
    three = Cluster((*found.addresses, "127.0.0.1:3"), 0)
    monkeypatch.setattr(connection, "_silent", lambda cluster: [])  # stopped: its port still takes connections
    heartbeat = tf.errors.UnavailableError(None, None, "/job:worker/replica:0/task:2 heartbeat timeout")
    for own, error, gone in ((found, aborted, "1 (127.0.0.1:2)"), (three, heartbeat, "2 (127.0.0.1:3)")):
        with raises("worker-lost", where="worker 0") as info, connection.explained(own):
            raise error
        assert info.value.value == (gone,)
    with pytest.raises(tf.errors.InvalidArgumentError), connection.explained(found):
        raise tf.errors.InvalidArgumentError(None, None, "an error of its own")
    with pytest.raises(tf.errors.UnavailableError), connection.explained(None):
        raise tf.errors.UnavailableError(None, None, "gone")


# ---- real processes --------------------------------------------------------------------------------------


def play(scene, records, folder, **given):
    """What a scene of `cluster_training` prints."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    program = [sys.executable, str(TESTS / "support" / "cluster_training.py"), scene, str(records), str(folder)]
    done = subprocess.run([*program, json.dumps(given)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_losses_weights_and_evaluations_are_those_of_one_device(disc_records, tmp_path, request):
    """20 steps on one device, on two, and in two workers with two devices each, with sync batch norm and dropout.

    Also with running averages, a limit of the gradients, class weights of each batch and an auxiliary head.
    """
    more = {"gradient_clip_norm": 0.5, "class_balance": "adaptive", "auxiliary_loss_weight": 0.4}
    found = play("equal_mathematics", disc_records, tmp_path, eval_every=10, ema_decay=0.9, **more)
    assert set(found) == {"mirrored", "workers"}
    for name, differences in found.items():
        losses = {key: value for key, value in differences.items() if key.startswith("loss of")}
        assert len(losses) == 20 and max(losses.values()) < 1e-5, (name, losses)
        assert sum(key.startswith("history") for key in differences) > 10
        assert max(differences.values()) < 2e-3, (name, max(differences, key=differences.get))


def needs_long(request):
    if not request.config.getoption("--long"):
        pytest.skip("minutes of processor time: --long")


def test_frozen_batch_norm_is_close_to_the_bit(disc_records, tmp_path, request):
    needs_long(request)
    assert max(play("frozen", disc_records, tmp_path)["workers"].values()) < 1e-5


RESUMED = {
    "1x1": {"whole": [1, 1], "others": [[2, 1, 3]], "training_number_of_steps": 6},
    "2x1": {"whole": [2, 1], "others": [[3, 1, 7], [1, 1, 14]], "train_batch_size": 6},
    "2x2": {"whole": [2, 2], "others": [[1, 4, 10], [4, 1, 15]]},
}


@pytest.mark.parametrize("name", RESUMED)
def test_the_number_of_workers_may_change(name, disc_records, tmp_path, request):
    if name != "1x1":
        needs_long(request)
    resumed = play("resumed", disc_records, tmp_path, **RESUMED[name])
    assert len(resumed) == len(RESUMED[name]["others"])
    for differences in resumed.values():  # slots of tiny gradients carry their rounding
        assert max(value for name, value in differences.items() if name.startswith("loss of")) < 1e-5
        assert max(value for name, value in differences.items() if not name.endswith("/Momentum")) < 2e-3


PRUNING = {"prune_sparsity": 0.5, "prune_begin": 1, "prune_end": 5, "prune_every": 2}
TEACHER = {"distill_from": "{base}/teacher", "distill_on": "features"}
MEMORY = {"image_cache": "memory"}
FEATURES = {
    "together": TEACHER | PRUNING | MEMORY | {"training_number_of_steps": 6, "batch_norm_calibration_batches": 0},
    "distillation": TEACHER,
    "mixed_float16": {"precision": "mixed_float16"},
    "mixed_float16_of_two_devices": {"precision": "mixed_float16", "num_clones": 2},
    "pruning": PRUNING,
    "cache": MEMORY,
}


@pytest.mark.parametrize("name", FEATURES)
def test_other_kinds_of_training_are_those_of_one_device(name, disc_records, tmp_path, request):
    if name != "together":
        needs_long(request)
    differences = play("features", disc_records, tmp_path, **{name: FEATURES[name]})[name]
    losses = [value for key, value in differences.items() if key.startswith("loss of")]
    assert len(losses) == FEATURES[name].get("training_number_of_steps", 20)
    if name == "mixed_float16":  # one device sums over the batch in another order, and each step amplifies the rounding
        assert max(losses[:5]) < 2**-10
        return
    assert max(losses) < 1e-5
    weights = {key: value for key, value in differences.items() if not key.endswith("/Momentum")}
    assert max(weights.values()) < 2e-3, max(weights, key=weights.get)


def test_kills_leave_a_training_that_ends_as_if_it_had_never_stopped(disc_records, tmp_path, request):
    kills, length = 1, {"training_number_of_steps": 10, "eval_every": 5}
    if request.config.getoption("--long"):
        kills, length = 100, {}
    found = play("kills", disc_records, tmp_path, kills=kills, **length)
    assert found["kills"] == kills and found["different"] == []
    for phase, code, said in zip(found["phases"], found["codes"], found["said"], strict=True):
        is_told = "[worker-lost]" in said or "[worker-missing]" in said
        assert is_told and code in (75, -9), (phase, code, said)  # -9: in TensorFlow's code, see connection._deadline
    assert max(found["seconds"]) < 60


@pytest.fixture(scope="module")
def scenes(disc_records, tmp_path_factory):
    """Scenes of one process, which has to import TensorFlow once: what each gives, by its name. The folder."""
    folder = tmp_path_factory.mktemp("scenes")
    return play("many", disc_records, folder, scenes=["alone", "signals", "busy", "mute"]), folder


def test_a_worker_that_never_comes_ends_the_others(scenes):
    found = scenes[0]["alone"]
    assert found["codes"] == [75, 75]
    for missing, said in zip((1, 0), found["said"], strict=True):
        assert "[worker-missing]" in said and f"worker {missing} (127.0.0.1" in said
    assert not (scenes[1] / "alone").exists()


def test_a_worker_that_listens_but_never_registers_is_missing_within_the_limit(scenes):
    """The chief has 3 seconds for the meeting and the connection together, and 2 at least for the last."""
    found = scenes[0]["mute"]
    assert found["code"] != 0 and found["seconds"] < connection._TO_CONNECT
    assert "[worker-missing]" in found["said"] and f"({found['address']})" in found["said"]


def test_workers_heed_signals_once_they_are_connected(scenes):
    """TensorFlow puts a handler of SIGTERM in place that only takes a note."""
    assert scenes[0]["signals"]["codes"] == [42, 42]


def test_a_worker_that_is_busy_when_another_one_ends_is_ended(scenes):
    found = scenes[0]["busy"]
    assert found["codes"] == [75, 9]
    assert found["said"].count(f"worker 1 ({found['address']}) has ended") == 1 and "[worker-lost]" in found["said"]
