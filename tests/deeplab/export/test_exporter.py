"""Whole exports of a narrow network: what they leave, and what they refuse."""

import dataclasses
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from support.small_exports import make_network, make_settings

from deeplab import Segmenter
from deeplab.config.export_config import ExportConfig
from deeplab.export import exporter, freeze
from deeplab.export.metadata import Classes
from deeplab.utils.errors import UserError

CLASSES = Classes(("ground", "left eye", "right eye", "nose"), ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)))


def export(network, path, classes=CLASSES, **config):
    config = ExportConfig("made/model.ckpt-3", str(path), **{"parity_images": 2, "saved_model": False, **config})
    return exporter.export(network, make_settings(), config, classes)


def names(folder) -> list[str]:
    return sorted(os.listdir(folder))


def shift(values, name, by):
    return {**values, name: values[name] + np.float32(by)}


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    """A folder with everything an export can write."""
    folder = tmp_path_factory.mktemp("exported")
    return export(network, folder / "frozen_inference_graph.pb", saved_model=True, save_inference_graph=True), folder


def test_everything_is_there_and_equal(exported):
    result, folder = exported
    files = ["contract.json", "frozen_inference_graph.pb", "inference_graph.pbtxt", "labels.txt", "saved_model"]
    assert names(folder) == files
    assert sorted(os.path.basename(path) for path in result.paths) == files
    assert result.paths[0].endswith("frozen_inference_graph.pb")
    assert result.folded
    assert list(result.parity) == ["frozen_inference_graph.pb", "saved_model"]
    for ones in result.parity.values():
        assert [one.size for one in ones] == [(65, 58), (39, 97)]
        assert all(one.holds and one.max_difference < 1e-5 for one in ones)


def test_names_and_contract_are_written(exported):
    _, folder = exported
    assert (folder / "labels.txt").read_text() == "ground\nleft eye\nright eye\nnose\n"
    contract = json.loads((folder / "contract.json").read_text())
    assert contract["classes"] == list(CLASSES.names)
    assert contract["input"]["padded_inside_to"] == {"height": 65, "width": 97}
    assert contract["model"]["atrous_rates"] == [2] and contract["step"] == 3
    assert names(folder / "saved_model" / "assets") == ["contract.json", "labels.txt"]


def test_segmenter_takes_both_formats(exported):
    _, folder = exported
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    frozen, saved = (Segmenter(folder / name) for name in ("frozen_inference_graph.pb", "saved_model"))
    assert frozen.class_names == saved.class_names == CLASSES.names
    np.testing.assert_array_equal(frozen(picture).labels, saved(picture).labels)


def test_another_name_has_its_own_saved_model_and_contract(network, tmp_path):
    (tmp_path / "labels.txt").write_text("ground\nleft eye\nright eye\nnose\n")
    export(network, tmp_path / "small.pb", saved_model=True)
    assert names(tmp_path) == ["labels.txt", "small.pb", "small_contract.json", "small_saved_model"]


# ---- faults -------------------------------------------------------------------------------------------


def test_a_wrong_weight_is_caught_and_nothing_is_left(network, tmp_path, monkeypatch, capsys):
    (tmp_path / "graph.pb").write_text("an older export")
    right = freeze.constant_network

    def wrong(*arguments):
        made = right(*arguments)
        return dataclasses.replace(made, values=shift(made.values, "logits/semantic/biases", [0, 0, 0.5, 0]))

    monkeypatch.setattr(exporter, "constant_network", wrong)
    with pytest.raises(UserError, match="does not answer as the model does") as fault:
        export(network, tmp_path / "graph.pb", parity_images=1)
    assert "portrait" in str(fault.value) and "pixels differ" in str(fault.value)
    assert names(tmp_path) == ["graph.pb"] and (tmp_path / "graph.pb").read_text() == "an older export"
    printed = capsys.readouterr()
    assert "graph.pb" in printed.out and "pixels unequal" in printed.out


def test_where_folding_changes_answers_batch_norm_stays(network, tmp_path, monkeypatch, capsys):
    right = freeze.folded_weights
    monkeypatch.setattr(
        freeze, "folded_weights", lambda *models: shift(right(*models), "logits/semantic/biases", [0, 0, 0.5, 0])
    )
    result = export(network, tmp_path / "graph.pb", parity_images=1)
    assert not result.folded and all(one.holds for one in result.parity["graph.pb"])
    assert "exporting it unfolded" in capsys.readouterr().err
    definition = tf.compat.v1.GraphDef.FromString((tmp_path / "graph.pb").read_bytes())
    assert "FusedBatchNormV3" in {node.op for node in definition.node}
    assert json.loads((tmp_path / "graph_contract.json").read_text())["batch_norm_folded"] is False


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    network = make_network()
    network.model.get_layer("logits.semantic").bias.assign([0, np.nan, 0, np.inf])
    with pytest.raises(UserError, match="2 values of logits/semantic/biases are not finite"):
        export(network, tmp_path / "graph.pb")
    assert names(tmp_path) == []


def test_a_folder_in_the_saved_models_place_is_left_alone(network, tmp_path):
    (tmp_path / "graph_saved_model").mkdir()
    (tmp_path / "graph_saved_model" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="and is none itself"):
        export(network, tmp_path / "graph.pb", saved_model=True)
    assert names(tmp_path) == ["graph_saved_model"] and names(tmp_path / "graph_saved_model") == ["thesis.txt"]


def test_other_class_names_are_set_aside(network, tmp_path):
    (tmp_path / "labels.txt").write_text("my own\n")
    export(network, tmp_path / "graph.pb")
    assert (tmp_path / "labels.previous-1.txt").read_text() == "my own\n"
    assert names(tmp_path) == ["graph.pb", "graph_contract.json", "labels.previous-1.txt", "labels.txt"]


@pytest.mark.parametrize("given, hint", [("", "frozen_inference_graph.pb"), ("/graph", "/graph.pb")])
def test_the_path_must_be_a_pb_file(network, tmp_path, given, hint):
    with pytest.raises(UserError) as fault:
        export(network, f"{tmp_path}{given}")
    assert fault.value.hint == f"--export_path={tmp_path}/{hint.lstrip('/')}"
