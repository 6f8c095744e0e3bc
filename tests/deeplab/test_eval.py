"""The command that measures, from its flags to its files."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from support.small_graphs import freeze

import deeplab.eval as command
from deeplab import Segmenter
from deeplab.data import dataset, records
from deeplab.evaluation import ConfusionMatrix

ROOT = pathlib.Path(command.__file__).parents[1]


@pytest.fixture
def run(monkeypatch, small_run, disc_records, tmp_path):
    """Runs the command on the small model and dataset; further flags are added. Gives the exit code."""

    def run(*flags, checkpoint=small_run):
        given = [f"--checkpoint_dir={checkpoint}", f"--dataset_dir={disc_records}", f"--eval_logdir={tmp_path}/log"]
        monkeypatch.setattr(sys, "argv", ["eval.py", *given, *flags])
        return command.main()

    return run


def counted_by_hand(model, disc_pairs):
    """The confusion matrix through `Segmenter`, image by image, and the number of undecided pixels."""
    segmenter = Segmenter(model)
    matrix, undecided = ConfusionMatrix(3), 0
    for image, label in disc_pairs.values():
        predicted = segmenter(image)
        matrix.add(label.astype(np.int32), predicted.labels.astype(np.int32))
        if predicted.probabilities is not None:
            undecided += int((np.diff(np.sort(predicted.probabilities)[..., -2:]) < 1e-5).sum())
    return matrix.counts, undecided


def test_table_tags_and_files(run, small_run, disc_pairs, tmp_path, capsys):
    assert run("--exclude_classes=ground", "--extra_metrics=boundary_iou") == 0
    written = json.loads((tmp_path / "log" / "metrics.json").read_text())
    counts, undecided = counted_by_hand(small_run, disc_pairs)
    assert undecided < 10  # each moves at most one pixel from one field of the matrix to another
    assert np.abs(written["confusion_matrix"] - counts).sum() <= 2 * undecided
    np.testing.assert_array_equal(np.sum(written["confusion_matrix"], 1), counts.sum(1))
    assert written["step"] == 7 and written["num_images"] == 4 and written["settings"]["depth_multiplier"] == 0.25
    out = capsys.readouterr().out
    overall = written["reference"]["eval/miou_1.0_overall"]
    assert f"eval/miou_1.0_overall[{overall:.9g}]" in out and "eval/miou_1.0_class_2[" in out
    assert "mean IoU without ground: " in out and written["excluded_classes"] == ["ground"]
    assert written["settings"]["extra_metrics"] == ["boundary_iou"] and 0 <= written["mean_boundary_iou"] <= 1
    assert (tmp_path / "log" / "per_image.csv").read_text().count("\n") == 5
    assert {"confusion_matrix.png", "class_iou.png", "report.html"} <= {
        path.name for path in (tmp_path / "log").iterdir()
    }


def test_chosen_metrics_and_groups(run, tmp_path, capsys):
    assert run("--metrics=dice,trimap_iou,object_size", "--metrics=calibration", "--group_by=[13]$") == 0
    written = json.loads((tmp_path / "log" / "metrics.json").read_text())
    assert 0 <= written["calibration_error"] <= 1 and len(written["reliability"]["accuracy"]) == 15
    assert len(written["trimap_mean_iou"]) == 6 and sum(written["objects"].values()) >= 4 and "kappa" not in written
    names = ["mean_dice", "trimap_iou_4", "calibration_error", "mean_found_small", "image_mean_iou"]
    assert all(written["intervals"][name][0] <= written["intervals"][name][1] for name in names)
    assert {name: group["images"] for name, group in written["groups"].items()} == {"1": 1, "3": 1, "(no match)": 2}
    assert "mean IoU within 4 px" in capsys.readouterr().out


def test_batches_of_images_of_their_own_size(run, tmp_path):
    assert run("--noreport") == 0
    one = json.loads((tmp_path / "log" / "metrics.json").read_text())
    assert run("--noreport", "--eval_batch_size=3") == 0
    three = json.loads((tmp_path / "log" / "metrics.json").read_text())
    assert np.abs(np.subtract(one["confusion_matrix"], three["confusion_matrix"])).sum() < 20  # undecided pixels


def test_two_models(run, small_run, disc_records, tmp_path, capsys):
    path = freeze(tmp_path / "graph.pb", with_probabilities=False)
    assert run(f"--compare={path}") == 0
    written = json.loads((tmp_path / "log" / "comparison.json").read_text())
    assert written["second"] == path and len(written["images"]) == 4 and written["metrics"]["mean_iou"]["interval"]
    assert "images where they disagree most" in capsys.readouterr().out
    assert (tmp_path / "log" / "comparison.html").stat().st_size > 10_000
    assert run("--compare=x", "--watch") == 1
    assert "--compare" in capsys.readouterr().err


def test_an_exported_file(run, disc_records, disc_pairs, tmp_path, capsys):
    path = freeze(tmp_path / "graph.pb", with_probabilities=False)
    assert run(f"--model={path}", f"--dataset_dir={disc_records}", checkpoint="") == 0
    written = json.loads((tmp_path / "log" / "metrics.json").read_text())
    np.testing.assert_array_equal(written["confusion_matrix"], counted_by_hand(path, disc_pairs)[0])
    assert written["checkpoint"] == path and written["step"] == 0
    assert "depth_multiplier" not in written["settings"] and written["settings"]["eval_split"] == "val"
    assert run(f"--model={path}", "--eval_crop_size=65", checkpoint="") == 1
    assert "[settings-built-in]" in capsys.readouterr().err


def test_a_file_of_a_fixed_size_is_measured_at_the_size_of_the_images(run, disc_records, tmp_path, capsys):
    path = freeze(tmp_path / "graph.pb", with_probabilities=False, assert_within=50)
    flags = (f"--model={path}", f"--dataset_dir={disc_records}")
    assert run(*flags, checkpoint="") == 1
    said = capsys.readouterr().err
    assert "[larger-than-crop]" in said and "--shrink_large_images" in said
    assert run(*flags, "--shrink_large_images", checkpoint="") == 0
    written = json.loads((tmp_path / "log" / "metrics.json").read_text())
    assert np.sum(written["confusion_matrix"]) == 4 * 48 * 64
    capsys.readouterr()
    assert run("--shrink_large_images") == 1
    assert "[conflicting-settings]" in capsys.readouterr().err


def test_crop_batch_scales_and_mirror_images(run, tmp_path, capsys):
    flags = ("--eval_crop_size=49,65", "--eval_batch_size=3", "--eval_scales=0.5", "--eval_scales=1.0")
    assert run(*flags, "--add_flipped_images") == 0
    assert "eval/miou_0.5_1.0_flipped_overall[" in capsys.readouterr().out
    assert "Most uncertain images" in (tmp_path / "log" / "report.html").read_text()
    written = json.loads((tmp_path / "log" / "metrics.json").read_text())
    assert np.sum(written["confusion_matrix"]) == 4 * 48 * 64  # padding does not count


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--eval_crop_size=33,65"], "--eval_crop_size=49,65"),
        (["--eval_split=test"], "no file matches test-"),
        (["--dataset=pascal_voc_seg"], "3 classes"),
        (["--model_variant=xception_65"], "trained with mobilenet_v2"),
        (["--eval_processes=0"], "--eval_processes"),
        (["--extra_metrics=boundary"], "boundary_iou"),
        (["--metrics=dise"], "did you mean 'dice'?"),
        (["--group_by=("], "--group_by"),
        (["--exclude_classes=disk"], "did you mean 'disc'?"),
    ],
)
def test_bad_flags_are_refused(run, tmp_path, capsys, flags, words):
    assert run(*flags) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "log" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--eval_scale=1.0"], "unknown flag --eval_scale [unknown-flag]"),
        (["--add_flipped_images", "=", "true"], "without spaces around the equals sign"),
    ],
)
def test_command_lines_that_cannot_be_understood(run, capsys, flags, words):
    assert run(*flags) == 2
    assert words in capsys.readouterr().err


def test_other_number_of_classes(run, tmp_path, capsys):
    two = dataset.Dataset("two", ("ground", "thing"))
    dataset.save(two, tmp_path / "two.yml")
    assert run(f"--dataset={tmp_path}/two.yml") == 1
    printed = capsys.readouterr().err
    assert "--dataset: two has 2 classes, the model in" in printed and "[class-count-mismatch]" in printed


def test_no_checkpoint(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run(checkpoint=tmp_path / "empty") == 1
    assert "holds no checkpoint" in capsys.readouterr().err


def test_truncated_records(run, disc_records, tmp_path, capsys):
    shard = records.shard_name("val", 0, 1)
    (tmp_path / shard).write_bytes((disc_records / shard).read_bytes()[:-20])
    assert run(f"--dataset_dir={tmp_path}", f"--dataset={disc_records / dataset.FILE_NAME}") == 1
    assert f"{shard}: record 3" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["eval.py", "vis.py", "predict.py"])
def test_help_as_a_file_from_anywhere(script, tmp_path):
    """Without installation, and without the package's own folder hiding other libraries."""
    done = subprocess.run([sys.executable, ROOT / "deeplab" / script, "--help"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0 and f"python deeplab/{script}".encode() in done.stdout


def test_postprocessing(run, tmp_path):
    assert run() == 0
    plain = json.loads((tmp_path / "log" / "metrics.json").read_text())
    assert run("--postprocess=min_area:60", "--eval_scales=0.5,1.0") == 0
    processed = json.loads((tmp_path / "log" / "metrics.json").read_text())
    assert processed["settings"]["postprocess"] == "min_area:60" and processed["step"] == 7
    assert processed["evaluation"].endswith("0.5_1.0") and processed["confusion_matrix"] != plain["confusion_matrix"]


def test_int8_is_simulated_with_ranges_from_the_records(run, disc_records, tmp_path, capsys):
    assert run("--precision=int8", "--report=false") == 0
    said = capsys.readouterr()
    written = json.loads((tmp_path / "log" / "metrics.json").read_text())
    assert written["settings"]["precision"] == "int8" and written["num_images"] == 4
    assert "for calibration; 100 or more" in said.err + said.out
    assert run("--precision=int8", "--postprocess=fill_holes") == 1
    assert "[not-supported]" in capsys.readouterr().err
    assert run("--precision=int8", "--eval_processes=2") == 1
    assert "[conflicting-settings]" in capsys.readouterr().err
