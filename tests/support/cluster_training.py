"""Trainings in several processes of this machine, each a fork of one that has imported TensorFlow.

Run as a program with the name of a scene, a folder of records and a folder to train in; prints JSON.
"""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import sys
import time

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from deeplab import checkpoint, train
from deeplab.training import (
    cluster,
    companions,
    connection,
    distribution,
    loop,  # noqa: F401 - imported before the forks
    meeting,
)
from support import tiny_backbone

WAIT = 600  # seconds; the machine may have other work
STEPS = 20
SETTINGS = {
    "model_variant": "tiny",
    "train_crop_size": "33,33",
    "train_batch_size": 8,
    "training_number_of_steps": STEPS,
    "base_learning_rate": 0.01,
    "random_seed": 1,
    "log_steps": 1,
    "batch_norm_calibration_batches": 2,
    "worker_wait_secs": WAIT,
    "sync_batch_norm": "true",
}


def free_ports(number: int) -> list[int]:
    """Ports at which nothing listens now."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def forked(records, folder, given, addresses=(), index=0) -> int:
    """Starts a training in a fork that ends without clean-up; its process number. What it prints is in FOLDER.INDEX."""
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        if addresses:
            task = {"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}}
            os.environ["TF_CONFIG"] = json.dumps(task)
        with (
            open(f"{folder}.{index}", "a", buffering=1) as log,
            contextlib.redirect_stderr(log),
            tiny_backbone.registered(),
        ):
            words = {"dataset_dir": records, "train_logdir": folder, **SETTINGS, **given}
            # AutoGraph finds nothing to convert in the pipeline, and takes half of the time of a start.
            main = tf.autograph.experimental.do_not_convert(train.COMMAND.main)
            code = main([f"--{name}={value}" for name, value in words.items()])
    finally:
        os._exit(code)


def together(records, folder, given, workers=1) -> list[int]:
    """Starts the workers of a training; their process numbers."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)] if workers > 1 else []
    return [forked(records, folder, given, addresses, index) for index in range(workers)]


def codes(processes) -> list[int]:
    """Exit codes of processes, when all have ended."""
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


def run(records, folder, given, workers=1) -> None:
    """A training from its beginning to its end."""
    found = codes(together(records, folder, given, workers))
    texts = [pathlib.Path(f"{folder}.{index}").read_text() for index in range(workers)]
    assert found == [0] * workers, (found, *(text[-2000:] for text in texts))


def content(folder) -> dict:
    """Losses of each step, and all arrays of the last checkpoint."""
    rows = [line.split(",") for line in pathlib.Path(folder, "losses.csv").read_text().splitlines()]
    losses = {f"loss of step {row[0]}": np.array(float(row[1])) for row in rows[1:]}
    history = pathlib.Path(folder, "history.csv")
    cells = [line.split(",") for line in history.read_text().splitlines()] if history.is_file() else [[]]
    numbers = {f"history {n} {name}": np.array(float(row[i] or "nan")) for n, row in enumerate(cells[1:])
               for i, name in enumerate(cells[0]) if name not in ("split", "seconds")}  # fmt: skip
    return losses | numbers | checkpoint.open(folder).arrays()


def distance(one: dict, other: dict) -> dict[str, float]:
    """The largest difference of each array, over the largest value of it."""
    assert one.keys() == other.keys(), one.keys() ^ other.keys()
    return {
        name: float(
            np.max(np.abs(one[name] - other[name]), initial=0) / max(np.max(np.abs(one[name]), initial=0), 1e-3)
        )
        for name in one
    }


# ---- scenes --------------------------------------------------------------------------------------------


def equal_mathematics(records, base, given) -> dict:
    """One device, two devices, and two workers with two devices each."""
    run(records, base / "one", given)
    run(records, base / "mirrored", {**given, "num_clones": 2})
    run(records, base / "workers", {**given, "num_clones": 2}, workers=2)
    one = content(base / "one")
    return {name: distance(one, content(base / name)) for name in ("mirrored", "workers")}


