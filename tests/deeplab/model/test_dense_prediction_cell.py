"""The dense prediction cell: its file format, its pooling, and what it builds."""

import json

import keras
import numpy as np
import pytest
from support.errors import raises
from support.object_storage import ObjectStorage

from deeplab.config.model_config import ModelConfig
from deeplab.model import build_model
from deeplab.model.dense_prediction_cell import PUBLISHED, Operation, load_cell
from deeplab.model.head_layers import WindowMean
from deeplab.utils import remote_files
from slim.layers import variables_by_name


def written(folder, cell):
    path = folder / "cell.json"
    path.write_text(cell if isinstance(cell, str) else json.dumps(cell))
    return str(path)


def test_the_published_cell_is_found_by_its_name():
    cell = load_cell(PUBLISHED)
    assert len(cell) == 5
    assert cell[0] == Operation("conv", -1, 3, (1, 6))
    assert [operation.input for operation in cell] == [-1, 0, 1, 0, 0]


def test_kernels_and_rates_may_be_single_numbers(tmp_path):
    cell = [{"op": "conv", "kernel": [1, 1], "input": -1}, {"op": "conv", "kernel": 3, "rate": 2, "input": 0}]
    assert load_cell(written(tmp_path, cell)) == [Operation("conv", -1), Operation("conv", 0, 3, (2, 2))]


def test_a_remote_cell_is_read(tmp_path, monkeypatch):
    (tmp_path / "b").mkdir()
    written(tmp_path / "b", [{"op": "conv", "kernel": 1, "input": -1}])
    monkeypatch.setenv("DEEPLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_files, "file_system", lambda scheme: ObjectStorage(tmp_path))
    assert load_cell("s3://b/cell.json") == [Operation("conv", -1)]


@pytest.mark.parametrize(
    ("cell", "operation", "value", "rule"),
    [
        ("[{]", "", None, "is not JSON"),
        ("[]", "", None, "must be a list of operations"),
        ('{"op": "conv"}', "", None, "must be a list of operations"),
        ("[3]", "operation 0", 3, "must be an object"),
        ([{"op": "pool", "input": -1}], "operation 0", "pool", "'op' must be conv or pyramid_pooling"),
        ([{"op": "conv", "kernel": 5, "input": -1}], "operation 0", 5, "'kernel' must be 1 or 3"),
        ([{"op": "conv", "kernel": 3, "input": -1}], "operation 0", None, "'rate' must be two whole numbers"),
        ([{"op": "conv", "kernel": 3, "rate": [0, 1], "input": -1}], "operation 0", [0, 1], "'rate' must be"),
        ([{"op": "conv", "kernel": 1, "input": 0}], "operation 0", 0, "'input' must be -1"),
        ([{"op": "conv", "kernel": 1}], "operation 0", None, "'input' must be -1"),
        ([{"op": "conv", "kernel": 1, "input": -1, "rates": 1}], "operation 0", "rates", "unknown key 'rates'"),
        ([{"op": "pyramid_pooling", "input": -1}], "operation 0", None, "'grid_size' must be two whole numbers"),
    ],
)
def test_files_that_are_no_cell_are_refused(tmp_path, cell, operation, value, rule):
    with raises("invalid-cell", where=operation) as caught:
        load_cell(written(tmp_path, cell))
    assert str(tmp_path / "cell.json") in caught.value.where
    assert caught.value.value == value and rule in caught.value.rule
    if value == "rates":
        assert "'rate'" in caught.value.hint


def test_a_missing_file_names_the_field_and_the_published_cell():
    with raises("file-not-found", "dense_prediction_cell_json") as caught:
        load_cell("nowhere.json")
    assert caught.value.value == "nowhere.json" and PUBLISHED in caught.value.hint


def test_window_mean_by_hand():
    features = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    image = np.zeros((1, 33, 33, 1), np.float32)
    # 33 pixels at stride 16 are 3 cells; a grid of 2 by 1 has windows of (33 - 1) // 32 + 1 = 2 rows, 3 columns.
    result = WindowMean((2, 1), 16, None)(features, image)
    np.testing.assert_allclose(np.asarray(result).ravel(), [2.5, 5.5])


def test_window_mean_never_exceeds_the_features():
    features = np.ones((1, 3, 3, 1), np.float32)
    result = WindowMean((1, 1), 16, (129, 129))(features, np.zeros((1, 33, 33, 1), np.float32))
    np.testing.assert_allclose(result, np.ones((1, 1, 1, 1)))


def atrous_rates(output_stride, path):
    config = ModelConfig(output_stride=output_stride, dense_prediction_cell_json=path)
    model = build_model(config, 3)
    return [layer.rate for layer in model.layers if layer.name.endswith("_depthwise") and "meta" in layer.name]


def test_rates_follow_the_output_stride():
    assert atrous_rates(16, PUBLISHED)[0] == (1, 6)
    assert atrous_rates(8, PUBLISHED)[:2] == [(2, 12), (36, 30)]
    assert atrous_rates(32, PUBLISHED)[:2] == [(1, 3), (9, 7)]


def test_pooling_operation_in_a_network(tmp_path):
    cell = [
        {"op": "pyramid_pooling", "grid_size": [2, 2], "input": -1},
        {"op": "conv", "kernel": 1, "input": 0},
    ]
    model = build_model(ModelConfig(dense_prediction_cell_json=written(tmp_path, cell)), 3)
    names = {name.rsplit("/", 1)[0] for name in variables_by_name(model) if "meta" in name and "Batch" not in name}
    assert names == {f"meta_architecture/{part}" for part in ("branch0", "branch1", "concat_projection")}
    for height, width in ((65, 97), (64, 80)):
        logits = model(np.zeros((1, height, width, 3), np.float32))["merged_logits"]
        assert logits.shape == (1, (height - 1) // 16 + 1, (width - 1) // 16 + 1, 3)
    assert isinstance(model, keras.Model)
