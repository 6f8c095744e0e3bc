"""The model on Keras' JAX backend beside PyTorch, on a GPU or any other device: images a second, and memory.

    python benchmarks/accelerator.py --jax=PYTHON --pytorch=PYTHON [--head=full|light] [--crop=513] [--batch=16]
                                     [--precision=mixed_bfloat16|float32] [--rounds=30]

`scripts/make_peer_env.sh` makes the two environments. Both sides have the same model (MobileNetV2 at output stride
16, with ASPP and decoder unless `--head=light`); PyTorch uses channels last and autocast. The two take turns; the table
shows medians of training steps and of forward passes. TensorFlow is not needed, so this runs where only JAX supports
the device. It has run on processors only, where JAX is several times slower than PyTorch: no GPU was available to the
authors.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from typing import Any

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.utils import console

WARM_UP = 3  # steps: the first one compiles


class Peer:
    """A process that runs one step per line."""

    def __init__(self, command: list[str]):
        environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # two processes share the device
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.facts = self._answer()
        self.seconds: list[float] = []
        self.memory = 0

    def step(self) -> None:
        """Runs one step, and measures it."""
        assert self.process.stdin
        start = time.perf_counter()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.memory = self._answer()["memory"]
        self.seconds.append(time.perf_counter() - start)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} ended with code {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jax", required=True, metavar="PYTHON", help="interpreter with JAX and Keras")
    parser.add_argument("--pytorch", required=True, metavar="PYTHON", help="interpreter with PyTorch")
    parser.add_argument("--head", choices=("full", "light"), default="full")
    parser.add_argument("--crop", type=int, default=513)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", choices=("mixed_bfloat16", "float32"), default="mixed_bfloat16")
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    folder = pathlib.Path(__file__).resolve().parent
    rows = []
    for mode in ("train", "forward"):
        arguments = [args.head, str(args.crop), str(args.batch), args.precision, mode]
        with contextlib.ExitStack() as stack:
            peers = {}
            for name, python in (("jax", args.jax), ("pytorch", args.pytorch)):
                peers[name] = Peer([python, str(folder / f"{name}_peer.py"), *arguments])
                stack.callback(peers[name].close)
            ours, theirs = peers.values()
            if ours.facts["parameters"] != theirs.facts["parameters"]:
                raise SystemExit(f"the models differ: {ours.facts}, {theirs.facts}")
            for _ in console.progress(range(WARM_UP + args.rounds), what=mode, unit="round"):
                for peer in peers.values():
                    peer.step()
        base = statistics.median(theirs.seconds[WARM_UP:])
        for name, peer in peers.items():
            seconds = statistics.median(peer.seconds[WARM_UP:])
            software = f"{name} {peer.facts['version']}, {peer.facts['device']}"
            memory = f"{peer.memory / 2**20:.0f}" if peer.memory else "unknown"
            rows.append((mode, software, f"{args.batch / seconds:.1f}", f"{base / seconds:.3f}", memory))
    print(console.table(rows, ["", "software, device", "images/s", "of PyTorch's", "peak MiB"]))


if __name__ == "__main__":
    main()
