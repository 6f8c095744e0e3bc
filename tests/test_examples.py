"""The programs in examples/ run without TensorFlow and this package, and predict what Predictors predict."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.export_battery import export
from support.runtime_battery import IMAGE
from support.small_exports import make_balanced_network, make_network_beyond_a_byte

from deeplab.export.formats import FORMATS
from deeplab.export.metadata import NamedClasses

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
WITHOUT_TENSORFLOW = """
import runpy, sys
sys.modules.update(dict.fromkeys(["tensorflow", "keras", "deeplab", "slim"]))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0])
"""
RUNTIMES = {  # example -> format, library, file
    "run_onnx.py": ("onnx", "onnxruntime", "model.onnx"),
    "run_litert.py": ("litert", "ai_edge_litert", "model.tflite"),
    "run_openvino.py": ("openvino", "openvino", "model_openvino/model.xml"),
    "run_mnn.py": ("mnn", "MNN", "model.mnn"),
}


@pytest.fixture(scope="module")
def live_model():
    """A model that predicts several classes on the image of the tests."""
    return make_balanced_network(IMAGE)


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def expected(live_model) -> np.ndarray:
    from support.small_exports import make_settings

    from deeplab.inference.prediction import predict_image

    return predict_image(live_model.logits_of, IMAGE, make_settings()).labels.numpy()


def agrees(mask: pathlib.Path, labels: np.ndarray) -> bool:
    found = np.asarray(Image.open(mask))
    return found.shape == labels.shape and len(np.unique(labels)) > 1 and np.mean(found == labels) > 0.999


def run_python(example: str, *words: object) -> str:
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, str(EXAMPLES / example), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def turned_photo(tmp_path):
    """The photo as a camera that was turned by 90 degrees stores it, with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(IMAGE))).save(tmp_path / "turned.png", exif=exif)
    return tmp_path / "turned.png"


@pytest.mark.parametrize("example", RUNTIMES)
def test_python_needs_the_runtime_alone(live_model, tmp_path, turned_photo, example):
    name, library, file = RUNTIMES[example]
    missing = [library] if importlib.util.find_spec(library) is None else list(FORMATS.get(name).missing())
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    export(live_model, tmp_path / "out", formats=(name,), parity_images=1)
    printed = run_python(example, tmp_path / "out" / file, turned_photo, tmp_path / "mask.png")
    assert agrees(tmp_path / "mask.png", expected(live_model)) and "left eye" in printed


def test_masks_hold_more_classes_than_a_byte(tmp_path, photo):
    if FORMATS.get("onnx").missing():
        pytest.skip("the extra onnx is not installed")
    model = make_network_beyond_a_byte(IMAGE)
    classes = NamedClasses(tuple(f"thing {index}" for index in range(300)))
    export(model, tmp_path / "out", classes, formats=("onnx",), parity_images=1)
    run_python("run_onnx.py", tmp_path / "out" / "model.onnx", photo, tmp_path / "mask.png")
    assert agrees(tmp_path / "mask.png", expected(model)) and np.asarray(Image.open(tmp_path / "mask.png")).min() > 255


@pytest.fixture(scope="module")
def for_opencv(live_model, tmp_path_factory):
    """A folder with an ONNX file for OpenCV 4."""
    if FORMATS.get("onnx").missing():
        pytest.skip("the extra onnx is not installed")
    folder = tmp_path_factory.mktemp("opencv")
    export(live_model, folder, formats=("onnx",), onnx_for="opencv4", export_probabilities=False, parity_images=1)
    return folder


def test_python_with_opencv(live_model, for_opencv, tmp_path, photo):
    files = (for_opencv / "model.onnx", for_opencv / "metadata.json", photo)
    run_python("run_opencv.py", *files, tmp_path / "mask.png")
    assert agrees(tmp_path / "mask.png", expected(live_model))


def test_large_and_thin_images_are_shrunk_to_fit(for_opencv, tmp_path):
    for height, width, expected in ((130, 97, (48, 65)), (2, 4000, (97, 1))):
        Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(tmp_path / "photo.png")
        files = (for_opencv / "model.onnx", for_opencv / "metadata.json", tmp_path / "photo.png")
        run_python("run_opencv.py", *files, tmp_path / "mask.png")
        assert Image.open(tmp_path / "mask.png").size == expected
    (tmp_path / "photo.png").write_bytes(b"no image")
    command = [sys.executable, EXAMPLES / "run_opencv.py", *files, tmp_path / "mask.png"]
    refused = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "cannot read" in refused.stderr


def test_node_with_onnxruntime(live_model, tmp_path):
    """`scripts/make_runtime_env.sh node` makes the folder that DEEPLAB_NODE_MODULES names."""
    modules = pathlib.Path(os.environ.get("DEEPLAB_NODE_MODULES", ""))
    if not shutil.which("node") or not (modules / "onnxruntime-node").is_dir():
        pytest.skip("no Node.js, or DEEPLAB_NODE_MODULES names no folder with the npm package onnxruntime-node")
    if FORMATS.get("onnx").missing():
        pytest.skip("the extra onnx is not installed")
    export(live_model, tmp_path / "out", formats=("onnx",), parity_images=1)
    Image.fromarray(IMAGE).save(tmp_path / "photo.ppm")
    program = tmp_path / "run.mjs"  # modules are looked for beside the program
    shutil.copy(EXAMPLES / "run_onnx_node.mjs", program)
    (tmp_path / "node_modules").symlink_to(modules.resolve(), target_is_directory=True)
    words = [tmp_path / "out" / "model.onnx", tmp_path / "out" / "metadata.json"]
    command = ["node", program, *words, tmp_path / "photo.ppm", tmp_path / "mask.pgm"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert agrees(tmp_path / "mask.pgm", expected(live_model)) and "left eye" in done.stdout
    (tmp_path / "photo.ppm").write_bytes(b"P3 1 1 255 0 0 0")
    refused = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "no binary PPM" in refused.stderr


def test_cpp_with_opencv(live_model, for_opencv, tmp_path, photo):
    tools = [name for name in ("g++", "pkg-config") if not shutil.which(name)]
    if tools or subprocess.run(["pkg-config", "--exists", "opencv4"], check=False).returncode:
        pytest.skip("no compiler, or OpenCV's headers (Debian: libopencv-dev) are not installed")
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "opencv4"], capture_output=True, text=True, check=True
    ).stdout.split()
    program = tmp_path / "segment"
    flags += os.environ.get("LDFLAGS", "").split()
    subprocess.run(["g++", str(EXAMPLES / "segment.cpp"), "-o", program, *flags], check=True)
    mask = tmp_path / "mask.png"
    words = [program, for_opencv / "model.onnx", "65", "97", "127.5", photo, mask]
    subprocess.run(list(map(str, words)), check=True)
    assert agrees(mask, expected(live_model))
    refused = subprocess.run([str(program), *map(str, words[1:5]), "none.png", str(mask)], check=False)
    assert refused.returncode == 1
