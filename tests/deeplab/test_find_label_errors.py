"""The command that looks for label errors, from its flags to its files."""

import csv
import shutil
import sys

import pytest

import deeplab.find_label_errors as command


@pytest.fixture
def run(monkeypatch, disc_records, tmp_path):
    def run(*flags):
        given = [f"--dataset_dir={disc_records}", f"--output_dir={tmp_path}/out"]
        monkeypatch.setattr(sys, "argv", ["find_label_errors.py", *given, *flags])
        return command.main()

    return run


def images(folder):
    return [row["image"] for row in csv.DictReader((folder / "images.csv").open())]


def test_files(run, small_run, tmp_path, capsys):
    assert run(f"--model={small_run}", "--split=val", "--overlays=2") == 0
    assert sorted(images(tmp_path / "out")) == [f"pair_{number}" for number in range(100, 104)]
    assert len(list((tmp_path / "out" / "overlay").iterdir())) == 2
    printed = capsys.readouterr()
    assert "most suspicious images" in printed.out and "--folds" in printed.err
    assert run(f"--model={small_run}", "--split=val") == 1
    assert "[would-overwrite]" in capsys.readouterr().err


def test_folds_judge_their_own_images(run, small_run, disc_records, tmp_path):
    for number in range(2):
        shutil.copytree(disc_records, tmp_path / "data" / f"fold_{number}")
    assert run(f"--folds={small_run},{small_run}", f"--dataset_dir={tmp_path}/data", "--overlays=0") == 0
    assert sorted(images(tmp_path / "out")) == sorted(2 * [f"pair_{number}" for number in range(100, 104)])


@pytest.mark.parametrize(
    ("flags", "code"), [([], "missing-setting"), (["--model=a", "--folds=b"], "conflicting-settings")]
)
def test_bad_flags(run, flags, code, capsys):
    assert run(*flags) == 1
    assert f"[{code}]" in capsys.readouterr().err
