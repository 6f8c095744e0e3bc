"""`deeplab COMMAND`: the list, the words it understands, the way to each command."""

import pathlib
import re
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


@pytest.mark.parametrize(
    ("word", "flag"),
    [("eval.py", "--eval_split"), ("export_model", "--export_path"), ("build_voc2012_data", "--sbd_root")],
)
def test_old_names(run, capsys, word, flag):
    assert run(word, "--help") == 0
    assert flag in capsys.readouterr().out
