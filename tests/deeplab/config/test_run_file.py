"""config.yml: saved beside a checkpoint, read by later commands, and not to be contradicted."""

import re

import pytest
from support.errors import raises

from deeplab.config import run_file
from deeplab.config.data_config import DatasetConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import LossConfig, TrainConfig

FACTS = {"num_classes": 3, "class_names": ["ground", "hair", "skin"]}


@pytest.fixture
def saved(tmp_path):
    model = ModelConfig(atrous_rates=(6, 12, 18), decoder_output_stride=(4,), output_stride=16)
    run_file.save(tmp_path, (model, LossConfig(label_weights=(1.0, 10.0, 5.0))), FACTS)
    return run_file.load(tmp_path)


def merge(given, saved):
    return run_file.merge(given, saved, (ModelConfig, LossConfig), "config.yml")


def test_what_was_saved_comes_back(saved):
    assert saved["num_classes"] == 3 and saved["class_names"] == ["ground", "hair", "skin"]
    merged = merge({}, saved)
    assert merged["atrous_rates"] == (6, 12, 18) and merged["label_weights"] == (1.0, 10.0, 5.0)


def test_a_folder_without_the_file_gives_nothing(tmp_path):
    assert run_file.load(tmp_path) == {}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model_variant": "xception_65"}, "`model_variant=xception_65`, trained with mobilenet_v2"),
        ({"atrous_rates": (6, 12)}, "`atrous_rates=6,12`, trained with 6,12,18"),
        ({"decoder_output_stride": ()}, "`decoder_output_stride=(none)`, trained with 4"),
        ({"depth_multiplier": 0.5}, "trained with 1.0"),
    ],
)
def test_a_flag_that_the_weights_contradict_stops(saved, given, says):
    with raises("checkpoint-mismatch", where="config.yml") as info:
        merge(given, saved)
    assert says in info.value.rule


def test_the_same_value_again_is_no_contradiction(saved):
    assert merge({"model_variant": "mobilenet_v2"}, saved)["model_variant"] == "mobilenet_v2"


def test_a_denser_output_stride_takes_effect_and_is_said(saved, capsys):
    merged = merge({"output_stride": 8, "atrous_rates": (12, 24, 36)}, saved)
    assert merged["output_stride"] == 8 and merged["atrous_rates"] == (12, 24, 36)
    assert re.search(r"output_stride=8`? replaces 16 of config.yml", capsys.readouterr().err)


def test_differences_name_old_and_new(saved):
    now = (ModelConfig(atrous_rates=(6, 12, 18), decoder_output_stride=(4,)), LossConfig(weight_decay=0.1))
    assert run_file.differences(saved, now) == [
        "`label_weights`: was 1.0,10.0,5.0, is (none)",
        "`weight_decay`: was 4e-05, is 0.1",
    ]
    assert run_file.differences(saved, now, ignore=("label_weights", "weight_decay")) == []


def test_saving_leaves_one_whole_file(tmp_path):
    for _ in range(2):
        run_file.save(tmp_path, (TrainConfig(train_logdir="x"), DatasetConfig()), {})
    assert [path.name for path in tmp_path.iterdir()] == ["config.yml"]


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ("3", "dataset_facts"),
        ("{class_names: 3}", "class_names"),
        ("{class_names: {a: b}}", "class_names"),
        ("{class_names: [1, 2]}", "class_names"),
        ("{colors: [[1, 2]]}", "colors"),
        ("{colors: [[1, 2, 256]]}", "colors"),
        ("{num_classes: -1}", "num_classes"),
        ("{seed: true}", "seed"),
        ("{ignore_label: x}", "ignore_label"),
    ],
)
def test_facts_that_a_person_has_changed_are_errors(tmp_path, facts, name):
    (tmp_path / "config.yml").write_text(f"dataset_facts: {facts}\n")
    with raises("wrong-type", where="config.yml") as caught:
        run_file.load(tmp_path)
    assert caught.value.value == name
