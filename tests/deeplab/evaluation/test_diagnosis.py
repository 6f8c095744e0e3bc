"""Warnings: when they come, what they name, and when they keep still."""

import shlex

import numpy as np
import pytest

from deeplab.evaluation.diagnosis import balancing_weights, dominant_class


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
        "background takes 99.90% of the predictions, while the labels hold background 70.00%, skin 20.00%, hair 10.00%."
    )
    causes = [line.strip() for line in lines if line.strip()[:2] in ("1.", "2.", "3.", "4.", "5.")]
    words = ["values in the masks", "imbalance", "Too few steps (these are 500)", "look black", "flags"]
    assert len(causes) == 5
    assert all(word in cause for word, cause in zip(words, causes, strict=True))
    commands = [line.strip() for line in lines if line.strip().startswith("python ")]
    source = "--checkpoint_dir=runs/face --dataset_dir='my data/tfrecord'"
    assert commands == [
        "python deeplab/check_data.py --dataset_dir='my data/tfrecord'",
        "python deeplab/train.py --train_logdir=NEW_FOLDER --label_weights=1,1.9,2.6",
        f"python deeplab/eval.py --eval_split=trainaug --eval_logdir=runs/eval_train {source}",
        f"python deeplab/vis.py --vis_split=val --vis_logdir=VIS_LOGDIR {source}",
        f"python deeplab/eval.py --eval_split=val --eval_logdir=runs/eval {source}",
    ]


def test_the_command_on_masks_runs(make_report, disc_records, monkeypatch, capsys):
    """What the warning tells people to type must work."""
    from deeplab import check_data

    (text,) = make_report(
        [[700, 0, 0], [200, 0, 0], [100, 0, 0]], settings={"dataset_dir": str(disc_records)}
    ).warnings()
    (command,) = (line.strip() for line in text.splitlines() if "check_data.py" in line)
    monkeypatch.setattr("sys.argv", shlex.split(command)[1:])
    assert check_data.main() == 0
    assert "disc" in capsys.readouterr().out


def test_every_label_ignored(make_report):
    (text,) = make_report(np.zeros((3, 3), int)).warnings()
    assert text.startswith("no pixel was counted: every label of split val is the ignore label 255.")


def test_one_class_labeled(make_report):
    (text,) = make_report([[90, 10, 0], [0, 0, 0], [0, 0, 0]]).warnings()
    assert text.startswith("the labels of split val hold nothing but background")


def test_balancing_weights():
    counts = np.diag([9000, 1000, 90, 0])
    assert balancing_weights(counts).tolist() == [1.0, 3.0, 10.0, 1.0]
