"""The files of a report: complete, readable back, never half-written, earlier ones kept."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from support.errors import raises

import deeplab
from deeplab.evaluation import ConfusionMatrix, metrics, report_files, report_scalars, write_report

SETTINGS = {"eval_scales": (0.5, 1.0), "add_flipped_images": True, "eval_crop_size": None, "dataset_dir": "data"}


@pytest.fixture(scope="module")
def tensorboard_values():
    """Reads all scalars of a folder's events files: (step, tag) -> value."""
    import tensorflow as tf

    def read(folder) -> dict[tuple[int, str], float]:
        found = {}
        for path in folder.glob("events.out.tfevents.*"):
            for record in tf.data.TFRecordDataset(str(path)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                for value in event.summary.value:
                    found[event.step, value.tag] = float(tf.make_ndarray(value.tensor))
        return found

    return read


def test_metrics_json_holds_everything(make_report, tmp_path):
    report = make_report([[50, 9, 1], [10, 20, 0], [0, 0, 0]], settings=SETTINGS, seconds=2.5)
    content = json.loads(write_report(report, tmp_path)[0].read_text())
    matrix = ConfusionMatrix(3, content["ignore_label"], np.array(content["confusion_matrix"]))
    np.testing.assert_array_equal(matrix.counts, report.counts)
    assert content["mean_iou"] == metrics.mean_iou(matrix.counts)
    assert content["pixel_accuracy"] == 70 / 90
    assert content["classes"][1] == {
        "index": 1,
        "name": "skin",
        "iou": 20 / 39,
        "accuracy": 20 / 30,
        "precision": 20 / 29,
        "dice": 40 / 59,
        "f2": 100 / (4 * 30 + 29),
        "label_fraction": 30 / 90,
        "predicted_fraction": 29 / 90,
        "label_pixels": 30,
        "predicted_pixels": 29,
    }
    assert content["classes"][2]["iou"] is None  # NaN has no place in JSON
    assert content["absent_classes"] == ["hair"]
    assert content["reference"]["eval/miou_0.5_1.0_flipped_class_2"] is None
    assert content["settings"] == SETTINGS | {"eval_scales": [0.5, 1.0]}
    assert content["rule"] == report.rule()
    assert content["versions"]["deeplab"] == deeplab.__version__
    assert [content[name] for name in ("step", "split", "num_images", "seconds")] == [500, "val", 4, 2.5]


def test_values_that_json_does_not_know(make_report):
    report = make_report(np.eye(3, dtype=int), num_images=np.int64(7), settings={"size": np.float32(0.5), "f": print})
    content = json.loads(json.dumps(report_files.metrics_of(report)))
    assert content["num_images"] == 7
    assert content["settings"] == {"size": 0.5, "f": str(print)}


def test_plots_and_their_names(portrait_report, tmp_path):
    paths = write_report(portrait_report, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["metrics.json", "confusion_matrix.png", "class_iou.png"]
    assert all(path.parent == tmp_path / "new" / "folder" for path in paths)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths[1:])


def test_scalars(make_report, tmp_path, tensorboard_values):
    report = make_report([[6, 1, 1], [0, 0, 0], [1, 0, 3]])
    write_report(report, tmp_path)
    found = tensorboard_values(tmp_path)
    assert {step for step, _ in found} == {500}
    values = {tag: value for (_, tag), value in found.items()}
    assert math.isnan(values.pop("eval/miou_1.0_class_1"))
    assert values == pytest.approx(
        {
            "eval/miou_1.0_overall": (6 / 9 + 0 + 3 / 5) / 3,
            "eval/miou_1.0_class_0": 6 / 9,
            "eval/miou_1.0_class_2": 3 / 5,
            "eval/mean_iou": (6 / 9 + 3 / 5) / 2,
            "eval/pixel_accuracy": 9 / 12,
            "eval/mean_accuracy": 3 / 4,
            "eval/frequency_weighted_iou": 8 / 12 * 6 / 9 + 4 / 12 * 3 / 5,
            "eval/mean_dice": (12 / 15 + 6 / 8) / 2,
            "eval/kappa": (9 / 12 - (8 * 7 + 4 * 4) / 144) / (1 - (8 * 7 + 4 * 4) / 144),
            "eval/iou/background": 6 / 9,
            "eval/iou/hair": 3 / 5,
        },
        rel=1e-6,
    )


def test_scalars_of_nothing_counted(make_report):
    found = report_scalars.scalars(make_report(np.zeros((2, 2), int), class_names=["a", "b"]))
    assert found.pop("eval/miou_1.0_overall") == 0.0
    assert set(found) == {"eval/miou_1.0_class_0", "eval/miou_1.0_class_1"}


def test_metrics_of_an_earlier_evaluation_are_kept(make_report, tmp_path):
    counts = np.eye(3, dtype=int)
    write_report(make_report(counts), tmp_path)
    write_report(make_report(2 * counts), tmp_path)  # the same evaluation again takes its place
    write_report(make_report(counts, settings=SETTINGS), tmp_path)
    write_report(make_report(counts, split="../train", step=900), tmp_path)
    kept = {path.name: json.loads(path.read_text())["step"] for path in tmp_path.glob("metrics*.json")}
    assert kept == {"metrics.json": 900, "metrics-val-500-1.0.json": 500, "metrics-val-500-0.5_1.0_flipped.json": 500}
    assert json.loads((tmp_path / "metrics-val-500-1.0.json").read_text())["confusion_matrix"][0][0] == 2
    assert json.loads((tmp_path / "metrics.json").read_text())["evaluation"] == ".._train-900-1.0"


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"evaluation": ', "\udcff"])
def test_a_strange_metrics_json_is_kept_as_well(portrait_report, tmp_path, content):
    (tmp_path / "metrics.json").write_bytes(content.encode(errors="surrogateescape"))
    write_report(portrait_report, tmp_path)
    assert (tmp_path / "metrics-unknown.json").read_bytes() == content.encode(errors="surrogateescape")
    assert json.loads((tmp_path / "metrics.json").read_text())["step"] == 500


def test_a_failed_write_leaves_the_former_file(portrait_report, tmp_path, monkeypatch):
    write_report(portrait_report, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def disk_full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with raises("unwritable-file", where=tmp_path) as info:
        write_report(portrait_report, tmp_path)
    assert "No space left on device" in info.value.rule
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_a_killed_evaluation_left_is_removed(portrait_report, tmp_path):
    (tmp_path / ".metrics.json.999999999.partial").touch()
    write_report(portrait_report, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_is_a_file(portrait_report, tmp_path):
    (tmp_path / "taken").write_text("something of the user's")
    with raises("unwritable-folder", "eval_logdir") as info:
        write_report(portrait_report, tmp_path / "taken")
    assert "taken cannot be made: it is a file" in info.value.rule
    assert (tmp_path / "taken").read_text() == "something of the user's"


def test_counting_loads_neither_matplotlib_nor_tensorflow():
    code = "import deeplab.evaluation, sys; sys.exit(bool({'matplotlib', 'tensorflow'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_kill_at_any_step_leaves_whole_files_and_the_next_run_nothing_else(tmp_path):
    command = [sys.executable, "-m", "support.killed_results", "report", str(tmp_path / "out")]
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True, check=True)
    outcomes = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(outcomes) > 15 and {len(damaged) for damaged, _, _ in outcomes} == {0}
    written = ["class_iou.png", "confusion_matrix.png", "metrics-val-1-1.0.json", "metrics.json", "report.html"]
    assert [files for _, files, _ in outcomes] == [written] * len(outcomes)
    assert {tuple(steps) for _, _, steps in outcomes} == {("1", "1", "1"), ("2", "2", "2")}
