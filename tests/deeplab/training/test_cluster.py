"""Who the workers of a training are. Real processes that train together: test_connection.py."""

import json

import pytest
from support.errors import raises

from deeplab.training import cluster
from deeplab.training.cluster import Cluster

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
        (config("chief", chief=["a:1"]), None),
        ('{"task": {"type": "worker", "index": 0}}', None),
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
        config(worker=["a:1", "A:1"]),
        config(worker=["a:1", "b:65536"]),
        config(worker=["a:1"], index=1),
        config(chief=["a:1"]),
        '{"clusters": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}',
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
        {"SLURM_STEP_TASKS_PER_NODE": "2(x"},
        {"SLURM_STEP_TASKS_PER_NODE": "2,,1"},
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
