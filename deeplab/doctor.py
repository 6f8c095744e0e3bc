r"""Examines the installation: versions, extras, devices, the cache folder, and what to fix.

    deeplab doctor

Run it first when something does not work, and add its output to a bug report. The exit code is 0 if everything that
training and prediction need is there, else 1. Extras are optional: a missing one is listed with the command that
installs it. TensorFlow is imported last, for the devices, so that the other lines appear even if it is broken.
"""

from __future__ import annotations

import os
import pathlib
import platform
import shutil
import sys
from collections.abc import Iterator

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab import __version__
from deeplab.config.command_line import ERROR, OK, Command, Given
from deeplab.utils import console, installation, resources
from deeplab.utils.paths import cache_root

Problem = tuple[str, str]  # what is wrong, what to do

_LIBRARIES = {  # name: distribution
    "TensorFlow": "tensorflow",
    "Keras": "keras",
    "NumPy": "numpy",
    "OpenCV": "opencv-python-headless",
}
_IMPORTED_EARLY = {"numpy": "numpy", "cv2": "opencv-python-headless", "PIL": "pillow"}  # module: distribution
_PYTHON = ((3, 11), (3, 13))
_MIN_FREE_GB = 2.0


def run(_given: Given) -> int:
    """Runs the command; returns the exit code."""
    problems = [*_libraries(), *_folders(), *_devices()]
    for number, (problem, hint) in enumerate(problems, 1):
        print(f"\nproblem {number}: {problem}\n  fix: {hint}")
    print(f"\n{len(problems)} to fix" if problems else "\nThe installation is complete.")
    return ERROR if problems else OK


def _libraries() -> Iterator[Problem]:
    """Prints versions and extras; yields what is missing or broken."""
    rows = [("deeplab", __version__), ("Python", platform.python_version()), ("system", platform.platform())]
    rows += [(name, installation.version(package) or "not installed") for name, package in _LIBRARIES.items()]
    print(console.table(rows, ("what", "version")) + "\n", flush=True)
    lowest, highest = _PYTHON
    if not lowest <= sys.version_info[:2] <= highest:
        bounds = f"{lowest[0]}.{lowest[1]} to {highest[0]}.{highest[1]}"
        yield f"Python {platform.python_version()} is not supported", f"make an environment with Python {bounds}"
    required = installation.required()
    unmet, newer = installation.missing(required), installation.untested(required)
    if newer:
        print(f"newer than tested: {', '.join(newer)}; if something fails, {installation.pip_command()}\n")
    if unmet:
        yield f"missing or too old: {', '.join(unmet)}", installation.pip_command()
    for module, package in _IMPORTED_EARLY.items():
        reason = installation.import_error(module)
        if reason and not unmet:
            yield f"{module} cannot be imported: {reason}", f"pip install --force-reinstall {package}"
    absent = {name: installation.missing(lines) for name, lines in sorted(installation.extras().items())}
    shown = [(name, f"missing: {', '.join(lines)}" if lines else "installed") for name, lines in absent.items()]
    if shown:
        print(console.table(shown, ("extra", "state")))
    wanted = [name for name, lines in absent.items() if lines]
    if wanted:
        print(f"to install the missing extras: {installation.pip_command(wanted)}")


def _folders() -> Iterator[Problem]:
    """Prints the folders that commands write into; yields those that cannot be written."""
    folders = {"cache": cache_root(), "current folder": os.getcwd()}
    print()
    for name, folder in folders.items():
        reason = installation.write_error(folder)
        print(f"{name}: {folder} ({'cannot be written' if reason else 'can be written'})", flush=True)
        if reason:
            hint = "set DEEPLAB_CACHE to a folder of yours" if name == "cache" else "change to a folder of yours"
            yield f"no file can be written into the {name}: {reason}", hint
    free = shutil.disk_usage(os.getcwd()).free / 1e9
    print(f"free space: {free:.1f} GB")
    if free < _MIN_FREE_GB:
        yield f"only {free:.1f} GB are free; a training writes up to {_MIN_FREE_GB:g} GB", "free some space"


def _devices() -> Iterator[Problem]:
    """Imports TensorFlow and prints the devices; yields what keeps it from using them."""
    try:
        console.import_tensorflow()
        import keras
        import tensorflow as tf
    except Exception as problem:  # a broken installation raises whatever it likes
        print("devices: unknown, as TensorFlow cannot be imported")
        reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
        yield f"TensorFlow cannot be imported: {reason}", installation.pip_command()
        return
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    print("devices: " + ", ".join([f"{resources.core_count()} processor cores", *(names or ["no GPU"])]))
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("-1", "")
    if pathlib.Path("/proc/driver/nvidia/version").exists() and not gpus and not hidden:
        yield "TensorFlow does not see the NVIDIA GPU of this machine", "pip install 'tensorflow[and-cuda]'"
    if keras.backend.backend() != "tensorflow":
        hint = 'unset KERAS_BACKEND, or write "backend": "tensorflow" into ~/.keras/keras.json'
        yield f"Keras runs on {keras.backend.backend()}, not on TensorFlow", hint


COMMAND = Command("doctor", run, (), __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
