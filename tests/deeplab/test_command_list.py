"""`deeplab COMMAND`: the list, the words it understands, the way to each command."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from deeplab import __main__ as program
from deeplab import __version__

NAMES = sorted(name for commands in program.COMMANDS.values() for name in commands)
ROOT = pathlib.Path(program.__file__).parents[1]


@pytest.fixture
def run(monkeypatch):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["deeplab", *words])
        return program.main()

    return run


@pytest.mark.parametrize("words", [(), ("--help",), ("help",), ("-h",)])
def test_list(run, capsys, words):
    assert run(*words) == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", out, re.M) for name in NAMES)


def test_version(run, capsys):
    assert run("--version") == 0 and capsys.readouterr().out == f"deeplab {__version__}\n"


def test_unknown_words(run, capsys):
    assert run("trian") == 2
    assert "did you mean 'train'?" in capsys.readouterr().err
    assert run("--train_logdir=x") == 2
    assert "the command comes first" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(run, capsys, name):
    assert run(name, "--help") == 0
    assert f"\nUsage: deeplab {name}" in capsys.readouterr().out


def test_commands_with_a_flag():
    assert program.commands_with("vis_split") == ["vis"] and program.commands_with("nothing") == []
    assert program.commands_with("num_shards") == ["build_data"]  # with every format
    assert program.commands_with("sbd_root")[0] == "build_data (voc)"
    assert re.match(r"build_data \(folder, binary, voc and \d+ more\)$", program.commands_with("image_folder")[0])
    assert {"train", "eval", "export"} <= set(program.commands_with("model_variant"))


@pytest.mark.parametrize(
    ("word", "flag"),
    [("eval.py", "--eval_split"), ("export_model", "--export_path"), ("build_voc2012_data", "--sbd_root")],
)
def test_old_names(run, capsys, word, flag):
    assert run(word, "--help") == 0
    assert flag in capsys.readouterr().out


def test_wrong_paths_show_before_tensorflow_is_imported(tmp_path):
    """In a tenth of the time; each line names a folder, a file or a split that is not there."""
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec" / "dataset.yml").write_text("classes: [a, b]\n")
    (tmp_path / "rec" / "train-00000-of-00001.tfrecord").touch()
    (tmp_path / "a.png").touch()
    os.mkfifo(tmp_path / "pipe")
    lines = {
        "train --train_logdir=t --dataset_dir=none": "folder-not-found",
        "train --train_logdir=t --dataset_dir=rec --train_split=val": "unknown-split",
        "train --train_logdir=t --dataset_dir=rec --tf_initial_checkpoint=none/x": "checkpoint-not-found",
        "eval --model=none --eval_logdir=e --dataset_dir=rec": "checkpoint-not-found",
        "eval --model=a.png --eval_logdir=e --dataset_dir=rec --eval_split=val": "unknown-split",
        "vis --model=a.png --vis_logdir=e --dataset_dir=none": "folder-not-found",
        "predict --model=none --input=a.png --output_dir=o": "checkpoint-not-found",
        "predict --model=pipe --input=a.png --output_dir=o": "not-a-file",
        "predict --model=a.png --input=none --output_dir=o": "file-not-found",
        "export --checkpoint_path=none --export_path=e": "checkpoint-not-found",
        "inspect --checkpoint=none": "checkpoint-not-found",
        "browse_data --dataset_dir=none --output_dir=b": "folder-not-found",
        "check_data --dataset_dir=none": "folder-not-found",
    }
    code = (
        "import json, sys; sys.modules['tensorflow'] = None\n"
        "from deeplab import __main__ as program\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['deeplab', *line.split()]\n"
        "    print(program.main(), flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code, json.dumps(list(lines))]
    run = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1"] * len(lines), run.stderr
    assert re.findall(r"\[([a-z-]+)\]$", run.stderr, re.M) == list(lines.values())
