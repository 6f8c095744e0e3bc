"""The completion scripts: shells take them, and they offer commands, formats and flags."""

import shutil
import subprocess

import pytest

from deeplab import __main__ as program
from deeplab import completion
from deeplab.config.fields import fields_of

NAMES = [name for commands in program.COMMANDS.values() for name in commands]


def script(shell, capsys):
    assert completion.COMMAND.main([shell]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory):
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    path = tmp_path_factory.mktemp("completion") / "deeplab.bash"
    path.write_text(completion.bash())
    return path


@pytest.mark.parametrize(
    "words, wanted",
    [
        (["tr"], ["train"]),
        (["train", "--train_batch"], ["--train_batch_size="]),
        (["build-data", "supervis"], ["supervisely"]),
        (["build_data", "--annotation_f"], ["--annotation_folder="]),
        (["fit", "coc"], ["coco", "coco_panoptic"]),
        (["doctor", "--x"], []),
    ],
)
def test_bash_offers(bash_script, words, wanted, tmp_path):
    line = " ".join(f"'{word}'" for word in ["deeplab", *words])
    call = f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; _deeplab"
    code = f"source {bash_script}; {call}; printf '%s\\n' ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert [word for word in done.stdout.split("\n") if word] == wanted


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_their_script(shell, tmp_path, capsys):
    path = tmp_path / f"deeplab.{shell}"
    path.write_text(script(shell, capsys))
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    assert subprocess.run([shell, "-n", path], capture_output=True).returncode == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_flag_is_there(shell, capsys):
    text = script(shell, capsys)
    for name in NAMES:
        assert name in text
    for flag, (field, _) in fields_of(program.command_of("train").groups_for()).items():
        assert field.metadata["retired"] or flag in text


def test_an_unknown_shell(capsys):
    assert completion.COMMAND.main(["tcsh"]) == 2
    assert "[unknown-name]" in capsys.readouterr().err
