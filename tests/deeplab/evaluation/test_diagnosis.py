"""Warnings: when they appear, what they name, and when there are none."""

import dataclasses
import shlex

import numpy as np
import pytest

from deeplab.data import dataset
from deeplab.evaluation.diagnosis import dominant_class, training_pixels
from deeplab.losses import class_balance


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[700, 0, 0], [200, 0, 0], [100, 0, 0]], 0),  # all background
        ([[0, 0, 700], [0, 0, 200], [0, 1, 99]], 2),  # all of a rare class
        ([[700, 5, 5], [190, 0, 0], [100, 0, 0]], None),  # 990 of 1000: 99 %, not more
        ([[9950, 3, 0], [10, 37, 0], [0, 0, 0]], None),  # 99.6 % background, and the rest was found
        ([[9950, 3, 0], [37, 10, 0], [0, 0, 0]], 0),  # 99.9 % background, and the rest was lost
        ([[1000, 0, 0], [0, 0, 0], [0, 0, 0]], None),  # nothing else is labeled
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], None),
    ],
)
def test_dominant_class(counts, expected):
    assert dominant_class(np.array(counts)) == expected


def test_a_good_report_gives_no_warning(portrait_report):
    assert portrait_report.warnings() == []


def test_one_class_predicted(make_report):
    settings = {"dataset_dir": "my data/tfrecord", "eval_logdir": "runs/eval", "train_split": "trainaug"}
    (text,) = make_report([[700, 0, 0], [200, 0, 0], [99, 0, 1]], settings=settings).warnings()
    lines = text.splitlines()
    assert lines[0] == (
        "background has 99.90% of the predictions, but the labels contain background 70.00%, skin 20.00%, hair 10.00%."
    )
    causes = [line.strip() for line in lines if line.strip()[:2] in ("1.", "2.", "3.", "4.", "5.")]
    words = ["values in the masks", "imbalance", "Too few steps (this is step 500)", "look black", "flags"]
    assert len(causes) == 5
    assert all(word in cause for word, cause in zip(words, causes, strict=True))
    commands = [line.strip() for line in lines if line.strip().startswith("deeplab ")]
    source = "--checkpoint_dir=runs/face --dataset_dir='my data/tfrecord'"
    assert commands == [
        "deeplab check-data --dataset_dir='my data/tfrecord'",
        "deeplab train --train_logdir=NEW_FOLDER --label_weights=0.544,1.02,1.44",
        f"deeplab eval --eval_split=trainaug --eval_logdir=runs/eval_train {source}",
        f"deeplab vis --vis_split=val --vis_logdir=VIS_LOGDIR {source}",
        f"deeplab eval --eval_split=val --eval_logdir=runs/eval {source}",
    ]


def test_commands_name_the_exported_file_that_was_evaluated(make_report):
    settings = {"model": "out/model.tflite", "dataset_dir": "data"}
    (text,) = make_report(
        [[700, 0, 0], [200, 0, 0], [99, 0, 1]], settings=settings, checkpoint="out/model.tflite", step=0
    ).warnings()
    commands = [line.strip() for line in text.splitlines() if line.strip().startswith(("deeplab eval", "deeplab vis"))]
    assert len(commands) == 3 and all("--model=out/model.tflite --dataset_dir=data" in line for line in commands)
    assert "checkpoint_dir" not in text and "Too few steps, a wrong" in text


def test_the_command_on_masks_runs(make_report, disc_records, monkeypatch, capsys):
    """What the warning tells people to type must work."""
    from deeplab import __main__ as program

    (text,) = make_report(
        [[700, 0, 0], [200, 0, 0], [100, 0, 0]], settings={"dataset_dir": str(disc_records)}
    ).warnings()
    (command,) = (line.strip() for line in text.splitlines() if "check-data" in line)
    monkeypatch.setattr("sys.argv", shlex.split(command))
    assert program.main() == 0
    assert "disc" in capsys.readouterr().out


def test_every_label_ignored(make_report):
    (text,) = make_report(np.zeros((3, 3), int)).warnings()
    assert text.startswith("no pixel was counted: every label of split val is the ignore label 255.")


def test_one_class_labeled(make_report):
    (text,) = make_report([[90, 10, 0], [0, 0, 0], [0, 0, 0]]).warnings()
    assert text.startswith("the labels of split val contain only background")


def test_weights_are_those_that_check_data_recommends(make_report, disc_records, tmp_path):
    """From the training split's pixels where dataset.yml counts them, else from the labels of the evaluation."""
    counts = [[700, 0, 0], [200, 0, 0], [100, 0, 0]]
    without = make_report(counts, settings={"dataset_dir": str(disc_records)})
    assert training_pixels(without) == [700, 200, 100]
    described = dataset.load(disc_records / dataset.FILE_NAME)
    pixels = {"train": (900, 90, 10), "val": (1, 1, 1)}
    dataset.save(dataclasses.replace(described, pixels=pixels), tmp_path / "counted.yml")
    counted = make_report(counts, settings={"dataset_dir": str(disc_records), "dataset": str(tmp_path / "counted.yml")})
    assert training_pixels(counted) == (900, 90, 10)
    (text,) = counted.warnings()
    recommended = class_balance.value_text(class_balance.recommended_weights((900, 90, 10)))
    assert f"--label_weights={recommended}" in text
