"""Whole exports of a narrow model: what they write, and what they refuse."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises
from support.export_battery import CLASSES, export, names
from support.small_exports import make_network

from deeplab import Segmenter
from deeplab.config.export_config import ExportConfig
from deeplab.export import destination, exporter, freeze
from deeplab.export.formats import FORMATS, ExportFormat
from deeplab.utils.errors import UserError

BOTH = ("frozen_graph", "saved_model")


def shift(values, name, by):
    return {**values, name: values[name] + np.float32(by)}


@pytest.fixture(scope="module")
def exported(live_model, tmp_path_factory):
    """A folder with everything an export can write."""
    folder = tmp_path_factory.mktemp("exported")
    return export(live_model, folder / "frozen_inference_graph.pb", formats=BOTH, save_inference_graph=True), folder


def test_everything_is_there_and_equal(exported):
    result, folder = exported
    files = ["export_report.md", "frozen_inference_graph.pb", "inference_graph.pbtxt", "labels.txt", "metadata.json"]
    files.append("saved_model")
    assert names(folder) == files
    assert sorted(os.path.basename(path) for path in result.paths) == files
    assert result.paths[0].endswith("frozen_inference_graph.pb")
    assert result.folded
    assert list(result.parity) == ["frozen_inference_graph.pb", "saved_model"]
    for ones in result.parity.values():
        assert [one.size for one in ones] == [(65, 58), (39, 97)]
        assert all(one.holds and one.max_difference < 1e-5 for one in ones)


def test_names_and_metadata_are_written(exported):
    _, folder = exported
    assert (folder / "labels.txt").read_text() == "ground\nleft eye\nright eye\nnose\n"
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["classes"] == list(CLASSES.names)
    assert metadata["input"]["padded_to"] == {"height": 65, "width": 97}
    assert metadata["model"]["atrous_rates"] == [2] and metadata["step"] == 3
    assert names(folder / "saved_model" / "assets") == ["labels.txt", "metadata.json"]


def test_segmenter_takes_both_formats(exported):
    _, folder = exported
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    frozen, saved = (Segmenter(folder / name) for name in ("frozen_inference_graph.pb", "saved_model"))
    assert frozen.class_names == saved.class_names == CLASSES.names
    np.testing.assert_array_equal(frozen(pixels).labels, saved(pixels).labels)


def test_another_name_has_its_own_saved_model_and_metadata(live_model, tmp_path):
    (tmp_path / "labels.txt").write_text("ground\nleft eye\nright eye\nnose\n")
    export(live_model, tmp_path / "small.pb", formats=BOTH)
    assert names(tmp_path) == [
        "labels.txt",
        "small.pb",
        "small_export_report.md",
        "small_metadata.json",
        "small_saved_model",
    ]


@pytest.mark.parametrize(
    ("config", "written"),
    [
        ({}, ["frozen_inference_graph.pb", "saved_model"]),
        ({"formats": ("saved_model",)}, ["saved_model"]),
        (
            {"formats": ("saved_model,frozen_graph",), "saved_model": False},
            ["frozen_inference_graph.pb"],
        ),
    ],
    ids=["default", "one", "old-flag"],
)
def test_formats_are_chosen(live_model, tmp_path, config, written):
    config = {"formats": ExportConfig().formats} | config
    export(live_model, tmp_path / "new", parity_images=1, **config)
    assert names(tmp_path / "new") == sorted([*written, "export_report.md", "labels.txt", "metadata.json"])


def test_a_converter_that_fails_is_named(live_model, tmp_path, monkeypatch):
    def fail(model, path):
        raise RuntimeError("no kernel for this")

    broken = dataclasses.replace(FORMATS.get("frozen_graph"), write=fail)
    monkeypatch.setattr(destination, "FORMATS", {"frozen_graph": broken})
    with raises("conversion-failed", where="frozen_inference_graph.pb") as caught:
        export(live_model, tmp_path, parity_images=1)
    assert "no kernel for this" in caught.value.rule and names(tmp_path) == []


# ---- errors -------------------------------------------------------------------------------------------


def test_a_wrong_weight_is_caught_and_nothing_is_left(live_model, tmp_path, monkeypatch, capsys):
    (tmp_path / "graph.pb").write_text("an older export with SemanticPredictions")
    right = freeze.freeze

    def wrong(*arguments):
        made = right(*arguments)
        return dataclasses.replace(made, values=shift(made.values, "logits/semantic/biases", [0, 0, 0.5, 0]))

    monkeypatch.setattr(exporter, "freeze", wrong)
    with raises("export-differs", where=tmp_path / "graph.pb") as error:
        export(live_model, tmp_path / "graph.pb", parity_images=1)
    assert "portrait" in str(error.value) and "pixels differ" in str(error.value)
    assert names(tmp_path) == ["graph.pb"]
    assert (tmp_path / "graph.pb").read_text() == "an older export with SemanticPredictions"
    printed = capsys.readouterr()
    assert "graph.pb" in printed.out and "pixels unequal" in printed.out


def test_where_folding_changes_predictions_batch_norm_stays(live_model, tmp_path, monkeypatch, capsys):
    right = freeze.folded_weights
    monkeypatch.setattr(
        freeze, "folded_weights", lambda *models: shift(right(*models), "logits/semantic/biases", [0, 0, 0.5, 0])
    )
    result = export(live_model, tmp_path / "graph.pb", parity_images=1)
    assert not result.folded and all(one.holds for one in result.parity["graph.pb"])
    assert "exporting without folding" in capsys.readouterr().err
    definition = tf.compat.v1.GraphDef.FromString((tmp_path / "graph.pb").read_bytes())
    assert "FusedBatchNormV3" in {node.op for node in definition.node}
    assert json.loads((tmp_path / "graph_metadata.json").read_text())["batch_norm_folded"] is False


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    live_model = make_network()
    live_model.model.get_layer("logits.semantic").bias.assign([0, np.nan, 0, np.inf])
    with raises("not-finite", where="model.ckpt-3") as error:
        export(live_model, tmp_path / "graph.pb")
    assert error.value.value == "logits/semantic/biases" and "2 values" in error.value.rule
    assert names(tmp_path) == []


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_the_old_export_or_the_new(tmp_path):
    command = [sys.executable, "-m", "support.killed_export", str(tmp_path / "out")]
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True, check=True)
    outcomes = [json.loads(line) for line in run.stdout.splitlines()]
    old, new = outcomes[0], outcomes[-1]
    assert old["labels.txt"] != new["labels.txt"] and "labels.previous-1.txt" not in old
    assert new["labels.previous-1.txt"] == old["labels.txt"]
    assert [found for found in outcomes if found not in (old, new)] == []
    assert outcomes.count(old) > 5


def test_a_format_that_fails_leaves_nothing(live_model, tmp_path, monkeypatch):
    def fail(model, path):
        raise UserError("unwritable-file", "no space left", where=path)

    right = FORMATS.get
    broken = ExportFormat("saved_model", "_saved_model", fail)
    monkeypatch.setattr(FORMATS, "get", lambda name: broken if name == "saved_model" else right(name))
    with raises("unwritable-file"):
        export(live_model, tmp_path / "one" / "two", formats=BOTH)
    assert names(tmp_path) == []
