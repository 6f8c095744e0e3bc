"""The command that makes masks of image files."""

import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image
from support import golden_recipe
from support.errors import raises

import deeplab.predict as command
from deeplab import Segmenter
from deeplab.config.prediction_config import PredictConfig, model_source
from deeplab.inference.video import VideoWriter


@pytest.fixture
def album(tmp_path):
    """A folder with two images."""
    folder = tmp_path / "album"
    folder.mkdir()
    for name, height in (("one", 40), ("two", 33)):
        Image.fromarray(golden_recipe.image(height, 52)[0]).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def run(monkeypatch, small_run, album, tmp_path):
    """Runs the command on the album; further flags are added. Gives the exit code."""

    def run(*flags, model=f"--model={small_run}"):
        given = [model, f"--input={album}", f"--output_dir={tmp_path}/out"]
        monkeypatch.setattr(sys, "argv", ["predict.py", *given, *flags])
        return command.main()

    return run


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_results(run, small_run, tmp_path, capsys):
    assert run("--save_probabilities=npz") == 0
    out = tmp_path / "out"
    kinds = {"mask": "png", "color": "png", "overlay": "png", "probabilities": "npz"}
    expected = [f"{kind}/{name}.{suffix}" for kind, suffix in kinds.items() for name in ("one", "two")]
    assert files_in(out) == sorted([*expected, "summary.csv"])
    result = Segmenter(small_run)(golden_recipe.image(40, 52)[0])
    np.testing.assert_array_equal(np.asarray(Image.open(out / "mask" / "one.png")), result.labels)
    np.testing.assert_array_equal(np.asarray(Image.open(out / "color" / "one.png")), result.color_mask())
    saved = np.load(out / "probabilities" / "one.npz")
    assert saved["probabilities"].dtype == np.float16 and list(saved["class_names"]) == ["ground", "disc", "square"]
    np.testing.assert_allclose(saved["probabilities"], result.probabilities, atol=1e-3)
    rows = list(csv.DictReader((out / "summary.csv").open()))
    assert [row["image"] for row in rows] == ["one", "two"]
    assert float(rows[0]["disc"]) == pytest.approx(result.fractions()["disc"], abs=1e-6)
    assert "written: 2 of 2 images" in capsys.readouterr().out


def test_cutouts_areas_and_polygons(run, small_run, album, tmp_path, capsys):
    plain = ("--nosave_mask", "--nosave_color", "--nosave_overlay")
    flags = (
        "--save_cutouts",
        "--cutout_classes=disc",
        "--save_areas",
        "--save_polygons=coco,yolo",
        "--polygon_tolerance=0",
    )
    assert run(*plain, *flags) == 0
    out = tmp_path / "out"
    names = ["areas.csv", "coco.json", "cutout/one.png", "cutout/two.png", "summary.csv"]
    assert files_in(out) == [*names, "yolo/classes.txt", "yolo/one.txt", "yolo/two.txt"]
    result = Segmenter(small_run)(golden_recipe.image(40, 52)[0])
    cutout = np.asarray(Image.open(out / "cutout" / "one.png"))
    np.testing.assert_array_equal(cutout, result.cutout([1]))
    rows = {row.pop("image"): row for row in csv.DictReader((out / "areas.csv").open())}
    areas = np.bincount(result.labels.ravel(), minlength=3)
    assert [int(rows["one"][name]) for name in ("ground", "disc", "square")] == areas.tolist()
    annotations = json.loads((out / "coco.json").read_text())["annotations"]
    assert sum(one["area"] for one in annotations if one["image_id"] == 1) == areas[1:].sum()
    assert run(*plain, *flags) == 1
    assert "holds 7 results already" in capsys.readouterr().err
    assert run(*plain, "--save_polygons=coko", "--overwrite") == 1
    assert "did you mean 'coco'?" in capsys.readouterr().err


