"""What is installed: requirements of a checkout and of a wheel, versions, write access."""

import importlib.metadata
import os

import pytest

from deeplab.utils import installation

WHEEL = ["numpy<3,>=1.26", "scipy>=1.11; extra == 'sbd'", 'pytest>=8; extra == "dev"', "beam>=2 ; extra == 'beam'"]


@pytest.fixture
def wheel(monkeypatch):
    """An installation from a wheel."""
    monkeypatch.setattr(installation, "is_checkout", lambda: False)
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: WHEEL)


def test_a_checkout_knows_its_requirements():
    assert installation.is_checkout()
    assert {"heif", "beam", "coco"} <= set(installation.extras()) and "dev" not in installation.extras()
    assert any(line.startswith("tensorflow>=") for line in installation.required())
    assert installation.pip_command(["heif", "sbd"]).endswith("[heif,sbd]'")


def test_a_wheel_knows_them_too(wheel):
    assert installation.extras() == {"sbd": ["scipy>=1.11"], "beam": ["beam>=2"]}
    assert installation.required() == ["numpy<3,>=1.26"]
    assert installation.pip_command(["sbd"]) == "pip install 'deeplab-tensorflow[sbd]'"
    assert installation.pip_command() == "pip install 'deeplab-tensorflow'"


def test_missing_requirements():
    lines = ["numpy>=1.26,<3", "numpy>=1000", "numpy", "no-such-library>=1", "PyYAML>=6,<7", "pillow>=2,<3"]
    assert installation.missing(lines) == ["numpy>=1000", "no-such-library>=1"]
    assert installation.untested(lines) == ["pillow>=2,<3"]
    assert installation.version("no-such-library") == "" and installation.version("numpy")[0].isdigit()


def test_reason_of_a_failed_import(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("raise OSError('libGL.so.1: cannot open\\nshared object')")
    monkeypatch.syspath_prepend(tmp_path)
    assert installation.import_error("broken_library") == "OSError: libGL.so.1: cannot open shared object"
    assert installation.import_error("json") == ""


def test_write_access(tmp_path):
    assert installation.write_error(tmp_path / "not" / "made" / "yet") == ""
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in installation.write_error(tmp_path / "file" / "folder")


@pytest.mark.parametrize(
    ("backend", "is_kept"),
    [
        ("module://not_installed_here.backend_inline", False),
        ("module://", False),
        ("module://matplotlib.backends.backend_agg", True),
        ("agg", True),
        ("", True),
    ],
)
def test_a_notebooks_plot_backend_that_is_not_installed_is_forgotten(backend, is_kept, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", backend)
    installation.forget_missing_plot_backend()
    assert os.environ.get("MPLBACKEND") == (backend if is_kept else None)
