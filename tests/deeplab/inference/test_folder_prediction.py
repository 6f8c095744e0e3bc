"""Many images into a folder: the summary, and what happens when writing fails."""

import csv
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image
from support import golden_recipe
from support.errors import raises
from support.threshold_predictor import ByRed

from deeplab import Segmenter
from deeplab.config.prediction_config import PredictConfig
from deeplab.data.image_files import find_images
from deeplab.inference import folder_prediction, segmenter
from deeplab.utils.errors import UserError


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    for name in ("one", "two", "three"):
        Image.fromarray(golden_recipe.image(40, 52)[0]).save(folder / f"{name}.png")
    return find_images([str(folder)])


@pytest.fixture(scope="module")
def small(small_run):
    return Segmenter(small_run)


def config(folder, **others):
    return PredictConfig(input=("album",), output_dir=str(folder), **others)


def listed(folder):
    return [row["image"] for row in csv.DictReader((folder / "summary.csv").open())]


class TestSummary:
    def test_earlier_rows_stay(self, tmp_path):
        path = tmp_path / "summary.csv"
        path.write_text(folder_prediction.summary({"a": {"x": 0.25, "y": 0.75}, "b": {"x": 1.0}}))
        assert path.read_text() == "image,x,y\na,0.250000,0.750000\nb,1.000000,0.000000\n"
        assert folder_prediction.earlier_fractions(path)["a"] == {"x": 0.25, "y": 0.75}
        assert folder_prediction.earlier_fractions(tmp_path / "none.csv") == {}
        path.write_text("picture,x\na,0.5\n")  # as written before version 0.2
        assert folder_prediction.earlier_fractions(path) == {"a": {"x": 0.5}}
        for content in ("name,size\nx,1\n", "image,x\na,b\n"):
            path.write_text(content)
            with raises("would-overwrite", where=path):
                folder_prediction.earlier_fractions(path)

    def test_table_of_many_images_is_short(self):
        fractions = {f"p{index}": {"x": 1.0, "y": 0.0} for index in range(30)}
        fractions["p0"] = {"x": 0.0, "y": 1.0}
        lines = folder_prediction.table(fractions).splitlines()
        assert len(lines) == 2 + 20 + 2 and lines[2].split() == ["p0", "y", "100.0%"]
        assert lines[-1] == "mean of 30       x 96.7%, y 3.3%"

    def test_names_that_are_no_text_are_repaired(self):
        assert folder_prediction.summary({"a\udcff\nb": {"x": 1.0}}).splitlines()[1].endswith("b,1.000000")
        folder_prediction.summary({"a\udcff": {"x": 1.0}}).encode()


class Scripted(ByRed):
    """A model that takes a time, or waits until something has happened."""

    def __init__(self, before=lambda number: None):
        super().__init__()
        self.before, self.calls = before, 0

    def _predict(self, image, probabilities):
        self.before(self.calls)
        self.calls += 1
        return super()._predict(image, probabilities)


@pytest.mark.parametrize("background", [False, True])
def test_the_legend_of_an_overlay_names_its_classes(tmp_path, monkeypatch, background):
    named = []
    monkeypatch.setattr(folder_prediction, "with_legend", lambda image, keys: named.append(keys) or image)
    pixels = np.zeros((20, 24, 3), np.uint8)
    pixels[4:9, 4:9, 1] = 200  # class 2 of ByRed
    Image.fromarray(pixels).save(tmp_path / "one.png")
    model = ByRed()
    model.set_classes(("ground", "disc", "leaf"), ((0, 0, 0), (200, 0, 0), (0, 9, 0)))
    look = {"overlay_legend": True, "overlay_background": background}
    folder_prediction.predict_files(Segmenter(model), find_images([str(tmp_path)]), config(tmp_path, **look))
    assert [key.text for key in named[0]] == (["ground", "leaf"] if background else ["leaf"])
    assert named[0][-1].swatch[0, 0].tolist() == [0, 9, 0]


def test_images_are_read_while_the_model_works(files, tmp_path, monkeypatch):
    read = {file.name: threading.Event() for file in files}
    real = folder_prediction.inputs.read

    def noted(file, **options):
        pixels = real(file, **options)
        read[file.name].set()
        return pixels

    def next_is_read(number):
        assert read[files[min(number + 1, len(files) - 1)].name].wait(60)

    monkeypatch.setattr(folder_prediction.inputs, "read", noted)
    outcome = folder_prediction.predict_files(Segmenter(Scripted(next_is_read)), files, config(tmp_path))
    assert len(outcome.fractions) == 3