def resumed(records, base, given) -> dict:
    """A training whose last steps are repeated by other numbers of workers and devices.

    Args:
      records: folder of records.
      base: folder to train in.
      given: `whole`, [workers, devices of each] of the training, and `others`, each [workers, devices, first step].
    """
    (workers, clones), others = given.pop("whole"), given.pop("others")
    given = {**given, "save_interval_steps": 1, "max_checkpoints_to_keep": 99}
    steps = given.get("training_number_of_steps", STEPS)
    run(records, base / "whole", {**given, "num_clones": clones}, workers)
    found = {}
    for workers, clones, kept in others:
        folder = base / f"{workers}x{clones}"
        shutil.copytree(base / "whole", folder)
        for step in range(kept + 1, steps + 1):
            for path in folder.glob(f"model.ckpt-{step}.*"):
                path.unlink()
        run(records, folder, {**given, "num_clones": clones}, workers)
        found[folder.name] = distance(content(base / "whole"), content(folder))
    return found


def frozen(records, base, given) -> dict:
    """One device, and two workers with two devices each, from a checkpoint whose batch norm keeps its statistics."""
    run(records, base / "start", {**given, "training_number_of_steps": 2})
    given = {**given, "fine_tune_batch_norm": "false", "tf_initial_checkpoint": base / "start"}
    run(records, base / "one", given)
    run(records, base / "workers", {**given, "num_clones": 2}, workers=2)
    return {"workers": distance(content(base / "one"), content(base / "workers"))}


def kills(records, base, given) -> dict:
    """Kills one of two workers again and again, starts both again, and compares with a training without kills.

    The moments are spread over all phases of a training (`moment_of`); `seconds` is how long the other worker lived on.
    Each kill is a line of FOLDER.kills.
    """
    number, draw = given.pop("kills"), random.Random(given.pop("seed", 7))
    given = {"training_number_of_steps": 60, "save_interval_steps": 2, "eval_every": 8, "image_cache": "none", **given}
    given |= {"worker_wait_secs": 20, "average_checkpoints": 3, "batch_norm_calibration_batches": 0}
    folder = base / "killed"
    run(records, base / "whole", given, workers=2)
    found: dict = {"kills": 0, "codes": [], "seconds": [], "said": [], "phases": [], "finished": 0}
    while found["kills"] < number:
        if not found["kills"] % len(PHASES):
            phases = sorted(PHASES, key=lambda name: draw.random())
        step, phase, victim = last_step(folder), phases[found["kills"] % len(PHASES)], draw.randrange(2)
        logs = [pathlib.Path(f"{folder}.{index}") for index in range(2)]
        for log in logs:
            log.write_text("")
        processes = together(records, folder, given, workers=2)
        wanted = moment_of(phase, step, given, draw, set(folder.glob("*.saving-*")))
        while not (is_over := os.waitpid(processes[victim], os.WNOHANG)[0] != 0) and not wanted(logs[0], folder):
            time.sleep(0.005)
        if not is_over:
            os.kill(processes[victim], signal.SIGKILL)
            os.waitpid(processes[victim], 0)
        started = time.monotonic()
        code = codes([processes[1 - victim]])[0]
        if is_over or not code:  # both were through with their work
            assert code == 0, logs[1 - victim].read_text()[-2000:]
            found["finished"] += 1
            assert same(base / "whole", folder) == []
            shutil.rmtree(folder)
            continue
        found["kills"] += 1
        found["phases"].append(phase)
        found["codes"].append(code)
        found["seconds"].append(round(time.monotonic() - started, 1))
        found["said"].append(logs[1 - victim].read_text()[-400:])
        with open(f"{folder}.kills", "a", encoding="utf-8") as lines:
            where = f"{phase}, steps {step} to {last_step(folder)}"
            print(found["kills"], f"worker {victim}", where, code, found["seconds"][-1], sep=", ", file=lines)
    run(records, folder, given, workers=2)
    return {**found, "different": same(base / "whole", folder)}


PHASES = ("start", "meeting", "connection", "tracing", "steps", "saving", "evaluation")


