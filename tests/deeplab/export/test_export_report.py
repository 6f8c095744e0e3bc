"""The table of an export: ratios to the model, dashes for what was not measured, valid Markdown."""

import numpy as np

from deeplab.export import export_report
from deeplab.export.export_report import Row, Time
from deeplab.inference.predictor import Prediction

ROWS = [
    Row(export_report.MODEL, "", time=Time(20, 10), mean_iou=0.75),
    Row("litert_int8", "model|1.tflite", 1.234, Time(30, 4), 0.7412, 0.0088, 0.9876, True),
    Row("keras", "model.keras", 3.0),
]


def test_cells_are_numbers_or_dashes():
    model, int8, keras = export_report.cells(ROWS)
    assert model[:6] == (export_report.MODEL, "-", "-", "20.0", "10.0", "1.00")
    assert int8[2:] == ("1.23", "30.0", "4.0", "0.40", "0.7412", "-0.0088", "0.9876")
    assert keras[3:] == ("-", "-", "-", "-", "-", "1.0000")
    assert "litert_int8" in export_report.printed(ROWS)


def test_the_report_is_a_table_with_its_conditions():
    tensors = {"model.keras": [("image", "float32", "? x ? x ? x 3")]}
    lines = export_report.text(ROWS, tensors, ["On two images."], "runs/model.ckpt-3").splitlines()
    assert "- On two images." in lines and "Made of `runs/model.ckpt-3`." in lines
    table = [line for line in lines if line.startswith("| ")]
    assert {line.count("|") for line in table[:5]} == {len(export_report.HEADER) + 1}
    assert table[-1] == "| model.keras | image | float32 | ? x ? x ? x 3 |"


def test_predictors_take_turns():
    seen = []

    class Counting:
        def __init__(self, name):
            self.name = name

        def predict(self, image, probabilities):
            assert not probabilities
            seen.append(self.name)
            return Prediction(np.zeros(image.shape[:2], np.int32), None)

    times = export_report.measure({name: Counting(name) for name in "ab"}, np.zeros((4, 4, 3), np.uint8), rounds=3)
    assert seen == list("abababab")
    assert all(time.wall >= 0 and time.processor >= 0 for time in times.values()) and list(times) == ["a", "b"]
