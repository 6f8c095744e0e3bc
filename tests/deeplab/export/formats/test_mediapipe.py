"""MediaPipe's files: what every format does, the metadata as its schema describes it, and MediaPipe itself.

`scripts/make_runtime_env.sh mediapipe` makes the environment for the last test, which DEEPLAB_MEDIAPIPE_PYTHON names.
"""

import dataclasses
import io
import os
import struct
import subprocess
import zipfile

import numpy as np
import pytest
from support.errors import raises
from support.export_battery import CLASSES, ExportBattery, export
from support.golden_recipe import image
from support.small_exports import NARROW, make_balanced_network, make_network, make_settings
from tensorflow.lite.python import schema_py_generated as schema

from deeplab.export.formats import mediapipe
from deeplab.inference.load import load
from deeplab.inference.prediction import predict_image

PIXELS = image(65, 97)[0]


class TestMediaPipe(ExportBattery):
    name = "mediapipe"
    types = ("float32",)
    fixed_size = True


# ---- the metadata, read by the rules of FlatBuffers alone


class Table:
    """A table of a FlatBuffer: where its fields are, by their numbers in the schema."""

    def __init__(self, content: bytes, place: int):
        self.content, self.place = content, place
        start = place - struct.unpack_from("<i", content, place)[0]
        size = struct.unpack_from("<H", content, start)[0]
        self.offsets = struct.unpack_from(f"<{(size - 4) // 2}H", content, start + 4)

    def at(self, field: int) -> int:
        assert self.offsets[field], f"field {field} is missing"
        return self.place + self.offsets[field]

    def target(self, field: int) -> int:
        return self.at(field) + struct.unpack_from("<I", self.content, self.at(field))[0]

    def number(self, field: int) -> int:
        return self.content[self.at(field)]

    def table(self, field: int) -> "Table":
        return Table(self.content, self.target(field))

    def raw(self, field: int, width: int = 1) -> bytes:
        length = struct.unpack_from("<I", self.content, self.target(field))[0]
        return self.content[self.target(field) + 4 :][: length * width]

    def text(self, field: int) -> str:
        return self.raw(field).decode()

    def floats(self, field: int) -> tuple[float, ...]:
        return tuple(np.frombuffer(self.raw(field, 4), "<f4").tolist())

    def only(self, field: int) -> "Table":
        """The one table of a vector of tables."""
        place = self.target(field)
        assert struct.unpack_from("<I", self.content, place)[0] == 1
        return Table(self.content, place + 4 + struct.unpack_from("<I", self.content, place + 4)[0])


def root(content: bytes) -> Table:
    return Table(content, struct.unpack_from("<I", content, 0)[0])


def metadata_of(path) -> bytes:
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    (entry,) = [one for one in model.metadata if one.name == b"TFLITE_METADATA"]
    return bytes(model.buffers[entry.buffer].data)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mediapipe")
    export(make_balanced_network(PIXELS), folder / "small_mediapipe.tflite", formats=("mediapipe",), parity_images=1)
    return folder / "small_mediapipe.tflite"


def test_the_metadata_says_how_to_feed_and_read_it(file):
    content = metadata_of(file)
    assert content[4:8] == b"M001"
    model = root(content)
    graph = model.only(3)
    given, result = graph.only(2), graph.only(3)
    assert (model.text(0), model.text(7)) == ("DeepLab", "1.5.0") and "left eye" in model.text(1)
    assert (given.table(3).number(0), given.table(3).table(1).number(0)) == (2, 1)  # an image, RGB
    unit = given.only(4)
    assert unit.number(0) == 1  # normalization, which is in the model
    assert (unit.table(1).floats(0), unit.table(1).floats(1)) == ((0.0,), (1.0,))
    assert (given.table(5).floats(0), given.table(5).floats(1)) == ((255.0,), (0.0,))
    assert result.table(3).number(0) == 1
    labels = result.only(6)
    assert (labels.text(0), labels.number(2)) == ("labels.txt", 2)
    custom = graph.only(9)
    assert custom.text(0) == "SEGMENTER_METADATA"
    options = custom.raw(1)
    assert options[4:8] == b"V001" and root(options).number(0) == 2  # softmax
    assert custom.target(1) % 16 == 12  # so that the FlatBuffer behind its length begins at a multiple of 16
    with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
        assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("labels.txt").decode().splitlines() == list(CLASSES.names)


def test_metadata_replaces_what_was_there(file):
    again = mediapipe.with_metadata(file.read_bytes(), ("a", "b"))
    model = schema.ModelT.InitFromPackedBuf(bytearray(again), 0)
    assert [one.name for one in model.metadata].count(b"TFLITE_METADATA") == 1
    (entry,) = [one for one in model.metadata if one.name == b"TFLITE_METADATA"]
    assert root(bytes(model.buffers[entry.buffer].data)).text(1) == "segmentation into 2 classes: a, b"


def test_a_model_that_does_not_align_corners(tmp_path):
    config = dataclasses.replace(NARROW, align_corners=False)
    settings = make_settings(config)
    path = tmp_path / "a_mediapipe.tflite"
    live_model = make_network(config)
    export(live_model, path, formats=("mediapipe",), settings=settings, parity_images=1)
    expected = predict_image(live_model.logits_of, PIXELS, settings)
    found = load(path).predict(PIXELS)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)


def test_models_that_it_cannot_hold_are_refused(tmp_path):
    with raises("not-supported", field="formats"):
        live_model = make_network()
        export(live_model, tmp_path / "a", formats=("mediapipe",), settings=make_settings(flip=True), parity_images=1)
    config = dataclasses.replace(NARROW, input_channels=4)
    with raises("not-supported", field="formats"):
        export(make_network(config), tmp_path / "b", formats=("mediapipe",), settings=make_settings(config))


# ---- MediaPipe itself

PROGRAM = """
import sys
import numpy as np
import mediapipe as mp
from mediapipe.tasks import python
from mediapipe.tasks.python import vision
model, pixels, result = sys.argv[1:]
options = vision.ImageSegmenterOptions(
    base_options=python.BaseOptions(model_asset_path=model), output_category_mask=True, output_confidence_masks=True
)
with vision.ImageSegmenter.create_from_options(options) as segmenter:
    found = segmenter.segment(mp.Image(image_format=mp.ImageFormat.SRGB, data=np.load(pixels)))
    confidence = np.stack([np.squeeze(mask.numpy_view()) for mask in found.confidence_masks], axis=-1)
    np.savez(result, labels=np.squeeze(found.category_mask.numpy_view()), confidence=confidence,
             names=segmenter.labels)
"""


def test_mediapipe_segments_as_the_model(file, tmp_path):
    python = os.environ.get("DEEPLAB_MEDIAPIPE_PYTHON")
    if not python:
        pytest.skip("DEEPLAB_MEDIAPIPE_PYTHON names no python with mediapipe (scripts/make_runtime_env.sh mediapipe)")
    np.save(tmp_path / "pixels.npy", PIXELS)
    command = [python, "-c", PROGRAM, str(file), str(tmp_path / "pixels.npy"), str(tmp_path / "result.npz")]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=clean)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(tmp_path / "result.npz") as stored:
        found = dict(stored)
    expected = predict_image(make_balanced_network(PIXELS).logits_of, PIXELS, make_settings())
    assert found["names"].tolist() == list(CLASSES.names)
    assert np.mean(found["labels"] == expected.labels.numpy()) > 0.999
    np.testing.assert_allclose(found["confidence"], expected.probabilities.numpy(), atol=1e-3)
