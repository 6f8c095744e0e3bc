"""The package as it is installed: the wheel holds every file, and its command runs outside the repository."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]
ROOT = pathlib.Path(__file__).parents[1]


def run(*words, **options) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, env=environment, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    pytest.importorskip("setuptools")  # the wheel is built without a network
    source, target = tmp_path_factory.mktemp("source") / "copy", tmp_path_factory.mktemp("wheel")
    kept = ("deeplab", "slim", "datasets", "setup.py", "pyproject.toml", "README.md", "LICENSE")
    for path in ROOT.iterdir():
        if path.is_dir() and path.name in kept:
            shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.name in kept or path.name.startswith("requirements"):
            source.mkdir(exist_ok=True)
            shutil.copy(path, source)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", target, source)
    return next(target.glob("*.whl"))


def test_it_holds_every_file_of_the_packages(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path for package in ("deeplab", "slim") for path in (ROOT / package).rglob("*") if path.is_file()]
    wanted = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    assert wanted - names == set()
    described = {f"deeplab/known_datasets/{path.name}" for path in (ROOT / "datasets").glob("*.yml")}
    assert described - names == set()


def test_its_command_runs_outside_the_repository(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    site = pathlib.Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel)
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")  # the libraries, after the wheel itself
    code = "import deeplab, slim; print(deeplab.__file__)"
    assert run(python, "-c", code, cwd=tmp_path).strip().startswith(str(site))
    command = [python, "-m", "deeplab"]
    assert "export" in run(*command, "--help", cwd=tmp_path)
    assert "--export_path" in run(*command, "export", "--help", cwd=tmp_path)
    code = """
import contextlib, io
from deeplab import __main__ as program
for name in (name for commands in program.COMMANDS.values() for name in commands):
    with contextlib.redirect_stdout(io.StringIO()) as page:
        assert program.command_of(name).main(["--help"]) == 0, name
    assert "Usage: deeplab" in page.getvalue(), name
from deeplab.serving import __file__ as place
print(place)
"""
    serving = pathlib.Path(run(python, "-c", code, cwd=tmp_path).split()[-1]).parent  # every command has its help page
    assert serving.is_relative_to(site) and (serving / "page" / "index.html").is_file()
    code = "from deeplab.data import dataset; print(dataset.find('pascal_voc_seg').num_classes)"
    assert run(python, "-c", code, cwd=tmp_path).strip() == "21"
    assert (site / "bin" / "deeplab").is_file()
