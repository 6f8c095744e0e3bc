"""A folder that segments images inside the browser: open it from any static host; there is no server code.

It holds `model.onnx` (see `onnx.py`), `model.json` with size, padding color, classes and colors, the page, and ONNX
Runtime's WebAssembly, copied from the npm package onnxruntime-web. That package is taken from `web_runtime`, else from
the cache, else fetched once by `npm pack` and checked against its SHA-256. Images larger than the model's size are
shrunk by the browser. Needs the extra `onnx`.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import subprocess  # nosec B404  # npm
import tarfile
import tempfile

from deeplab.data import colormaps
from deeplab.data.bands import RGB, bands_of
from deeplab.data.label_bits import MAX_CLASSES_8_BIT, bits_of
from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo, onnx
from deeplab.export.freeze import FrozenModel, describe
from deeplab.inference.prediction import PredictionSettings
from deeplab.inference.runtimes.web_page import DESCRIPTION, MODEL, recognizes
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically, writing
from deeplab.utils.paths import cache_root
from deeplab.visualization.html_page import INTERACTIVE_STYLE

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"  # of the package's archive
RUNTIME_FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_PAGE = pathlib.Path(__file__).parents[1] / "web_page_files"


def write(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes the folder, and returns the tensors of its model.

    Raises:
      UserError: as `runtime_folder`.
    """
    runtime = runtime_folder(model.config.web_runtime)
    os.makedirs(path)
    tensors = onnx.write(model, os.path.join(path, MODEL))
    for source in (*(runtime / name for name in RUNTIME_FILES), INTERACTIVE_STYLE, *_PAGE.iterdir()):
        if source.is_file():
            shutil.copy(source, path)
    names = model.class_names
    colors = colormaps.colors_for(model.colors if len(model.colors) else "pascal", len(names))
    classes = [{"name": name, "color": colors[index].tolist()} for index, name in enumerate(names)]
    described = describe(model)
    content = {"written_by": "deeplab", "size": described.size, "padding_color": described.padding_color}
    write_atomically(os.path.join(path, DESCRIPTION), json.dumps({**content, "classes": classes}, indent=1) + "\n")
    return tensors


def unfit(settings: PredictionSettings, num_classes: int) -> str:
    """Why a page cannot serve such a model; empty if it can."""
    if bands_of(settings.model) != RGB:
        return "browsers decode images to 8-bit RGB"
    if settings.resize.min_resize_value:
        return "the page does not resize images as `min_resize_value` does"
    return f"it saves masks of 8 bits, which hold {MAX_CLASSES_8_BIT} classes" if bits_of(num_classes) == 16 else ""


def runtime_folder(given: str) -> pathlib.Path:
    """Return the folder with ONNX Runtime's files for the browser.

    Args:
      given: the setting `web_runtime`; empty = the cache, filled by npm where it is empty.

    Raises:
      UserError: files are missing, npm is not installed or fails, or it sent something else.
    """
    if given:
        folder = pathlib.Path(given).expanduser()
        folder = folder / "dist" if (folder / "dist").is_dir() else folder
        absent = [name for name in RUNTIME_FILES if not (folder / name).is_file()]
        if absent:
            hint = f"give the folder of the npm package {PACKAGE}, or its dist/"
            raise UserError("file-not-found", f"lacks {', '.join(absent)}", hint, where=given)
        return folder
    if not _is_cached():
        _fetch()
    return _cached()


def _cached() -> pathlib.Path:
    return pathlib.Path(cache_root(), f"{PACKAGE}-{VERSION}")


def _is_cached() -> bool:
    return all((_cached() / name).is_file() for name in RUNTIME_FILES)


def _fetch() -> None:
    """Fetch the npm package into the cache."""
    hint = f"install npm and go online once, or give the package's folder: `web_runtime=node_modules/{PACKAGE}`"
    npm = shutil.which("npm")
    if npm is None:
        rule = f"the npm package {PACKAGE} is needed, and npm is not installed"
        raise UserError("missing-library", rule, hint, where="npm")
    console.note(f"fetching the npm package {PACKAGE} {VERSION} (33 MB), once")
    with tempfile.TemporaryDirectory() as folder:
        words = [npm, "pack", "--silent", "--ignore-scripts", f"{PACKAGE}@{VERSION}"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)  # nosec B603
        archives = list(pathlib.Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            reason = " ".join(done.stderr.split())[-200:]
            raise UserError("download-failed", f"npm cannot fetch {PACKAGE}: {reason}", hint, where="npm")
        if hashlib.sha256(archives[0].read_bytes()).hexdigest() != SHA256:
            rule = f"npm sent another {PACKAGE} {VERSION} than this program was made with"
            raise UserError("checksum-mismatch", rule, "check npm's registry setting", where="npm")
        with tarfile.open(archives[0]) as archive, writing(_cached()):
            _cached().mkdir(parents=True, exist_ok=True)
            for name in RUNTIME_FILES:  # one by one, so that several exports may do this at the same time
                member = archive.extractfile(f"package/dist/{name}")
                assert member is not None
                write_atomically(_cached() / name, member.read())


class WebPageFormat(ExportFormat):
    """The format, which "all" includes where the npm package is in the cache."""

    def missing(self) -> dict[str, str]:
        """As `ExportFormat.missing`."""
        return super().missing() | ({} if _is_cached() else {PACKAGE: "onnx"})


_NEEDS = {"onnx": "onnx", "tf2onnx": "onnx", "onnxruntime": "onnx"}
FORMATS.register("web_page")(
    WebPageFormat("web_page", "_web_page", write, recognizes, prepares_inside=False, needs=_NEEDS, unfit=unfit)
)