def test_files_are_written_while_the_model_works(files, tmp_path, monkeypatch):
    """No file of an image is written before the model has seen the last image; nothing may wait for that."""
    all_predicted = threading.Event()

    def count(number):
        if number == len(files) - 1:
            all_predicted.set()

    real = folder_prediction.Outputs.write

    def late(*arguments):
        assert all_predicted.wait(60)
        return real(*arguments)

    monkeypatch.setattr(folder_prediction.Outputs, "write", late)
    outcome = folder_prediction.predict_files(Segmenter(Scripted(count)), files, config(tmp_path))
    assert sorted(outcome.fractions) == ["one", "three", "two"]
    assert len(list((tmp_path / "overlay").iterdir())) == 3


def test_a_failed_write_ends_with_an_error_and_what_was_finished_is_listed(files, small, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    real = segmenter.write_png

    def full(path, pixels):
        if path.stem == files[-1].name and path.parent.name == "overlay":
            raise UserError("unwritable-file", "cannot be written: No space left on device", where=path)
        real(path, pixels)

    monkeypatch.setattr(folder_prediction, "write_png", full)
    with raises("unwritable-file", where="overlay"):
        folder_prediction.predict_files(small, files, config(out))
    assert listed(out) == [file.name for file in files[:-1]]
    assert sorted(path.name for path in out.iterdir()) == ["color", "mask", "overlay", "summary.csv"]


def test_an_interruption_lists_what_was_finished(files, small, tmp_path):
    class Interrupted:
        class_names, colors, bands = small.class_names, small.colors, small.bands
        calls = 0

        def reads_in_windows(self, path):
            return small.reads_in_windows(path)

        def __call__(self, pixels, probabilities):
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            return small(pixels, probabilities)

    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        folder_prediction.predict_files(Interrupted(), files, config(tmp_path / "out"))
    assert set(listed(tmp_path / "out")) <= {file.name for file in files[:2]}


def test_errors_of_the_model_name_the_image(files, small_run, tmp_path):
    (tmp_path / "out").mkdir()
    outcome = folder_prediction.predict_files(Segmenter(small_run, crop_size=33), files, config(tmp_path / "out"))
    assert [error.code for error in outcome.errors] == ["larger-than-crop"] * 3 and not outcome.fractions
    assert [error.where for error in outcome.errors] == [file.path for file in files]


def test_names_that_are_too_long_for_results(tmp_path):
    (tmp_path / f"{'x' * 235}.png").touch()
    files = find_images([str(tmp_path)])
    with raises("name-too-long", where="x" * 235) as caught:
        folder_prediction.refuse_to_overwrite(files, folder_prediction.Outputs(config(tmp_path / "out")))
    assert caught.value.value == 239


def test_results_among_the_images(files, tmp_path):
    with raises("output-among-input", "input"):
        folder_prediction.refuse_own_results(files, str(tmp_path / "album"))
    folder_prediction.refuse_own_results(files, str(tmp_path / "out"))


def test_no_probabilities_to_save(files, small, tmp_path):
    result = small(np.zeros([3, 4, 3], np.uint8), probabilities=False)
    with raises("no-probabilities", "save_probabilities"):
        folder_prediction._write_npz(tmp_path / "a.npz", result)


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_whole_masks_and_the_next_run_completes_them(tmp_path, request):
    """Two images, twelve with `--long`: every operation on the disk is a kill."""
    everything = [f"{number:02d}" for number in range(12 if request.config.getoption("--long") else 2)]
    (tmp_path / "album").mkdir()
    for name in everything:
        Image.fromarray(np.full((9, 9, 3), 200, np.uint8)).save(tmp_path / "album" / f"{name}.png")
    command = [sys.executable, "-m", "support.killed_prediction", str(tmp_path)]
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True, check=True)
    outcomes = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(outcomes) > 10
    for masks, rows, *after in outcomes:
        assert set(rows) <= set(masks) <= set(everything)
        assert after == [everything, everything, []]
    assert outcomes[-1][:2] == [everything, everything]
