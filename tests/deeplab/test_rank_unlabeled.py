"""The command that orders unlabeled images, from its flags to its files."""

import csv
import sys

import pytest
from PIL import Image
from support import golden_recipe
from support.html_reader import require_one_file

import deeplab.rank_unlabeled as command
from deeplab import Segmenter


@pytest.fixture
def run(monkeypatch, small_run, tmp_path):
    (tmp_path / "photos").mkdir()
    for name, height in (("one", 40), ("two", 33), ("three", 48)):
        Image.fromarray(golden_recipe.image(height, 52)[0]).save(tmp_path / "photos" / f"{name}.png")

    def run(*flags):
        given = [f"--model={small_run}", f"--input={tmp_path}/photos", f"--output_dir={tmp_path}/out"]
        monkeypatch.setattr(sys, "argv", ["rank_unlabeled.py", *given, *flags])
        return command.main()

    return run


def test_files(run, small_run, tmp_path, capsys):
    assert run("--diversity=0", "--number=2") == 0
    rows = list(csv.DictReader((tmp_path / "out" / "ranking.csv").open()))
    assert [row["chosen"] for row in rows] == ["yes", "yes", "no"]
    values = [float(row["uncertainty"]) for row in rows]
    assert values == sorted(values, reverse=True)
    scores = Segmenter(small_run)(rows[0]["image"]).probabilities
    assert values[0] == pytest.approx(1 - scores.max(-1).mean(), abs=1e-5)
    assert len(require_one_file((tmp_path / "out" / "report.html").read_text()).all("img")) == 6
    assert run() == 1
    assert "[would-overwrite]" in capsys.readouterr().err


def test_bad_images_are_left_out(run, tmp_path, capsys):
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"none")
    assert run() == 1
    assert "1 of 4 images" in capsys.readouterr().err
    assert len((tmp_path / "out" / "ranking.csv").read_text().splitlines()) == 4
