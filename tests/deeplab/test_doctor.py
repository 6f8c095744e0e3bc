"""The doctor command: what it prints, its exit code, and that a broken installation does not break it."""

import subprocess
import sys

import pytest

from deeplab import __version__, doctor
from deeplab.utils import installation


@pytest.fixture
def examine(capsys):
    """Runs the command; returns its exit code and what it printed."""

    def examine():
        code = doctor.COMMAND.main([])
        return code, capsys.readouterr().out

    return examine


def test_a_complete_installation_has_no_problems(examine):
    code, out = examine()
    assert code == 0 and "The installation is complete." in out
    for name in ("Python", "TensorFlow", "Keras", "NumPy", "OpenCV"):
        assert name in out
    assert __version__ in out and "not installed" not in out
    assert "devices: " in out and "processor cores" in out
    assert "cache: " in out and "can be written" in out


def test_missing_extras_are_no_problem_and_come_with_the_line_that_installs_them(examine, monkeypatch):
    extras = {"sbd": ["scipy>=1.11"], "heif": ["no-such-library>=1"], "odd": ["numpy>=1000"]}
    monkeypatch.setattr(installation, "extras", lambda: extras)
    code, out = examine()
    assert code == 0 and "[heif,odd]" in out and "no-such-library>=1" in out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("sbd ")] == ["installed"]


def test_a_cache_that_cannot_be_written(examine, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPLAB_CACHE", str(tmp_path / "file" / "cache"))
    code, out = examine()
    assert code == 1 and "problem 1" in out and "set DEEPLAB_CACHE" in out and "1 to fix" in out


def test_missing_old_and_new_libraries(examine, monkeypatch):
    monkeypatch.setattr(installation, "required", lambda: ["numpy>=1", "pillow>=1000", "no-such-library", "PyYAML<2"])
    code, out = examine()
    assert code == 1 and "missing or too old: pillow>=1000, no-such-library" in out
    assert "newer than tested: PyYAML<2" in out
    assert f"fix: {installation.pip_command()}" in out


def test_another_keras_backend(examine, monkeypatch):
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    code, out = examine()
    assert code == 1 and "Keras runs on torch" in out


def test_a_broken_tensorflow_leaves_the_other_lines(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('libcudart is broken')")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from deeplab import doctor; sys.exit(doctor.main())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "NumPy" in done.stdout and "cache: " in done.stdout
    assert "TensorFlow cannot be imported: ImportError: libcudart is broken" in done.stdout


def test_tensorflow_is_imported_for_the_devices_alone(monkeypatch):
    script = (
        "import sys; from deeplab import doctor; list(doctor._libraries()); list(doctor._folders()); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60).returncode == 0
