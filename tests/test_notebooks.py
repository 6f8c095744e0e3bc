"""notebooks/: every cell runs, in order and in one process, and, where nbmake is installed, in Jupyter's kernel.

Outputs are cleared.
"""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import shlex
import shutil
import subprocess
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


def run_notebook(name: str, folder: pathlib.Path) -> dict:
    """Runs a notebook's cells in a folder; returns its variables."""
    names = {"shell": shell, "__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MPLBACKEND", "Agg")
        patch.setattr(sys, "argv", sys.argv)
        for number, cell in enumerate(code_of(FOLDER / f"{name}.ipynb")):
            exec(compile(as_python(cell), f"{name}, cell {number}", "exec"), names)
    return names


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    """The folder in which the first notebook has run, and its variables; the others go on from there."""
    folder = tmp_path_factory.mktemp("notebooks")
    return folder, run_notebook("train_on_your_data", folder)


@pytest.mark.slow
def test_train_on_your_data(walkthrough):
    folder, names = walkthrough
    assert list(names["iou"]) == ["background", "hair", "skin"] and 0 < max(names["iou"].values()) <= 1
    assert names["result"].labels.shape == names["mask"].shape
    assert len(list((folder / "walkthrough" / "predicted" / "overlay").glob("*.png"))) == 24
    assert (folder / "walkthrough" / "check.html").is_file()


@pytest.mark.slow
def test_demo_inference(walkthrough):
    folder, names = walkthrough[0], run_notebook("demo_inference", walkthrough[0])
    assert names["segmenter"].class_names == ("background", "hair", "skin")
    assert max(names["scaled"].size) == 513 and names["labels"].shape == names["scaled"].size[::-1]
    assert len(list((folder / "demo" / "predicted" / "mask").glob("*.png"))) == 3


def test_prepare_masks(tmp_path):
    names = run_notebook("prepare_masks", tmp_path)
    assert names["values"].tolist() == [0, 1, 2] and names["equal"] == 1.0
    for records in ("coco", "from_labelme"):
        text = (tmp_path / "prepare" / records / "dataset.yml").read_text()
        assert "hair" in text and "skin" in text


@pytest.mark.slow
def test_skin_lesions(tmp_path):
    names = run_notebook("skin_lesions", tmp_path)
    assert [entry["name"] for entry in names["metrics"]["classes"]] == ["background", "lesion"]


def test_deepfashion2(tmp_path):
    names = run_notebook("deepfashion2", tmp_path)
    assert len(names["pixels"]) == 14 and names["pixels"]["short sleeve top"] > 0


@pytest.mark.slow
def test_deploy(walkthrough):
    table = run_notebook("deploy", walkthrough[0])["table"]
    assert set(table) == {"checkpoint", "frozen graph", "SavedModel", "LiteRT"}
    assert table["LiteRT"]["mean IoU"] == pytest.approx(table["frozen graph"]["mean IoU"], abs=0.01)


@pytest.mark.slow
def test_understand_your_model(walkthrough):
    names = run_notebook("understand_your_model", walkthrough[0])
    assert 0 <= float(names["rows"][0]["mean_iou"]) <= float(names["rows"][-1]["mean_iou"])
    assert len(names["suspects"]) == 8 and names["confidence"].shape == names["result"].labels.shape


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_one_cell_installs(path):
    cells = [cell for cell in code_of(path) if '"pip", "install"' in cell]
    assert cells == code_of(path)[:1] and "PYTHONPATH" not in path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_all_run_in_jupyter(tmp_path):
    """In one folder; the first makes the model that others look for."""
    pytest.importorskip("nbmake", reason="needs pip install nbmake ipykernel")
    names = sorted((path.name for path in NOTEBOOKS), key=lambda name: not name.startswith("train_on"))
    for name in names:
        shutil.copy(FOLDER / name, tmp_path)
    words = ["--nbmake", "--nbmake-timeout=1800", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *names]
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "PYTEST_ADDOPTS": ""}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-4000:]
    assert f"{len(names)} passed" in run.stdout
