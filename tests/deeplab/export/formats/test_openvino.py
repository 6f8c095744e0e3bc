"""OpenVINO folders: what every format does, and what float16 and int8 keep. Needs the extra openvino."""

import sys

import numpy as np
import pytest
from PIL import Image
from support.errors import raises
from support.export_battery import ExportBattery, export
from support.golden_recipe import image
from support.small_exports import make_balanced_network, make_settings

from deeplab.export.formats import FORMATS
from deeplab.inference.load import load
from deeplab.inference.prediction import predict_image

PIXELS = image(65, 97)[0]
MISSING = ", ".join(FORMATS.get("openvino_int8").missing())
needs_openvino = pytest.mark.skipif(bool(MISSING), reason=f"the extra openvino is not installed: {MISSING}")


@needs_openvino
class TestOpenVINO(ExportBattery):
    name = "openvino"
    types = ("float32", "int32")


@needs_openvino
def test_reduced_precision_predicts_almost_the_same(tmp_path):
    balanced = make_balanced_network(PIXELS)
    (tmp_path / "images").mkdir()
    for index in range(4):
        Image.fromarray(np.roll(PIXELS, 9 * index, axis=1)).save(tmp_path / "images" / f"{index}.png")
    config = {"calibration_images": str(tmp_path / "images"), "min_label_agreement": 0.0, "parity_images": 1}
    names = ("openvino", "openvino_float16", "openvino_int8")
    export(balanced, tmp_path / "out", formats=names, **config)
    expected = predict_image(balanced.logits_of, PIXELS, make_settings()).labels.numpy()
    sizes = {}
    for name, agreement in zip(names, (0.999, 0.98, 0.75), strict=True):
        folder = tmp_path / "out" / FORMATS.get(name).usual_name
        assert np.mean(load(folder).predict(PIXELS).labels == expected) > agreement
        sizes[name] = (folder / "model.bin").stat().st_size
    assert sizes["openvino_float16"] < 0.6 * sizes["openvino"] and sizes["openvino_int8"] < 0.5 * sizes["openvino"]


def test_a_missing_library_is_named(live_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert "openvino" in FORMATS.get("openvino").missing()
    with raises("missing-library", where="openvino") as caught:
        export(live_model, tmp_path, formats=("openvino",), parity_images=1)
    assert "[openvino]" in caught.value.hint and list(tmp_path.iterdir()) == []
