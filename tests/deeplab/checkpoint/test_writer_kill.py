"""Savers killed with SIGKILL: before each operation of a save, and at random moments."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_usable_checkpoint(tmp_path):
    script = ROOT / "tests" / "support" / "killed_saver.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "8"], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    survived = done.stdout.count("survived")
    assert survived > 30, done.stdout
