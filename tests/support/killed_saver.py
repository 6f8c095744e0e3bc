"""Kills savers at every step of a save, and at random moments; run by test_writer.py.

TensorFlow is imported once and every saver is a fork, so that dozens of kills take seconds. Prints one line
for each kill survived; ends with a traceback at the first folder that is not usable.
"""

import os
import pathlib
import random
import shutil
import signal
import sys
import time

import numpy as np

from deeplab import checkpoint
from deeplab.checkpoint import manager

OPERATIONS = ("replace", "unlink", "fsync", "link")


def tensors(step: int, again: bool = False) -> dict[str, np.ndarray]:
    """Arrays of one value, the step (or a half more), so that a mixture of two checkpoints shows."""
    return {f"layer_{n}/weights": np.full((200, n + 1), step + again / 2, np.float32) for n in range(20)}


def forked(work) -> int:
    """Runs a function in a fork that ends without clean-up; the exit status."""
    process = os.fork()
    if not process:
        work()
        os._exit(0)
    return os.waitpid(process, 0)[1]


def die_at(count: int) -> None:
    """Makes this process vanish just before the `count`-th operation that changes the disk."""
    left = [count]

    def deadly(operation):
        def instead(*args, **kwargs):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **kwargs)

        return instead

    for name in OPERATIONS:
        setattr(os, name, deadly(getattr(os, name)))


def check(folder: pathlib.Path, least: int) -> int:
    """The latest checkpoint is whole, of one step, and not older than the last one reported as saved."""
    found = manager.latest(folder, checksums=True)
    prefix, values = found.prefix, found.arrays()
    step = int(values.pop("global_step"))
    assert step >= least, f"{prefix} is of step {step}, but {least} had been saved"
    found = {float(v) for array in values.values() for v in (array.min(), array.max())}
    assert found in ({step}, {step + 0.5}), f"{prefix}: {found}"
    return step


def check_clean(folder: pathlib.Path, steps: set[int]) -> None:
    """Nothing lies in the folder but the checkpoints of these steps and the state file."""
    wanted = {f"model.ckpt-{step}{suffix}" for step in steps for suffix in (".index", ".data-00000-of-00001")}
    assert set(os.listdir(folder)) == wanted | {"checkpoint"}, sorted(os.listdir(folder))


def kill_at_every_step(base: pathlib.Path, step: int) -> None:
    """One save of `step` into a folder of steps 1 and 2 with keep=2, killed before each of its operations."""
    start = base / "start"
    for saved in (1, 2):
        forked(lambda saved=saved: manager.save_step(start, saved, tensors(saved), keep=2))
    for count in range(1, 100):
        folder = base / f"killed-{step}-{count}"
        shutil.copytree(start, folder)

        def save(count=count, folder=folder):
            die_at(count)
            manager.save_step(folder, step, tensors(step, again=True), keep=2)

        status = forked(save)
        check(folder, least=2)
        if status == 0:
            assert count > 8, f"only {count} operations in a save"
            return
        assert status == signal.SIGKILL, status
        forked(lambda folder=folder: manager.save_step(folder, 4, tensors(4), keep=2))
        assert check(folder, least=4) == 4
        print(f"survived: save of step {step} killed before operation {count}: {sorted(os.listdir(folder))[1:]}")
        listed = {int(line.split("-")[-1].strip('"')) for line in (folder / "checkpoint").read_text().split()[3::2]}
        check_clean(folder, listed | ({step} if step not in listed and exists(folder, step) else set()))


def exists(folder: pathlib.Path, step: int) -> bool:
    """Whether a checkpoint got both names before its saver could list it."""
    return (folder / f"model.ckpt-{step}.index").exists()


def kill_at_random(folder: pathlib.Path, rounds: int) -> None:
    """A saver in a loop, killed after a random time; the next goes on from what it finds."""
    draw = random.Random(7)
    report = folder.with_suffix(".reported")
    report.write_text("0")
    forked(lambda: manager.save_step(folder, 0, tensors(0)))
    for _ in range(rounds):
        process = os.fork()
        if not process:
            step = checkpoint.open(folder).step
            while True:
                step += 1
                manager.save_step(folder, step, tensors(step), keep=3)
                report.write_text(str(step))
        time.sleep(0.15 + draw.random() * 0.25)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        step = check(folder, least=int(report.read_text() or 0))
        print(f"survived: kill at a random moment, step {step}")


if __name__ == "__main__":
    base = pathlib.Path(sys.argv[1])
    kill_at_every_step(base / "next", step=3)
    kill_at_every_step(base / "same", step=2)
    kill_at_random(base / "random", rounds=int(sys.argv[2]))
