"""notebooks/: every cell runs, in order and in one process; outputs are cleared."""

from __future__ import annotations

import importlib
import json
import pathlib
import shlex
import sys

import pytest

from deeplab import __main__ as program

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def code_of(path: pathlib.Path) -> list[str]:
    """The code of each code cell."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def shell(line: str) -> None:
    """Runs a `!` line: a command of the package, without a process of its own."""
    program_name, *words = shlex.split(line)
    if program_name == "deeplab":
        sys.argv = ["deeplab", *words]
        code = program.main()
    else:
        assert (program_name, words[0]) == ("python", "-m"), line
        code = importlib.import_module(words[1]).COMMAND.main(words[2:])
    assert code == 0, line


def as_python(cell: str) -> str:
    """A cell with its `!` lines as calls of `shell`."""
    joined = cell.replace(" \\\n", " ")
    lines = (f"shell({line[1:]!r})" if line.startswith("!") else line for line in joined.splitlines())
    return "\n".join(lines) + "\n"


def test_there_are_notebooks():
    assert "train_on_your_data.ipynb" in [path.name for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_cleared(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    for cell in content["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.slow
def test_train_on_your_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(sys, "argv", sys.argv)
    names = {"shell": shell, "__name__": "__main__"}
    for number, cell in enumerate(code_of(FOLDER / "train_on_your_data.ipynb")):
        exec(compile(as_python(cell), f"cell {number}", "exec"), names)
    assert list(names["iou"]) == ["background", "hair", "skin"] and names["iou"]["background"] > 0
    assert names["result"].labels.shape == names["mask"].shape
    assert len(list((tmp_path / "walkthrough" / "predicted" / "overlay").glob("*.png"))) == 24
    assert (tmp_path / "walkthrough" / "check.html").is_file()