def test_a_video_beside_images(run, tmp_path, capsys):
    with VideoWriter(tmp_path / "clip.mp4", 5.0) as writer:
        for _ in range(3):
            writer.write(golden_recipe.image(40, 52)[0])
    (tmp_path / "bad.mp4").write_bytes(b"none")
    assert run(f"--input={tmp_path}/*.mp4", "--nosave_color", "--temporal_smoothing=0.5") == 1
    printed = capsys.readouterr()
    assert "written: 3 of 4 inputs" in printed.out and "bad.mp4" in printed.err and "[unreadable-video]" in printed.err
    masks = [f"mask/clip/00000{number}.png" for number in range(3)]
    assert {*masks, "overlay/clip.mp4", "mask/one.png"} <= set(files_in(tmp_path / "out"))
    assert [row["image"] for row in csv.DictReader((tmp_path / "out" / "summary.csv").open())] == ["one", "two", "clip"]


def test_tiles(run, small_run, tmp_path):
    assert run("--tile_size=33", "--tile_overlap=8", "--nosave_overlay") == 0
    result = Segmenter(small_run, tile_size=33, tile_overlap=8)(golden_recipe.image(40, 52)[0])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "mask" / "one.png")), result.labels)


def test_nothing_is_overwritten_unasked(run, tmp_path, capsys):
    flags = ("--nosave_color", "--nosave_overlay")
    assert run(*flags) == 0
    mask = tmp_path / "out" / "mask" / "two.png"
    mask.write_bytes(b"mine")
    assert run(*flags) == 1
    assert "holds 2 results already" in capsys.readouterr().err and mask.read_bytes() == b"mine"
    assert run(*flags, "--overwrite") == 0 and mask.read_bytes() != b"mine"


def test_bad_images_do_not_stop_the_others(run, album, tmp_path, capsys):
    (album / "broken.jpg").write_bytes(b"no picture")
    assert run() == 1
    err = capsys.readouterr().err
    assert "broken.jpg: is in none of the formats that are read here" in err and "1 of 3 images" in err
    assert (tmp_path / "out" / "mask" / "two.png").exists()


def test_probabilities_as_images(run, tmp_path):
    assert run("--save_probabilities=png", "--nosave_mask", "--nosave_color", "--nosave_overlay") == 0
    names = ["000_ground.png", "001_disc.png", "002_square.png"]
    shares = [np.asarray(Image.open(tmp_path / "out" / "probabilities" / "one" / name), int) for name in names]
    assert abs(sum(shares) - 255).max() <= 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model=/none"], "/none: does not exist"),
        (["--checkpoint_path=/other"], "--model and --checkpoint_path name different models"),
        (["--input=/none/*.jpg"], "no file, folder or match"),
        (["--crop_size=33"], "more than --crop_size=33,33"),
        (["--save_probabilities=jpg"], "must be one of"),
        (["--model_variant=xception_65"], "trained with mobilenet_v2"),
    ],
)
def test_bad_flags_are_refused(run, capsys, flags, words):
    assert run(*flags) == 1
    assert words in capsys.readouterr().err


def test_results_among_the_images(run, album, capsys):
    assert run(f"--output_dir={album}") == 1
    assert "is in --output_dir" in capsys.readouterr().err


def test_one_name_for_the_model():
    assert model_source(PredictConfig(export_path="a.pb")) == "a.pb"
    assert model_source(PredictConfig(model="a", checkpoint_dir="a")) == "a"
    with raises("missing-setting", "model"):
        model_source(PredictConfig())
    with raises("conflicting-settings", "model"):
        model_source(PredictConfig(model="a", export_path="b"))


@pytest.mark.parametrize("kind", ["file", "below a file", "too long"])
def test_an_output_folder_that_cannot_be_made_is_refused_before_the_model_loads(run, tmp_path, capsys, kind):
    (tmp_path / "taken").touch()
    folders = {
        "file": tmp_path / "taken",
        "below a file": tmp_path / "taken" / "in",
        "too long": tmp_path / ("x" * 300),
    }
    assert run(f"--output_dir={folders[kind]}", model=f"--model={tmp_path / 'taken'}") == 1
    printed = capsys.readouterr().err
    assert "--output_dir" in printed and "unwritable-folder" in printed


def test_a_failed_start_leaves_no_folder(run, tmp_path, capsys):
    assert run(model="--model=/none/at/all") == 1
    assert "checkpoint-not-found" in capsys.readouterr().err and not (tmp_path / "out").exists()
