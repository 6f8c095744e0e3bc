"""The script that makes the TensorFlow 1.15 environment: what it says and does when it cannot, or need not."""

import os
import pathlib
import subprocess
import time

import numpy as np
import pytest
from support import tf1_runner

SCRIPT = tf1_runner.ROOT / "scripts" / "make_tf1_env.sh"


def make(*arguments, **environment) -> subprocess.CompletedProcess:
    """Runs the script."""
    command = ["bash", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=900)


def test_without_python_3_7_it_says_so_and_leaves_nothing(tmp_path):
    hidden = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYENV_ROOT": ""}
    if subprocess.run(["bash", "-c", "command -v python3.7"], env=hidden, capture_output=True).returncode == 0:
        pytest.skip("the system itself has a Python 3.7")
    done = make(tmp_path / "env", **hidden)
    assert done.returncode == tf1_runner.NO_PYTHON
    assert "no Python 3.7 found" in done.stderr and "pyenv install 3.7" in done.stderr
    assert not (tmp_path / "env").exists()


def test_the_missing_interpreter_is_told_to_pytest(monkeypatch):
    monkeypatch.setenv("DEEPLAB_TF1_PYTHON", "/nowhere/python")
    with pytest.raises(tf1_runner.NoTensorFlow1, match=r"DEEPLAB_TF1_PYTHON=/nowhere/python is no interpreter"):
        tf1_runner.find()


@pytest.mark.tf1
def test_a_folder_of_something_else_is_left_alone(tf1, tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    done = make(tmp_path)
    assert done.returncode in (2, tf1_runner.NO_PYTHON)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


@pytest.mark.tf1
def test_a_sound_environment_is_taken_as_it_is(tf1):
    if "DEEPLAB_TF1_PYTHON" in os.environ:
        pytest.skip("the environment is given by DEEPLAB_TF1_PYTHON")
    start = time.perf_counter()
    done = make()
    assert done.returncode == 0 and pathlib.Path(done.stdout.strip()) == pathlib.Path(tf1.python)
    assert time.perf_counter() - start < 5


@pytest.mark.tf1
def test_it_is_tensorflow_1_15_and_failures_show(tf1):
    version = subprocess.run(
        [tf1.python, "-c", "import tensorflow; print(tensorflow.__version__)"], capture_output=True, text=True
    )
    assert version.stdout.startswith("1.15.")
    with pytest.raises(AssertionError, match="KeyError"):
        tf1.run("under_tf1_records", nothing=np.zeros(1))
