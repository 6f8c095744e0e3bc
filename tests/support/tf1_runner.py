"""Runs small programs under a real TensorFlow 1.15, arrays in and arrays out.

A program is a Python 3.7 file `under_tf1_*.py` with a function `run(inputs)`, which takes a dict of arrays and
returns one. It is run in a process of its own, in an environment that scripts/make_tf1_env.sh makes.
"""

import os
import pathlib
import subprocess
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
HERE = ROOT / "tests" / "tf1"
NO_PYTHON = 3  # exit code of the script when there is no Python 3.7
_HARNESS = """
import importlib, sys
import numpy as np
folder, program, given, result = sys.argv[1:]
sys.path.insert(0, folder)
with np.load(given) as inputs:
    outputs = importlib.import_module(program).run(dict(inputs))
np.savez(result, **{name: np.asarray(value) for name, value in outputs.items()})
"""


class NoTensorFlow1(Exception):
    """There is no TensorFlow 1.15 here; the text says why and what to do."""


class TensorFlow1:
    """A Python interpreter with TensorFlow 1.15."""

    def __init__(self, python: str):
        self.python = python

    def run(self, program: str, **inputs) -> dict[str, np.ndarray]:
        """Runs `tests/tf1/PROGRAM.py` with arrays (or numbers, texts and paths) and returns its arrays.

        Raises AssertionError with the end of the program's output when it fails.
        """
        with tempfile.TemporaryDirectory() as folder:
            given, result = f"{folder}/in.npz", f"{folder}/out.npz"
            np.savez(given, **{name: np.asarray(_plain(value)) for name, value in inputs.items()})
            command = [self.python, "-c", _HARNESS, str(HERE), program, given, result]
            done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, f"{program} under TensorFlow 1.15:\n{done.stderr[-3000:]}"
            with np.load(result) as outputs:
                return dict(outputs)

    def run_frozen_graph(
        self, graph: str | os.PathLike, image: np.ndarray, outputs: tuple[str, ...] = ()
    ) -> dict[str, np.ndarray]:
        """Answers of a frozen graph.

        Args:
          graph: the `.pb` file.
          image: uint8 [H, W, 3] or [1, H, W, 3], fed into `ImageTensor`.
          outputs: names of nodes, or none for all of those that the reference's exports have:
            `SemanticPredictions` [1, H, W], `SemanticProbabilities` [1, H, W, classes] and the raw ones.
        """
        batch = image if image.ndim == 4 else image[np.newaxis]
        return self.run("under_tf1_frozen_graph", graph=graph, image=batch, outputs=list(outputs))


def find() -> TensorFlow1:
    """The environment of $DEEPLAB_TF1_PYTHON, else .venv-tf1 in the repository, made on first use.

    Raises:
      NoTensorFlow1: there is none and none can be made.
    """
    given = os.environ.get("DEEPLAB_TF1_PYTHON")
    if given:
        if not os.access(given, os.X_OK):
            raise NoTensorFlow1(f"DEEPLAB_TF1_PYTHON={given} is no interpreter")
        return TensorFlow1(given)
    script = ROOT / "scripts" / "make_tf1_env.sh"
    made = subprocess.run(["bash", str(script)], capture_output=True, text=True, timeout=900, check=False)
    if made.returncode == NO_PYTHON:
        raise NoTensorFlow1("no Python 3.7 for TensorFlow 1.15 (pyenv install 3.7), or set DEEPLAB_TF1_PYTHON")
    if made.returncode:
        raise NoTensorFlow1(f"scripts/make_tf1_env.sh failed: {made.stderr.strip()[-500:]}")
    return TensorFlow1(made.stdout.strip().splitlines()[-1])


def _environment() -> dict[str, str]:
    """This process' environment without what belongs to this process' own Python and TensorFlow.

    TensorFlow 2 sets TF2_BEHAVIOR when it is imported, which would make 1.15 run eagerly.
    """
    ours = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "TF2_BEHAVIOR", "TF_USE_LEGACY_KERAS"}
    return {**{key: value for key, value in os.environ.items() if key not in ours}, "TF_CPP_MIN_LOG_LEVEL": "3"}


def _plain(value):
    return os.fspath(value) if isinstance(value, os.PathLike) else value
