"""The command that measures speed, from its flags to its file."""

import json
import sys

import pytest
from PIL import Image
from support import golden_recipe
from support.small_graphs import freeze

import deeplab.benchmark as command


@pytest.fixture
def run(monkeypatch, small_run):
    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["benchmark.py", f"--model={small_run}", "--runs=2", "--warm_up=1", *flags])
        return command.main()

    return run


def test_sizes_batches_and_models(run, tmp_path, capsys):
    path = freeze(tmp_path / "graph.pb", with_probabilities=False)
    file = tmp_path / "speed.json"
    assert run(f"--model={path}", "--image_size=33,49", "--batch_size=1,2", f"--json={file}") == 0
    content = json.loads(file.read_text())
    keys = [[(one["size"], one["batch"]) for one in model["timings"]] for model in content["models"]]
    assert keys == [[("33x33", 1), ("33x33", 2), ("49x49", 1), ("49x49", 2)], [("33x33", 1), ("49x49", 1)]]
    timings = [one for model in content["models"] for one in model["timings"]]
    assert all(0 < one["median_ms"] <= one["p90_ms"] and one["images_per_second"] > 0 for one in timings)
    assert all(model["loading_seconds"] > 0 for model in content["models"]) and content["machine"]["cores"] >= 1
    printed = capsys.readouterr()
    assert "images/s" in printed.out and "takes one image per call: batches of 2 are left out" in printed.err


def test_own_images(run, tmp_path, capsys):
    for number, height in enumerate((40, 33, 36)):
        Image.fromarray(golden_recipe.image(height, 52)[0]).save(tmp_path / f"{number}.png")
    assert run(f"--input={tmp_path}") == 0
    printed = capsys.readouterr().out
    assert "reading and decoding" in printed and "3 images" in printed


def test_bad_flags(run, capsys):
    assert run("--image_size=0") == 1 and "--image_size" in capsys.readouterr().err
    assert run("--model=/none") == 1 and "[checkpoint-not-found]" in capsys.readouterr().err
