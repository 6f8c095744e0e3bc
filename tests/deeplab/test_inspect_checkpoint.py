"""The command that tells what a checkpoint is, and how two differ."""

import sys

import numpy as np
import pytest

from deeplab import inspect_checkpoint
from deeplab.checkpoint import compare, manager, writer

TENSORS = {
    "MobilenetV2/Conv/weights": np.zeros((3, 3, 3, 32), np.float32),
    "MobilenetV2/Conv/weights/Momentum": np.zeros((3, 3, 3, 32), np.float32),
    "aspp0/weights": np.zeros((1, 1, 320, 256), np.float32),
    "logits/semantic/weights": np.zeros((1, 1, 256, 5), np.float32),
    "logits/semantic/biases": np.array([1, 2, 3, 4, -5], np.float32),
}


@pytest.fixture
def folder(tmp_path) -> str:
    """A training folder with one checkpoint."""
    manager.save_step(tmp_path / "logs", 300, TENSORS)
    return str(tmp_path / "logs")


def run(monkeypatch, *words: str) -> int:
    """The command's exit code."""
    monkeypatch.setattr(sys, "argv", ["inspect_checkpoint.py", *words])
    return inspect_checkpoint.main()


def table_row(output: str, name: str) -> list[str]:
    """The words of a variable's line."""
    return next(line.split() for line in output.splitlines() if line.startswith(name + " "))


def test_one_checkpoint(folder, monkeypatch, capsys):
    assert run(monkeypatch, f"--checkpoint={folder}") == 0
    output = capsys.readouterr().out
    facts = dict(line.split(":", 1) for line in output.split("\n\n")[0].splitlines())
    assert facts["model"].strip() == "mobilenet_v2, no atrous ASPP branches, no image pooling, no decoder, 5 classes"
    assert "--model_variant=mobilenet_v2" in facts["flags"] and "--add_image_level_feature=false" in facts["flags"]
    assert (facts["step"].strip(), facts["classes"].strip()) == ("300", "5")
    assert facts["parameters"].strip() == f"{864 + 320 * 256 + 1280 + 5:,} in 4 variables"
    assert table_row(output, "logits/semantic/biases")[1:] == ["5", "float32"]
    assert table_row(output, "global_step")[1:] == ["scalar", "int64"]


def test_values_and_filter(folder, monkeypatch, capsys):
    assert run(monkeypatch, f"--checkpoint={folder}", "--values", "--filter=biases$|step") == 0
    output = capsys.readouterr().out
    # mean 1; deviations 0, 1, 2, 3, -6: std sqrt(50 / 5)
    assert table_row(output, "logits/semantic/biases")[3:] == ["1", "3.1623", "-5", "4"]
    assert table_row(output, "global_step")[3:] == ["300", "0", "300", "300"]
    assert "aspp0/weights" not in output


def test_equal_checkpoints(folder, monkeypatch, capsys):
    assert run(monkeypatch, f"--checkpoint={folder}", f"--other={folder}/model.ckpt-300") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "6 equal"


def test_every_kind_of_difference(folder, tmp_path, monkeypatch, capsys):
    other = {name: value for name, value in TENSORS.items() if not name.endswith("Momentum")}
    other["logits/semantic/biases"] = np.array([1, 2, 3, 4.25, -5], np.float32)
    other["aspp0/weights"] = np.zeros((1, 1, 320, 128), np.float32)
    other["aspp0/biases"] = np.zeros(128, np.float32)
    writer.write(str(tmp_path / "other.ckpt"), other)
    assert run(monkeypatch, f"--checkpoint={folder}", f"--other={tmp_path}/other.ckpt") == 3
    output = capsys.readouterr().out
    assert table_row(output, "logits/semantic/biases")[1:] == ["values", "differ", "5", "5", "0.25"]
    assert table_row(output, "aspp0/weights")[1:] == ["shape", "differs", "1x1x320x256", "1x1x320x128"]
    assert table_row(output, "aspp0/biases")[1:] == ["only", "in", "the", "second", "128"]
    assert "2 only in the first" in output.splitlines()[-1] and "2 equal" in output.splitlines()[-1]


def test_filter_limits_the_comparison(folder, tmp_path, monkeypatch):
    writer.write(str(tmp_path / "other.ckpt"), {**TENSORS, "logits/semantic/biases": np.zeros(5, np.float32)})
    words = [f"--checkpoint={folder}", f"--other={tmp_path}/other.ckpt"]
    assert run(monkeypatch, *words, "--filter=^aspp") == 0
    assert run(monkeypatch, *words, "--filter=^logits") == 3


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        (["--checkpoint=nowhere/model.ckpt"], 1, "[checkpoint-not-found]"),
        (["--filter=("], 1, "[bad-pattern]"),
        ([], 2, "[missing-setting]"),
    ],
)
def test_faults_have_a_code_of_their_own(words, exit_code, code, monkeypatch, capsys, folder):
    given = words if words[:1] != ["--filter=("] else [f"--checkpoint={folder}", *words]
    assert run(monkeypatch, *given) == exit_code
    assert "error: " in (err := capsys.readouterr().err) and code in err


@pytest.mark.parametrize(
    ("first", "second", "largest"),
    [
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([1.0], [np.nan], np.inf),
        ([np.inf], [np.inf], 0.0),
        ([np.inf], [-np.inf], np.inf),
        ([3, -2], [1, 2], 4.0),
        ([True], [False], 1.0),
        ([], [], 0.0),
        ([b"a"], [b"a"], 0.0),
        ([b"a"], [b"b"], None),
    ],
)
def test_largest_difference(first, second, largest):
    assert compare.largest_difference(np.array(first), np.array(second)) == largest
