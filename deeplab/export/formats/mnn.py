"""MNN files, for phones. Needs the extra `mnn`.

| format | weights |
|---|---|
| mnn | float32 |
| mnn_float16 | float16 |
| mnn_int8 | int8; activations stay float |

    image                    float32 [1, h, w, C], RGB, 0..255, resized and padded to the crop size
    SemanticPredictions      int32 [1, h, w]
    SemanticProbabilities    float32 [1, h, w, classes], 0..1; unless `export_probabilities` is off

The file is made of the ONNX model by MNN's native converter in a process of its own, because its protocol buffers clash
with TensorFlow's. `MNN.tools` and MNN's commands are never imported or run: they install packages when they are
imported, and report file sizes and arguments to their makers. Behind the model is a zip archive with `labels.txt` and
`deeplab.json`, as in LiteRT files.
"""

from __future__ import annotations

import io
import os
import pathlib
import subprocess  # nosec B404  # starts this Python with a module of MNN
import sys
import tempfile
import zipfile
from collections.abc import Callable

from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo
from deeplab.export.formats.onnx import converted, tensors
from deeplab.export.freeze import FrozenModel, describe
from deeplab.inference.file_predictor import LABELS_FILE
from deeplab.inference.fixed_size import has_appended_description
from deeplab.inference.runtimes import DESCRIPTION_FILE
from deeplab.utils.extras import require
from deeplab.utils.files import write_atomically

NEEDS = {"MNN": "mnn", "tf2onnx": "mnn", "onnx": "mnn"}
_SECONDS = 600
_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")  # without which Python may not start
_CONVERT = "import _tools, sys; sys.exit(not _tools.mnnconvert(['mnnconvert', *sys.argv[1:]]))"


def write(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes float32 weights."""
    return _write(model, path)


def write_float16(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes float16 weights."""
    return _write(model, path, "--fp16")


def write_int8(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes int8 weights, which are converted to float when the file is loaded."""
    return _write(model, path, "--weightQuantBits", "8")


def _write(model: FrozenModel, path: str, *flags: str) -> list[TensorInfo]:
    proto = converted(model, fixed=True)
    with tempfile.TemporaryDirectory() as folder:
        before, after = os.path.join(folder, "model.onnx"), os.path.join(folder, "model.mnn")
        pathlib.Path(before).write_bytes(proto.SerializeToString())
        _convert(before, after, flags, folder)
        content = io.BytesIO(pathlib.Path(after).read_bytes())
    content.seek(0, os.SEEK_END)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(zipfile.ZipInfo(DESCRIPTION_FILE), describe(model).to_json())
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), model.assets.get(LABELS_FILE, b""))
    write_atomically(path, content.getvalue())
    return tensors(proto)


def _convert(before: str, after: str, flags: tuple[str, ...], folder: str) -> None:
    require("MNN", "mnn")
    words = ["-f", "ONNX", "--modelFile", before, "--MNNModel", after, "--bizCode", "deeplab", *flags]
    command = [sys.executable, "-I", "-c", _CONVERT, *words]
    environment = {"PATH": "", "HOME": folder}  # so that nothing can be installed or remembered
    environment |= {name: value for name, value in os.environ.items() if name in _LIBRARY_PATHS}
    done = subprocess.run(  # nosec B603  # words of our own
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode or not os.path.isfile(after):
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise RuntimeError(f"MNN's converter fails: {' '.join(lines[-3:])}")


def _register(name: str, variant: str, write: Callable[[FrozenModel, str], list[TensorInfo]], is_exact: bool) -> None:
    suffix = f"{variant}.mnn"
    made = ExportFormat(
        f"model{suffix}", suffix, write, has_appended_description, is_exact, prepares_inside=False, needs=NEEDS
    )
    FORMATS.register(name)(made)


_register("mnn", "", write, is_exact=True)
_register("mnn_float16", "_float16", write_float16, is_exact=False)
_register("mnn_int8", "_int8", write_int8, is_exact=False)
