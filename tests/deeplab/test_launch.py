"""`deeplab launch`: which workers start where, and when they start again.

Real trainings: training/test_connection.py.
"""

import sys

import pytest
from support.errors import raises

from deeplab import launch
from deeplab.config.launch_config import LaunchConfig

WORDS = ["train", "--train_logdir=runs/a b"]


def test_workers_on_this_machine_have_free_ports(tmp_path):
    workers = launch.workers_of(LaunchConfig(workers_per_host=2, directory=str(tmp_path)), WORDS)
    assert [worker.name for worker in workers] == ["localhost/0", "localhost/1"]
    addresses = workers[0].task["cluster"]["worker"]
    assert len(set(addresses)) == 2 and all(address.startswith("127.0.0.1:") for address in addresses)
    assert [worker.task["task"]["index"] for worker in workers] == [0, 1]
    assert all(worker.command == [sys.executable, "-u", "-m", "deeplab", *WORDS] for worker in workers)
    assert not any(worker.ssh for worker in workers) and all(worker.folder == str(tmp_path) for worker in workers)


def test_other_hosts_are_reached_by_ssh_and_addressed_without_the_user():
    config = LaunchConfig(hosts=("ann@a,b",), workers_per_host=2, port=5000, ssh="ssh -p 22", python="/opt/python")
    workers = launch.workers_of(config, WORDS)
    assert workers[0].task["cluster"]["worker"] == ["a:5000", "a:5001", "b:5000", "b:5001"]
    assert workers[0].ssh == ("ssh", "-p", "22", "ann@a") and workers[3].ssh[-1] == "b"
    assert workers[2].command[0] == "/opt/python"


def test_localhost_beside_other_hosts_is_refused():
    with raises("bad-host", "hosts"):
        launch.workers_of(LaunchConfig(hosts=("localhost", "b")), WORDS)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--workers_per_host=2"], "missing-setting"),
        (["--workers_per_host=2", "--"], "missing-setting"),
        (["--", "eval", "--x=1"], "unknown-command"),
        (["train"], "left-over-words"),
    ],
)
def test_words_that_are_no_launch(capsys, words, code):
    assert launch.COMMAND.main(words) == 2
    assert f"[{code}]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("runs", "restarts", "code"),
    [
        ([[0, 0]], 3, 0),
        ([[75, 137], [0, 0]], 3, 0),
        ([[75, 75], [0, 0]], 1, 0),
        ([[75, 137], [75, 137]], 1, 1),
        ([[75, 75]], 0, 75),
        ([[75, 1]], 3, 1),
        ([[2, 75]], 3, 2),
        ([[70, 75]], 3, 70),
        ([[130, 130]], 3, 130),
    ],
)
def test_lost_workers_start_again_and_errors_do_not(monkeypatch, capsys, runs, restarts, code):
    left = list(runs)
    monkeypatch.setattr(launch, "run_together", lambda workers: left.pop(0))
    assert launch.COMMAND.main(["--workers_per_host=2", f"--restarts={restarts}", "--", "train"]) == code
    assert not left
