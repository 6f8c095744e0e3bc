"""Who the workers of a training are, and real processes that train together (tests/support/cluster_training.py).

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

from deeplab.training import cluster
from deeplab.training.cluster import Cluster

pytestmark = pytest.mark.xdist_group("training")

TESTS = pathlib.Path(__file__).parents[2]
SLURM = {
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_NODELIST": "gpu[9-10]",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
    "SLURM_PROCID": "2",
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
}


def config(kind="worker", index: object = 0, **jobs):
    return json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (config(worker=["a:1", "b:1"], index=1), Cluster(("a:1", "b:1"), 1)),
        (config(chief=["c:1"], worker=["a:1", "b:1"], index=1), Cluster(("c:1", "a:1", "b:1"), 2)),
        (config("chief", chief=["c:1"], worker=["a:1"]), Cluster(("c:1", "a:1"), 0)),
        (config(worker=["a:1", "b:1"], index="1"), Cluster(("a:1", "b:1"), 1)),
        (config(worker=["[::1]:1", "b.example.org:65535"], ps=[]), Cluster(("[::1]:1", "b.example.org:65535"), 0)),
        (config(worker=["a:1"]), None),
        ('{"cluster": {"worker": ["a:1"]}}', None),
        ("{}", None),
    ],
)
def test_tf_config(text, expected):
    assert cluster.of_tf_config(text) == expected
    assert cluster.find({"TF_CONFIG": text}) == expected


@pytest.mark.parametrize(
    "text",
    [
        "worker",
        "[]",
        "[" * 100_000,
        '{"cluster": 3}',
        '{"cluster": {"worker": "a:1,b:1"}, "task": {"index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": "worker"}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": ["worker", 0]}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker"}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": ["worker"], "index": 0}}',
        config(worker=["a:1", "b:1"], index=0.5),
        config(worker=["a:1", "b:1"], index=True),
        config(worker=["a:1", "b:1"], index="-1"),
        config(worker=["a:1", "b:1"], index="one"),
        config(worker=["a:1", "b"]),
        config(worker=["a:1", "b:0"]),
        config(worker=["a:1", 2]),
        config(worker=["a:1", "http://b:1"]),
        config(worker=["a:1", "b 1:1"]),
        config("chief", chief=["a:1", "b:1"]),
        '{"cluster": {"worker": 3}}',
        config(worker=["a:1", "b:1"], index=2),
        config(worker=["a:1", "b:1"], index=-1),
        config(worker=["a:1", "b:1"], ps=["c:1"]),
        config("evaluator", worker=["a:1", "b:1"]),
        config(worker=["a:1", "a:1"]),
    ],
)
def test_tf_config_that_describes_no_cluster(text):
    with raises("bad-cluster", where="TF_CONFIG"):
        cluster.find({"TF_CONFIG": text})


@pytest.mark.parametrize(
    ("nodes", "tasks", "hosts"),
    [
        ("gpu[01-03,07]", "1(x4)", ["gpu01", "gpu02", "gpu03", "gpu07"]),
        (
            "gpu[01-03,07],fat-1",
            "2(x2),1,3(x2)",
            ["gpu01"] * 2 + ["gpu02"] * 2 + ["gpu03"] + ["gpu07"] * 3 + ["fat-1"] * 3,
        ),
        ("b2,a1", "1(x2)", ["b2", "a1"]),
        ("rack[1-2]node[1-2].cluster.org", "1(x4)", None),
        ("ip-10-0-0-[9,12]", "2(x2)", ["ip-10-0-0-9"] * 2 + ["ip-10-0-0-12"] * 2),
    ],
)
def test_lists_of_nodes(nodes, tasks, hosts):
    number = len(hosts) if hosts else 4
    given = {"SLURM_STEP_NUM_TASKS": str(number), "SLURM_STEP_NODELIST": nodes, "SLURM_STEP_TASKS_PER_NODE": tasks}
    found = [cluster.find({**given, "SLURM_PROCID": str(index), "SLURM_JOB_ID": "123456"}) for index in range(number)]
    assert [one.index for one in found] == list(range(number)) and len({one.addresses for one in found}) == 1
    assert len(set(found[0].addresses)) == number
    expected = hosts or [f"rack{rack}node{node}.cluster.org" for rack in (1, 2) for node in (1, 2)]
    assert [address.rpartition(":")[0] for address in found[0].addresses] == expected


def test_slurm_numbers_tasks_in_the_order_of_its_list_of_nodes():
    found = cluster.find(SLURM)
    hosts, ports = zip(*(address.split(":") for address in found.addresses), strict=True)
    assert hosts == ("gpu9", "gpu9", "gpu10") and found.index == 2
    assert int(ports[1]) == int(ports[0]) + 1 and ports[2] == ports[0] and 12000 <= int(ports[0]) < 28000
    other = cluster.find({**SLURM, "SLURM_JOB_ID": "8"})
    assert other.addresses[0] != found.addresses[0]


@pytest.mark.parametrize("tasks", [{}, {"SLURM_STEP_NUM_TASKS": "1"}, {"SLURM_STEP_NUM_TASKS": ""}])
def test_one_task_is_alone(tasks):
    assert cluster.find(tasks) is None


@pytest.mark.parametrize(
    "change",
    [
        {"SLURM_STEP_NODELIST": "gpu[9"},
        {"SLURM_STEP_NODELIST": "gpu[9-x]"},
        {"SLURM_STEP_NODELIST": ""},
        {"SLURM_STEP_TASKS_PER_NODE": "2"},
        {"SLURM_PROCID": "3"},
        {"SLURM_PROCID": "one"},
        {"SLURM_STEP_NUM_TASKS": "many"},
        {"SLURM_STEP_NUM_TASKS": "4"},
        {"SLURM_NODEID": "first"},
        {"SLURM_NODEID": "0"},  # task 2 is on the second node, unless tasks are dealt out in turn
    ],
)
def test_slurm_variables_that_contradict_each_other(change):
    with raises("bad-cluster"):
        cluster.find({**SLURM, **change})


def test_errors_of_other_workers_are_explained():
    found = Cluster(("127.0.0.1:1", "127.0.0.1:2"), 0)
    aborted = tf.errors.InternalError(None, None, "Collective ops is aborted by: peer is gone")
    for error in (tf.errors.UnavailableError(None, None, "gone"), aborted):
        with raises("worker-lost", where="worker 0") as info, cluster.explained(found):
            raise error
        assert info.value.value == ("1 (127.0.0.1:2)",)
    with pytest.raises(tf.errors.InvalidArgumentError), cluster.explained(found):
        raise tf.errors.InvalidArgumentError(None, None, "an error of its own")
    with pytest.raises(tf.errors.UnavailableError), cluster.explained(None):
        raise tf.errors.UnavailableError(None, None, "gone")


# ---- real processes --------------------------------------------------------------------------------------


def play(scene, records, folder, **given):
    """What a scene of `cluster_training` prints."""
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    program = [sys.executable, str(TESTS / "support" / "cluster_training.py"), scene, str(records), str(folder)]
    done = subprocess.run([*program, json.dumps(given)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_losses_weights_and_evaluations_are_those_of_one_device(disc_records, tmp_path, request):
    """20 steps on one device, on two, and in two workers with two devices each, with sync batch norm and dropout."""
    found = play("equal_mathematics", disc_records, tmp_path, eval_every=10, ema_decay=0.9)
    assert set(found) == {"mirrored", "workers"}
    for name, differences in found.items():
        losses = {key: value for key, value in differences.items() if key.startswith("loss of")}
        assert len(losses) == 20 and max(losses.values()) < 1e-5, (name, losses)
        assert sum(key.startswith("history") for key in differences) > 10
        assert max(differences.values()) < 2e-3, (name, max(differences, key=differences.get))


def test_frozen_batch_norm_is_close_to_the_bit_and_the_number_of_workers_may_change(disc_records, tmp_path, request):
    if not request.config.getoption("--long"):
        pytest.skip("a minute of processor time: --long")
    (frozen, resumed) = (play(scene, disc_records, tmp_path / scene) for scene in ("frozen", "resumed"))
    assert max(frozen["workers"].values()) < 1e-5
    assert set(resumed) == {"resumed_by_3", "resumed_by_1"}
    for differences in resumed.values():  # slots of tiny gradients carry their rounding
        assert max(value for name, value in differences.items() if name.startswith("loss of")) < 1e-5
        assert max(value for name, value in differences.items() if not name.endswith("/Momentum")) < 2e-3


def test_kills_leave_a_training_that_ends_as_if_it_had_never_stopped(disc_records, tmp_path, request):
    kills = 100 if request.config.getoption("--long") else 1
    found = play("kills", disc_records, tmp_path, kills=kills)
    assert found["kills"] == kills and found["different"] == []
    assert all(code == 75 for code in found["codes"]), found["codes"]
    assert "worker 1" in found["said"] or "worker 0" in found["said"]
    assert max(found["seconds"]) < 60


def test_a_worker_that_never_comes_ends_the_others(disc_records, tmp_path):
    found = play("alone", disc_records, tmp_path)
    assert found["codes"] == [75, 75]
    for missing, said in zip((1, 0), found["said"], strict=True):
        assert "[worker-missing]" in said and f"worker {missing} (127.0.0.1" in said
    assert not (tmp_path / "alone").exists()
