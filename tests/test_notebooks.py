"""notebooks/: every cell runs, in order, and the results are right; outputs are cleared.

Notebooks run in Jupyter's kernels where nbmake is installed, else in this process. Two of them start the processes of
their `!` lines; in the others these commands run in the kernel, which saves loading TensorFlow for each.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

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


# ---- What must be true when a notebook has run: of its variables, and the folder it ran in ----------------------


def check_train_on_your_data(names: Mapping[str, Any], folder: pathlib.Path) -> None:
    assert list(names["iou"]) == ["background", "hair", "skin"] and 0 < max(names["iou"].values()) <= 1
    assert names["result"].labels.shape == names["mask"].shape
    assert len(list((folder / "walkthrough" / "predicted" / "overlay").glob("*.png"))) == 24
    assert (folder / "walkthrough" / "check.html").is_file()


def check_demo_inference(names: Mapping[str, Any], folder: pathlib.Path) -> None:
    assert names["segmenter"].class_names == ("background", "hair", "skin")
    assert max(names["scaled"].size) == 513 and names["labels"].shape == names["scaled"].size[::-1]
    assert len(list((folder / "demo" / "predicted" / "mask").glob("*.png"))) == 3


def check_prepare_masks(names: Mapping[str, Any], folder: pathlib.Path) -> None:
    assert names["values"].tolist() == [0, 1, 2] and names["equal"] == 1.0
    for records in ("coco", "from_labelme"):
        text = (folder / "prepare" / records / "dataset.yml").read_text()
        assert "hair" in text and "skin" in text


def check_skin_lesions(names: Mapping[str, Any], folder: pathlib.Path) -> None:
    assert [entry["name"] for entry in names["metrics"]["classes"]] == ["background", "lesion"]


def check_deepfashion2(names: Mapping[str, Any], folder: pathlib.Path) -> None:
    assert len(names["pixels"]) == 14 and names["pixels"]["short sleeve top"] > 0


def check_deploy(names: Mapping[str, Any], folder: pathlib.Path) -> None:
    table = names["table"]
    assert set(table) == {"checkpoint", "frozen graph", "SavedModel", "LiteRT"}
    assert table["LiteRT"]["mean IoU"] == pytest.approx(table["frozen graph"]["mean IoU"], abs=0.01)


def check_understand_your_model(names: Mapping[str, Any], folder: pathlib.Path) -> None:
    assert 0 <= float(names["rows"][0]["mean_iou"]) <= float(names["rows"][-1]["mean_iou"])
    assert len(names["suspects"]) == 8 and names["confidence"].shape == names["result"].labels.shape


FIRST = "train_on_your_data"  # makes the model that others look for
NEED_ITS_MODEL = ("demo_inference", "deploy", "understand_your_model")
CHECKED = [FIRST, *sorted(path.stem for path in NOTEBOOKS if path.stem != FIRST)]
STARTS_PROCESSES = ("prepare_masks", "demo_inference")
# The folder of the tests must not be searched for modules: it holds a folder `deeplab`.
PREPARE = """
import runpy
_shell = runpy.run_path({tests!r})["shell"]
get_ipython().system = lambda line: _shell(get_ipython().var_expand(line, depth=1))  # what a `!` line calls
"""
CHECK = """
import pathlib, runpy
runpy.run_path({tests!r})["check_{name}"](globals(), pathlib.Path())
pathlib.Path("{name}.checked").touch()
"""


def with_its_check(path: pathlib.Path) -> str:
    """A notebook with one more cell, which checks the results; and one that runs commands in the kernel."""
    content = json.loads(path.read_text(encoding="utf-8"))
    has_ids = "id" in content["cells"][-1]

    def cell(name: str, source: str) -> dict:
        text = source.format(tests=str(pathlib.Path(__file__).resolve()), name=path.stem)
        made = {"cell_type": "code", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
        return {**made, "id": name} if has_ids else made

    before = [] if path.stem in STARTS_PROCESSES else [cell("prepare", PREPARE)]
    content["cells"] = [*before, *content["cells"], cell("check", CHECK)]
    return json.dumps(content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """The folder in which all notebooks run."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def said_in_jupyter(folder) -> str:
    """What pytest says of all notebooks in Jupyter's kernels; "" where nbmake is not installed."""
    if importlib.util.find_spec("nbmake") is None:
        return ""
    files = [f"{name}.ipynb" for name in CHECKED]
    for file in files:
        (folder / file).write_text(with_its_check(FOLDER / file), encoding="utf-8")
    words = ["--nbmake", "--nbmake-timeout=1800", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *files]
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "PYTEST_ADDOPTS": ""}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    return run.stdout + run.stderr


@pytest.fixture(scope="module")
def walkthrough(folder) -> dict:
    """The variables of the first notebook, run in this process."""
    return run_notebook(FIRST, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKED)
def test_every_cell_runs_and_the_results_are_right(name, folder, said_in_jupyter, request):
    if said_in_jupyter:
        assert (folder / f"{name}.checked").is_file(), said_in_jupyter[-4000:]
        return
    first = request.getfixturevalue("walkthrough") if name in (FIRST, *NEED_ITS_MODEL) else {}
    names = first if name == FIRST else run_notebook(name, folder)
    globals()[f"check_{name}"](names, folder)


def test_jupyter_passes_all(said_in_jupyter):
    if not said_in_jupyter:
        pytest.skip("needs pip install nbmake ipykernel")
    assert f"{len(CHECKED)} passed" in said_in_jupyter, said_in_jupyter[-4000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_one_cell_installs(path):
    cells = [cell for cell in code_of(path) if '"pip", "install"' in cell]
    assert cells == code_of(path)[:1] and "PYTHONPATH" not in path.read_text(encoding="utf-8")