def moment_of(phase, step, given, draw, left):
    """A function of the chief's log and the training folder that says whether the moment for a kill has come.

    Args:
      phase: of the training, of `PHASES`.
      step: of the last checkpoint.
      given: settings of the training.
      draw: for the moment within the phase.
      left: files of checkpoints that an earlier kill has left.
    """
    every = given["eval_every"]
    after = {"steps": max(step, 0) + draw.randint(1, 4), "evaluation": (max(step, 0) // every + 1) * every}
    sign = {"start": "", "meeting": "waiting for the others", "connection": "have not been checked"}.get(phase)
    sign = {"tracing": "parameters are trained"}.get(phase, sign)
    sign = f"step {after[phase]}/" if phase in after else sign
    pause = draw.uniform(0, {"start": 0.5, "steps": 0.1, "saving": 0, "evaluation": 3}.get(phase, 2))
    seen: list[float] = []

    def has_come(log, folder):
        if phase == "saving":
            has_begun = any(path not in left for path in folder.glob("*.saving-*"))
        else:
            has_begun = sign in log.read_text()
        if has_begun and not seen:
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() >= seen[0] + pause

    return has_come


def features(records, base, given) -> dict:
    """Trainings on one device and in two workers, each with other settings: how far they are apart, by name."""
    run(records, base / "teacher", {"training_number_of_steps": 2, "batch_norm_calibration_batches": 0})
    found = {}
    for name, settings in given.items():
        settings = {key: str(value).format(base=base) for key, value in settings.items()}
        run(records, base / f"{name}_one", {"num_clones": 1, **settings})
        run(records, base / f"{name}_workers", {**settings, "num_clones": 1}, workers=2)
        found[name] = distance(content(base / f"{name}_one"), content(base / f"{name}_workers"))
    return found


def last_step(folder) -> int:
    """The step of the newest checkpoint; -1 if there is none."""
    return max((int(path.stem.rpartition("-")[2]) for path in folder.glob("model.ckpt-*.index")), default=-1)


def same(one, other) -> list[str]:
    """Names of what differs between two trainings by a single bit."""
    found = content(one), content(other)
    assert found[0].keys() == found[1].keys()
    return [name for name in found[0] if not np.array_equal(found[0][name], found[1][name], equal_nan=True)]


def alone(records, base, given) -> dict:
    """Each of two workers, of which the other never starts."""
    started = []
    for index in range(2):
        addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
        started.append(forked(records, base / "alone", {**given, "worker_wait_secs": 2}, addresses, index))
    return {
        "codes": codes(started),
        "said": [pathlib.Path(f"{base / 'alone'}.{index}").read_text() for index in (0, 1)],
    }


def signals(records, base, given) -> dict:
    """Exit codes of two workers that have connected, and then get SIGTERM, at which their handler ends them with 42."""

    def work(own, connect):
        signal.signal(signal.SIGTERM, lambda *_: os._exit(42))
        connect().barrier()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    return {"codes": codes(two(work)[1])}


def busy(records, base, given) -> dict:
    """Exit codes of two workers: one that is busy when the other one ends, and this one. What the first one said."""
    companions.PATIENCE = 1.0

    def work(own, connect):
        with open(base / f"busy.{own.index}", "w", buffering=1) as file, contextlib.redirect_stderr(file):
            devices = connect()
            with connection.explained(own):
                devices.barrier()
                if own.index == 1:
                    os._exit(9)
                time.sleep(120)

    addresses, started = two(work)
    return {"codes": codes(started), "said": (base / "busy.0").read_text(), "address": addresses[1]}


def mute(records, base, given) -> dict:
    """A chief whose other worker comes to the meeting and listens at its port, but never registers."""
    connection._MIN_TO_CONNECT = connection._MIN_TO_REGISTER = 2.0

    def work(own, connect):
        if own.index:
            meeting.meet(own.addresses, 1, connection.facts(["CPU:0"]), WAIT)
            with socket.create_server(("127.0.0.1", int(own.addresses[1].rpartition(":")[2]))):
                time.sleep(WAIT)
        with open(base / "mute.0", "w", buffering=1) as file, contextlib.redirect_stderr(file):
            connection.join(own, ["CPU:0"], 3)

    addresses, started = two(work)
    begin = time.monotonic()
    code = codes(started[:1])[0]
    seconds = time.monotonic() - begin
    os.kill(started[1], signal.SIGKILL)
    codes(started[1:])
    return {"code": code, "seconds": seconds, "said": (base / "mute.0").read_text(), "address": addresses[1]}


def many(records, base, given) -> dict:
    """Several scenes in one process, by their names."""
    return {name: globals()[name](records, base, {}) for name in given["scenes"]}


def two(work) -> tuple[list[str], list[int]]:
    """Starts `work` in two forks: with a cluster, and a function that connects them. Addresses and process numbers."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    started = []
    for index in range(2):
        process = os.fork()
        if process:
            started.append(process)
            continue
        try:
            own = cluster.Cluster(tuple(addresses), index)
            work(own, lambda own=own: distribution.Devices(connection.join(own, ["CPU:0"], WAIT), own))
        finally:
            os._exit(99)
    return addresses, started


if __name__ == "__main__":
    scene, records, base = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    given = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
    print(json.dumps(globals()[scene](records, base, given)))
