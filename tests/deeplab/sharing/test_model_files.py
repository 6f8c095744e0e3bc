"""Files that are given away: what belongs to a model, and nothing about this computer."""

import json

import pytest
import yaml
from support import foreign_weights
from support.errors import raises

from deeplab.checkpoint import watch
from deeplab.sharing import model_files


def test_a_training_folder_gives_one_checkpoint_and_its_settings(small_run):
    found = model_files.collect(str(small_run))
    assert found.kind == "checkpoint" and found.facts["class_names"] == ["ground", "disc", "square"]
    name = found.prefix.rpartition("/")[2]
    assert set(found.files) == {"checkpoint", "config.yml", f"{name}.index", f"{name}.data-00000-of-00001"}
    assert f'"{name}"'.encode() in found.files["checkpoint"]
    content = {**yaml.safe_load(found.files["config.yml"]), "written_by": ""}
    assert content == model_files.without_paths(content) and content["model"]["depth_multiplier"] == 0.25


def test_what_was_collected_is_a_training_folder_again(small_run, tmp_path):
    from deeplab.inference.load import load

    for name, content in model_files.collect(str(small_run)).files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    here, there = load(str(small_run)), load(str(tmp_path))
    assert here.step == there.step and here.class_names == there.class_names


def test_an_exported_file_with_its_description(tmp_path):
    (tmp_path / "frozen_inference_graph.pb").write_bytes(b"graph")
    (tmp_path / "other.txt").write_text("not part of it")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    (tmp_path / "metadata.json").write_text(
        json.dumps({"checkpoint": "/home/me/secret/model.ckpt-3", "classes": ["a", "b/c"]})
    )
    found = model_files.collect(str(tmp_path / "frozen_inference_graph.pb"))
    assert found.kind == "frozen_graph" and set(found.files) == {
        *("frozen_inference_graph.pb", "labels.txt", "metadata.json"),
    }
    assert json.loads(found.files["metadata.json"]) == {"checkpoint": "model.ckpt-3", "classes": ["a", "b/c"]}
    everything = model_files.collect(str(tmp_path))
    assert set(everything.files) == {*found.files, "other.txt"}


def test_weights_of_another_project_are_not_given_away(tmp_path):
    shapes = foreign_weights.goldens()["huggingface_mobilenet_v2"]["shapes"]
    path = tmp_path / "model.safetensors"
    foreign_weights.write_safetensors(path, foreign_weights.tensors(shapes))
    for source in (path, tmp_path):
        with raises("not-supported", where=str(source)):
            model_files.collect(str(source))
    given = watch.checkpoints(str(tmp_path), max_number=0, sleep=lambda seconds: pytest.fail("waits"))
    assert [opened.prefix for opened in given] == [str(path)]  # neither does a watch wait for others


def test_a_folder_that_is_no_model(tmp_path, monkeypatch):
    with raises("checkpoint-not-found", where=str(tmp_path)):
        model_files.collect(str(tmp_path))
    (tmp_path / "frozen_inference_graph.pb").write_bytes(b"graph")
    (tmp_path / "metadata.json").write_text("[1")
    with raises("unreadable-file", where="metadata.json"):
        model_files.collect(str(tmp_path))
    (tmp_path / "metadata.json").unlink()
    monkeypatch.setattr(model_files, "_MAX_FILES", 1)
    (tmp_path / "a.txt").touch()
    with raises("too-large", where=str(tmp_path)):
        model_files.collect(str(tmp_path))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/home/me/data", "data"),
        ("C:\\Users\\me\\data\\", "data"),
        ("zoo:mobilenetv2_coco", "zoo:mobilenetv2_coco"),
        ("hf://me/hair", "hf://me/hair"),
        ("s3://our-bucket/patients/2024", "2024"),
        (
            {"class_names": ["road/path"], "dirs": ["a/b", 3, None]},
            {"class_names": ["road/path"], "dirs": ["b", 3, None]},
        ),
        ("cross_entropy + 0.5*dice", "cross_entropy + 0.5*dice"),
    ],
)
def test_paths_are_cut_to_their_last_part(given, kept):
    assert model_files.without_paths(given) == kept
