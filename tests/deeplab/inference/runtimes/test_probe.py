"""Model files that crash native code: real crashes in forks of a process that has not used TensorFlow."""

import json
import os
import subprocess
import sys

import pytest
from support.small_graphs import freeze

from deeplab.inference.runtimes import probe

PROGRAM = """
import ctypes, json, os, sys, time
from types import SimpleNamespace
from deeplab.utils import console
console.import_tensorflow()
from deeplab import Segmenter
from deeplab.inference.runtimes import RUNTIMES, LoadOptions, probe
from deeplab.utils.errors import UserError

path = sys.argv[1]
assert probe.can_fork()
probe.SECONDS_TO_LOAD = 1.0
probe._SECONDS_IDLE_ALONE = probe._SECONDS_IDLE
real_program = probe._PROGRAM

def spin():
    while True:
        pass

def crashing():
    bands = SimpleNamespace(channels=3, dtype="uint8")
    return SimpleNamespace(bands=bands, predict=lambda image, probabilities: ctypes.string_at(0))

def refused():
    raise UserError("damaged-model", "is damaged", where=path)

def outcome(load, runtime="", program=None):
    probe._PROGRAM = program or real_program
    try:
        probe.require_survival(load, path, runtime)
    except UserError as error:
        return [error.code, error.value, error.rule.rpartition("when ")[2][-33:]]
    return "survived"

cases = {
    "crash": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "crash in run": crashing,
    "endless": spin,
    "refused": refused,
    "waiting": lambda: time.sleep(60),
    "healthy": lambda: RUNTIMES.get("frozen_graph").load(path, LoadOptions()),
}
found = {name: outcome(load) for name, load in cases.items()}
stuck = lambda: time.sleep(60)  # as a fork that has inherited a lock
probe._SECONDS_IDLE = 0.5
waits, real_wait = [], probe._wait
probe._wait = lambda *words: waits.append(real_wait(*words)) or waits[-1]
found["stuck fork, healthy file"] = outcome(stuck, "frozen_graph")
found["loaded by the fork, by the new interpreter"] = [is_loaded for is_loaded, _ in waits]
found["stuck fork, crash"] = outcome(stuck, "frozen_graph", "import ctypes; ctypes.string_at(0)")
found["stuck fork, stuck again"] = outcome(stuck, "frozen_graph", "import time; time.sleep(60)")
said = f"import os, sys; sys.path[:] = sys.argv[3:]; open({path!r} + '.said', 'w').write('probe ' + sys.argv[1])"
found["stuck fork, new interpreter"] = outcome(stuck, "frozen_graph", said)
found["words"] = open(path + ".said").read()
def greedy():
    import numpy as np
    try:
        said = f"took {np.empty(600 << 20, np.uint8).size >> 20}"
    except MemoryError:
        said = "no memory"
    open(path + ".said", "w").write(said)

probe._SECONDS_IDLE = 60
for free in (300, 3000):
    probe.available_memory = lambda: free << 20
    outcome(greedy)
    found[f"600 MB where {free} are free"] = open(path + ".said").read()
probe.available_memory = lambda: 300 << 20
outcome(cases["healthy"])
found["loaded within 300 MB"] = waits[-1][0]
assert probe.can_fork(), "the children used TensorFlow, this process did not"
segmenter = Segmenter(path)
found["can fork afterwards"] = probe.can_fork()
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks are used on Linux alone")
def test_crashes_and_endless_files_are_errors_and_healthy_ones_survive(tmp_path):
    graph = freeze(tmp_path / "graph.pb")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", PROGRAM, graph]
    run = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    assert json.loads(run.stdout) == {
        "crash": ["crashing-model", "SIGSEGV", "it is loaded"],
        "abort": ["crashing-model", "SIGABRT", "it is loaded"],
        "crash in run": ["crashing-model", "SIGSEGV", "it runs"],
        "endless": ["time-limit", 1.0, "did not load within 1 seconds"],
        "refused": "survived",
        "waiting": "survived",
        "healthy": "survived",
        "stuck fork, healthy file": "survived",
        "loaded by the fork, by the new interpreter": [False, True],
        "stuck fork, crash": ["crashing-model", "SIGSEGV", "it is loaded"],
        "stuck fork, stuck again": ["time-limit", 5.0, "did not come, while it was loaded"],
        "stuck fork, new interpreter": "survived",
        "words": "probe frozen_graph",
        "600 MB where 300 are free": "no memory",
        "600 MB where 3000 are free": "took 600",
        "loaded within 300 MB": True,
        "can fork afterwards": False,
    }


def test_a_process_that_has_used_tensorflow_does_not_fork(monkeypatch):
    import tensorflow as tf

    tf.constant(1)
    assert not probe.can_fork()
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a fork could not use TensorFlow"))
    probe.require_survival(lambda: pytest.fail("not here"), "x")
