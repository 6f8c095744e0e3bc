"""The fit command on a few small images: all stages, a second run, kills between stages, unfit data."""

import json
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml
from support import band_scenes, tiny_backbone
from support.errors import raises

from deeplab import Segmenter, fit, predict
from deeplab.checkpoint import manager
from deeplab.config import durations
from deeplab.data import dataset as datasets
from deeplab.training import recipe_plan

ROOT = pathlib.Path(__file__).parents[2]
STAGES = ["build_data", "check_data", "train", "eval", "export"]
SMALL = {
    "classes": "ground,disc",
    "tf_initial_checkpoint": "",
    "model_variant": "tiny",
    "aspp_convs_filters": 8,
    "train_crop_size": "33,33",
    "train_batch_size": 2,
    "training_number_of_steps": 2,
    "random_seed": 0,
    "formats": "frozen_graph,saved_model",
}


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with tiny_backbone.registered():
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Five images of a bright disc, and their masks."""
    folder = tmp_path_factory.mktemp("discs")
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for number in range(5):
        mask = cv2.circle(np.zeros((40, 48), np.uint8), (16 + 4 * number, 20), 10, 1, -1)
        noise = np.random.default_rng(number).integers(0, 60, (40, 48, 3))
        cv2.imwrite(str(folder / "images" / f"{number}.png"), (mask[..., None] * 150 + noise).astype(np.uint8))
        cv2.imwrite(str(folder / "masks" / f"{number}.png"), mask)
    return folder / "images", folder / "masks"


def words_for(folders, output, **more):
    return [*map(str, folders), f"--output={output}", *(f"--{name}={value}" for name, value in (SMALL | more).items())]


def run(folders, output, **more):
    return fit.COMMAND.main(words_for(folders, output, **more))


def lines_of(printed):
    """The printed command lines: those that ran, and those that were done."""
    shown = [line.partition("] ")[2] for line in printed.splitlines() if line.startswith("[")]
    done = [line.removeprefix("done: ") for line in shown if line.startswith("done: ")]
    return [line for line in shown if not line.startswith("done: ")], done


def names_of(lines):
    return [shlex.split(line)[1] for line in lines]


@pytest.fixture(scope="module")
def fitted(folders, tmp_path_factory):
    """A folder in which all stages are done."""
    output = tmp_path_factory.mktemp("fit") / "mine"
    assert run(folders, output) == 0
    return output


def test_all_stages_and_a_model_that_predicts(fitted, folders, tmp_path, capsys):
    state = json.loads((fitted / fit.STATE_FILE).read_text())
    assert list(state) == STAGES and all(stage["done"] for stage in state.values())
    assert manager.latest(fitted / "train").step == 2
    metrics = json.loads((fitted / "eval" / "metrics.json").read_text())
    assert [entry["name"] for entry in metrics["classes"]] == ["ground", "disc"]
    assert (fitted / "check.html").is_file() and (fitted / "export" / "saved_model" / "saved_model.pb").is_file()
    assert run(folders, fitted) == 0
    printed = capsys.readouterr().out
    assert f"  deeplab serve --model={fitted / 'export' / 'frozen_inference_graph.pb'}\n" in printed
    line = next(line for line in printed.splitlines() if line.startswith("  deeplab predict "))
    words = [word.replace("PHOTOS", str(folders[0])) for word in shlex.split(line)[2:]]
    assert predict.COMMAND.main(words) == 0
    assert len(list((fitted / "predicted" / "mask").glob("*.png"))) == 5


def test_images_of_four_bands_in_tiles_go_the_whole_way(tmp_path):
    scenes = band_scenes.write_arrays(tmp_path, 5)
    settings = {"bands": "4,3,2", "scale_from": "0,4000", "tile_size": 41, "classes": ",".join(band_scenes.CLASSES)}
    assert run(scenes, tmp_path / "out", **settings, formats="frozen_graph") == 0
    described = datasets.load(tmp_path / "out" / "tfrecord" / "dataset.yml")
    bands = described.image_bands
    assert (bands.bands, bands.dtype, bands.low, bands.high) == ((4, 3, 2), "uint16", (0,) * 3, (4000,) * 3)
    assert sum(described.splits.values()) == 20 and described.class_names == band_scenes.CLASSES
    segmenter = Segmenter(tmp_path / "out" / "export" / "frozen_inference_graph.pb")
    first = tmp_path / "images" / "s00.npy"
    np.testing.assert_array_equal(segmenter(first).labels, segmenter(np.load(first)[..., [3, 2, 1]]).labels)


def test_the_training_uses_the_recipe_of_train(fitted):
    train = json.loads((fitted / fit.STATE_FILE).read_text())["train"]["line"]
    assert "--recipe=auto" in train and "--tf_initial_checkpoint= " in train and "--train_crop_size=33,33" in train
    chosen = yaml.safe_load((fitted / "train" / recipe_plan.FILE_NAME).read_text())
    assert (chosen["optimizer"], chosen["learning_policy"], chosen["aspp_convs_filters"]) == ("momentum", "cosine", 8)
    assert yaml.safe_load((fitted / "train" / "config.yml").read_text())["train"]["eval_every"] == "2"


def test_only_what_was_given_replaces_the_recipe(fitted):
    config = fit.FitConfig(output=str(fitted))
    stage = next(stage for stage in fit.stages(config, {"base_learning_rate": 0.1}) if stage.command == "train")
    folders = [f"--dataset_dir={fitted / 'tfrecord'}", f"--train_logdir={fitted / 'train'}"]
    assert stage.words() == [*folders, "--recipe=auto", "--base_learning_rate=0.1"]


@pytest.mark.parametrize(
    "minutes, budget", [(30, "30min"), (0.5, "0.5min"), (100_000, "100000min"), (1 / 3, "0.333333min")]
)
def test_minutes_are_a_time_budget(fitted, minutes, budget):
    config = fit.FitConfig(output=str(fitted), minutes=minutes)
    stage = next(stage for stage in fit.stages(config, {}) if stage.command == "train")
    assert f"--time_budget={budget}" in stage.words()
    assert durations.seconds(budget) == pytest.approx(60 * minutes, rel=1e-5)


def test_a_second_run_skips_what_is_done(fitted, folders, capsys):
    before = {path: path.stat().st_mtime_ns for path in fitted.rglob("*") if path.is_file()}
    assert run(folders, fitted) == 0
    ran, done = lines_of(capsys.readouterr().out)
    assert ran == [] and names_of(done) == STAGES
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_more_steps_resume_the_training(fitted, folders, tmp_path, capsys):
    output = shutil.copytree(fitted, tmp_path / "copy")
    state = (output / fit.STATE_FILE).read_text().replace(str(fitted), str(output))
    (output / fit.STATE_FILE).write_text(state)
    assert run(folders, output, training_number_of_steps=3) == 0
    ran, done = lines_of(capsys.readouterr().out)
    assert names_of(done) == STAGES[:2] and names_of(ran) == STAGES[2:]
    assert manager.latest(output / "train").step == 3
    best = json.loads((output / "train" / "best" / "best.json").read_text())
    assert json.loads((output / "eval" / "metrics.json").read_text())["step"] == best["step"]
    assert len((output / "train" / "history.csv").read_text().splitlines()) == 3  # evaluated at each end


def test_other_labels_need_another_folder(fitted, folders, capsys):
    assert run(folders, fitted, classes="ground,circle") == 1
    assert "[would-overwrite]" in capsys.readouterr().err
    assert "ground" in (fitted / "tfrecord" / "dataset.yml").read_text()


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stop_at_any_stage_is_resumed(fitted, folders, tmp_path, stage, where, monkeypatch, capsys):
    """The commands are replaced by ones that only leave their results, so that every stage can be tried."""
    output = tmp_path / "mine"
    results = {stage.command: stage.result for stage in fit.stages(fit.FitConfig(output=str(output)), {})}
    stops = [stage]

    def leave_result(name, words):
        stop = stops and name == stops[0]
        if stop and where == "before":
            raise KeyboardInterrupt
        results[name].parent.mkdir(parents=True, exist_ok=True)
        kept = {"build_data": "tfrecord/dataset.yml", "check_data": "check.json"}  # what later stages read
        results[name].write_text((fitted / kept[name]).read_text() if name in kept else "")
        if stop:
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(fit, "_run", leave_result)
    assert run(folders, output) == 130
    stops.clear()
    capsys.readouterr()
    assert run(folders, output) == 0
    ran, done = lines_of(capsys.readouterr().out)
    at = STAGES.index(stage)
    assert names_of(done) == STAGES[:at] and names_of(ran) == STAGES[at:]


def pytest_generate_tests(metafunc):
    if "killed_stage" in metafunc.fixturenames:
        stages = STAGES if metafunc.config.getoption("--long") else ["train", "export"]
        metafunc.parametrize("killed_stage", stages)


@pytest.mark.slow
def test_a_kill_before_a_stage_is_resumed(folders, tmp_path, killed_stage, capsys):
    """The process is killed when the stage has been entered in fit.json, before it begins."""
    script = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from support import band_scenes, tiny_backbone
from support.errors import raises
from deeplab import fit
run = fit._run
fit._run = lambda name, words: os.kill(os.getpid(), 9) if name == {killed_stage!r} else run(name, words)
with tiny_backbone.registered():
    sys.exit(fit.COMMAND.main({words_for(folders, tmp_path / "mine")!r}))
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert run(folders, tmp_path / "mine") == 0
    ran, done = lines_of(capsys.readouterr().out)
    at = STAGES.index(killed_stage)
    assert names_of(done) == STAGES[:at] and names_of(ran) == STAGES[at:]
    assert (tmp_path / "mine" / "export" / "frozen_inference_graph.pb").is_file()


def test_records_that_are_built_but_not_entered_are_kept(folders, tmp_path, monkeypatch, capsys):
    """A kill after the records are whole and before fit.json says so."""
    build = fit._run

    def stop(name, words):
        build(name, words)
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "_run", stop)
    assert run(folders, tmp_path / "mine") == 130
    shard = next((tmp_path / "mine" / "tfrecord").glob("train*"))
    written = shard.stat().st_mtime_ns
    monkeypatch.setattr(fit, "_run", lambda name, words: build(name, words) if name == "build_data" else 3)
    assert run(folders, tmp_path / "mine") == 3
    assert shard.stat().st_mtime_ns == written


def test_labels_can_be_corrected_before_there_are_records(folders, tmp_path, capsys):
    masks = shutil.copytree(folders[1], tmp_path / "masks")
    for path in masks.iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        mask[30:36, :20] = 2
        cv2.imwrite(str(path), mask)
    assert run((folders[0], masks), tmp_path / "mine") == 1
    assert "[label-out-of-range]" in capsys.readouterr().err
    named = {"classes": "ground,disc,shadow", "training_number_of_steps": 1, "formats": "frozen_graph"}
    assert run((folders[0], masks), tmp_path / "mine", **named) == 0
    assert "shadow" in (tmp_path / "mine" / "tfrecord" / "dataset.yml").read_text()


def test_a_file_in_place_of_the_output_folder(folders, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("text")
    assert run(folders, tmp_path / "thesis.txt") == 1
    printed = capsys.readouterr().err
    assert "--output: " in printed and "it is a file" in printed and "[unwritable-folder]" in printed
    assert (tmp_path / "thesis.txt").read_text() == "text"


def test_unfit_data_stop_it_before_the_training(folders, tmp_path, capsys):
    images = shutil.copytree(folders[1], tmp_path / "images")  # each image is a copy of its own mask
    assert run((images, folders[1]), tmp_path / "mine") == 3
    ran, _ = lines_of(capsys.readouterr().out)
    assert names_of(ran) == STAGES[:2] and not (tmp_path / "mine" / "train").exists()
    assert run((images, folders[1]), tmp_path / "mine") == 3  # it is not taken for done


def test_a_format_with_its_flags_and_a_time_limit(folders, tmp_path, capsys):
    """COCO annotations; a split that is called test; the number of steps from the measured speed."""
    boxes = [(6, 10, 16, 30), (10, 10, 20, 30), (14, 10, 24, 30), (18, 10, 28, 30)]
    for split, numbers in {"train": range(3), "test": [3]}.items():
        images = [{"id": n + 1, "file_name": f"{n}.png", "height": 40, "width": 48} for n in numbers]
        shapes = [
            {"id": n + 1, "image_id": n + 1, "category_id": 1, "segmentation": [[a, b, c, b, c, d, a, d]], "iscrowd": 0}
            for n, (a, b, c, d) in ((n, boxes[n]) for n in numbers)
        ]
        for shape in shapes:
            x, y, right, _, _, bottom = shape["segmentation"][0][:6]
            shape |= {"bbox": [x, y, right - x, bottom - y], "area": (right - x) * (bottom - y)}
        content = {"images": images, "annotations": shapes, "categories": [{"id": 1, "name": "disc"}]}
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    output = tmp_path / "mine"
    chosen = {name: value for name, value in SMALL.items() if name not in ("classes", "training_number_of_steps")}
    chosen |= {"annotations": f"train:{tmp_path}/train.json,test:{tmp_path}/test.json", "image_folder": folders[0]}
    words = ["coco", f"--output={output}", *(f"--{name}={value}" for name, value in chosen.items())]
    assert fit.COMMAND.main([*words, "--minutes=0.01"]) == 0
    ran, _ = lines_of(capsys.readouterr().out)
    assert names_of(ran) == STAGES
    assert shlex.split(ran[0])[2] == "coco" and "--eval_split=test" in ran[2] and "--eval_split=test" in ran[3]
    assert "--time_budget=0.01min" in ran[2] and "best" in ran[3]
    assert manager.latest(output / "train").step == 1  # at least one step, however little time there is
    assert fit.COMMAND.main([*words, "--minutes=0.01"]) == 0
    assert lines_of(capsys.readouterr().out)[0] == []


def test_formats_of_which_libraries_are_installed(monkeypatch):
    monkeypatch.setattr(fit.installation, "missing", lambda lines: lines)
    assert fit._exports() == ["frozen_graph", "saved_model", "litert"]
    monkeypatch.setattr(fit.installation, "missing", lambda lines: [])
    assert fit._exports() == ["frozen_graph", "saved_model", "litert", "onnx"]


@pytest.mark.parametrize(
    "words, field",
    [
        (["--folds=3"], "folds"),
        (["--minutes=3", "--training_number_of_steps=3"], "minutes"),
    ],
)
def test_settings_that_exclude_each_other(words, field, folders, tmp_path, capsys):
    assert fit.COMMAND.main([*map(str, folders), f"--output={tmp_path}/mine", *words]) == 1
    printed = capsys.readouterr().err
    assert f"--{field}" in printed and "[conflicting-settings]" in printed and not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    "given, format_name, wanted",
    [
        ({"classes": ("a,b",)}, "folder", "--class_names=a,b"),
        ({"classes": ("a", "b")}, "folder", "--class_names=a,b"),
        ({"classes": ("a,b=c|d",)}, "folder", "--classes=a,b=c|d"),
        ({"classes": ("a,b",), "class_names": "a,b,c"}, "folder", "--classes=a,b"),
        ({"classes": ("a,b",)}, "coco", "--classes=a,b"),
    ],
)
def test_classes_name_mask_values_or_choose_among_names(given, format_name, wanted):
    build = fit.stages(fit.FitConfig(output="x"), given, format_name)[0]
    assert wanted in build.words()


def test_a_single_class_is_told_as_what_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with raises("out-of-range", field="classes"):
        fit.stages(fit.FitConfig(output="x"), {"classes": ("a",)})[0].words()
    (tmp_path / "a").write_text("ground\ndisc\n")  # a file of names
    assert "--class_names=a" in fit.stages(fit.FitConfig(output="x"), {"classes": ("a",)})[0].words()


def test_images_of_one_split_cannot_be_evaluated(fitted, tmp_path):
    content = json.loads((fitted / "check.json").read_text())
    for entry in content["classes"]:
        entry["pixels"] = {"train": 1}
    (tmp_path / "check.json").write_text(json.dumps(content))
    with raises("missing-split"):
        fit._split_flag(tmp_path / "check.json", "eval_split")


def test_the_first_words(folders, tmp_path, monkeypatch):
    """Two folders, or a format; a folder that is called like a format is a folder."""
    images, masks = map(str, folders)

    def parsed(*words):
        word, given = fit.COMMAND.parse(words)
        return word, given.get("image_folder"), given.get("mask_folder")

    assert parsed(images, masks, "--output=x") == ("folder", images, masks)
    assert parsed("folder", images, masks) == parsed("folder", f"--image_folder={images}", f"--mask_folder={masks}")
    assert parsed(images, f"--mask_folder={masks}") == ("folder", images, masks)
    assert parsed("coco", "--annotations=a.json") == ("coco", None, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coco").mkdir()
    assert parsed("coco", masks) == ("folder", "coco", masks)
    assert fit.COMMAND.main(["cocoo", "--annotations=a.json"]) == 2


def test_required_folders(capsys):
    assert fit.COMMAND.main([]) == 2
    assert "--image_folder: must be given; so must --mask_folder, --output [missing-setting]" in capsys.readouterr().err
    assert fit.COMMAND.main(["a", "b", "c", "--output=x"]) == 2
    assert "left-over words ['c']" in capsys.readouterr().err


def test_a_damaged_state_is_named(fitted, folders, tmp_path, capsys):
    (tmp_path / fit.STATE_FILE).write_text("{")
    assert run(folders, tmp_path) == 1
    printed = capsys.readouterr().err
    assert fit.STATE_FILE in printed and "[unreadable-file]" in printed
