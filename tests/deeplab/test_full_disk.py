"""Full disks: every command that writes stops with an error, and leaves old files and whole files only."""

import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from support.file_server import FileServer
from support.full_disk import COMMANDS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="needs tmpfs or RLIMIT_FSIZE")]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What each command does with each room, by command."""
    root = tmp_path_factory.mktemp("disks")
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for number in range(5):
        mask = cv2.circle(np.zeros((40, 48), np.uint8), (16 + 4 * number, 20), 10, 1, -1)
        noise = np.random.default_rng(number).integers(0, 60, (40, 48, 3))
        cv2.imwrite(str(root / "images" / f"{number}.png"), (mask[..., None] * 150 + noise).astype(np.uint8))
        cv2.imwrite(str(root / "masks" / f"{number}.png"), mask)
    server = FileServer(bytes(200_000), "VOCtrainval_11-May-2012.tar")
    try:
        words = [sys.executable, "-m", "support.full_disk", str(root), server.address]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    finally:
        server.close()
    assert run.returncode == 0, run.stderr[-3000:]
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    return {name: [line for line in lines if line["command"] == name] for name in COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_it_ends_with_an_error_and_nothing_is_half_written(outcomes, name):
    found = outcomes[name]
    assert [outcome["room"] for outcome in found] == list(COMMANDS[name][2])
    assert found[0]["code"] == 1, "no command can do its work without room"
    for outcome in found:
        said = outcome["said"]
        assert "Traceback" not in said and outcome["code"] in (0, 1), said
        if outcome["code"]:
            (code,) = re.findall(r"^error: .*\[([a-z-]+)\]$", said, re.M)
            assert code in ("unwritable-file", "unwritable-folder", "disk-full"), said
        assert outcome["lost"] == [] and outcome["damaged"] == [], outcome
