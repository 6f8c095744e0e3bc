"""The recipe at work: trainings through the command on tiny records, what they remember, and what they write."""

import dataclasses
import os
import pathlib
import shutil

import numpy as np
import pytest
import yaml
from support import foreign_weights, tiny_backbone
from support.errors import raises

import slim
from deeplab import checkpoint, train
from deeplab.checkpoint import manager, zoo
from deeplab.config.command_line import read_config_file
from deeplab.data import dataset as datasets
from deeplab.data.bands import RGB
from deeplab.data.dataset import SizeRange
from deeplab.training import recipe_plan
from deeplab.training.recipe import Choice, DataFacts, MachineFacts, ModelFacts
from deeplab.utils import remote_names
from deeplab.utils.errors import UserError

pytestmark = pytest.mark.xdist_group("training")

DATA, MACHINE = DataFacts(100, (100, 100), 3, (), 3, True, "", 0, (100, 100)), MachineFacts(0, None, "", 2)
SMALL = {
    "model_variant": "tiny",
    "aspp_convs_filters": 8,
    "decoder_filters": 8,
    "train_crop_size": "33,33",
    "random_seed": 1,
    "training_number_of_steps": 4,
    "batch_norm_calibration_batches": 1,
}


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with tiny_backbone.registered():
        yield


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test downloads anything."""

    def refuse(name):
        raise UserError("download-failed", "cannot be downloaded: there is no network", where=name)

    monkeypatch.setattr(zoo, "fetch", refuse)


def run(records, folder, **more):
    words = {"dataset_dir": records, "train_logdir": folder, "recipe": "auto", **SMALL, **more}
    return train.COMMAND.main([f"--{name}={value}" for name, value in words.items() if value is not None])


def saved(folder):
    return read_config_file(str(folder / "config.yml"), train.SETTINGS)


@pytest.fixture(scope="module")
def chosen(disc_records, tmp_path_factory):
    """A finished training with the recipe."""
    folder = tmp_path_factory.mktemp("recipe") / "run"
    assert run(disc_records, folder, train_batch_size=4) == 0
    return folder


def test_a_training_with_the_recipe(chosen):
    config = saved(chosen)
    assert config["train_batch_size"] == 4 and config["train_crop_size"] == (33, 33)  # given
    assert config["learning_policy"] == "cosine" and config["decoder_output_stride"] == (4,)  # chosen
    assert config["tf_initial_checkpoint"] == "" and config["eval_every"] == "4"
    assert manager.latest(chosen).step == 4 and (chosen / "best" / "checkpoint").is_file()


def test_the_written_config_gives_the_same_weights(chosen, disc_records, tmp_path):
    words = [f"--config={chosen / recipe_plan.FILE_NAME}", f"--train_logdir={tmp_path / 'again'}"]
    assert train.COMMAND.main(words) == 0
    first, again = (checkpoint.open(folder).arrays() for folder in (chosen, tmp_path / "again"))
    assert first.keys() == again.keys() and all(np.array_equal(first[name], again[name]) for name in first)


def test_the_written_config_gives_reasons_and_can_be_edited(chosen):
    text = (chosen / recipe_plan.FILE_NAME).read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    assert content["train_batch_size"] == 4 and content["learning_policy"] == "cosine"
    assert not {"train_logdir", "recipe", "time_budget"} & content.keys()
    lines = text.splitlines()
    assert lines[lines.index("learning_policy: cosine") - 1].startswith("# ")
    assert "12 images of about" in text and "`" not in text.replace("`deeplab", "")


def test_the_same_command_resumes_with_what_was_chosen(chosen, disc_records, tmp_path, capsys, monkeypatch):
    folder = shutil.copytree(chosen, tmp_path / "run")
    before = saved(folder)
    monkeypatch.setattr(recipe_plan.recipe, "choose", lambda *_: pytest.fail("chosen again"))
    assert run(disc_records, folder, train_batch_size=4, training_number_of_steps=6) == 0
    assert "resuming from" in capsys.readouterr().err
    after = saved(folder)
    ignored = {"training_number_of_steps", "train_logdir"}
    assert {name for name in before if before[name] != after[name]} <= ignored
    assert manager.latest(folder).step == 6


def test_another_setting_is_refused_on_resume(chosen, disc_records, tmp_path, capsys):
    folder = shutil.copytree(chosen, tmp_path / "run")
    assert run(disc_records, folder, train_batch_size=2) == 1
    printed = capsys.readouterr().err
    assert "[changed-config]" in printed and "was 4, is 2" in printed


def test_without_a_network_it_trains_from_scratch_and_says_so(disc_records, tmp_path):
    given = {"dataset_dir": str(disc_records), "train_logdir": str(tmp_path / "run"), "recipe": "auto"}
    plan = recipe_plan.plan(given, train.SETTINGS, started=0.0)
    start = next(choice for choice in plan.choices if choice.name == "tf_initial_checkpoint")
    assert start.value == "" and plan.given["tf_initial_checkpoint"] == "" and plan.given["depth_multiplier"] == 0.5
    assert start.reason.startswith("from scratch: no ImageNet weights for mobilenet_v2")
    assert "cannot be downloaded" in recipe_plan.file_text(plan.choices, plan.explicit, plan.facts)
    assert "recipe" not in plan.given and not (tmp_path / "run").exists()


def test_a_time_budget_fixes_the_number_of_steps(disc_records, tmp_path, monkeypatch, capsys):
    """With and without the recipe; a resumed training keeps the number."""
    monkeypatch.setattr(recipe_plan, "time_steps", lambda configs, prepared, devices: (10.0, 0.0))
    for name in ("auto", "none"):
        folder = tmp_path / name
        given = {"training_number_of_steps": None, "recipe": name, "time_budget": "45s", "train_batch_size": 2}
        assert run(disc_records, folder, **given) == 0
        steps = manager.latest(folder).step
        assert 1 <= steps <= 4 and saved(folder)["training_number_of_steps"] == steps
        assert run(disc_records, folder, **given) == 0
        assert manager.latest(folder).step == steps
        content = yaml.safe_load((folder / recipe_plan.FILE_NAME).read_text())
        assert content["training_number_of_steps"] == steps and "time_budget" not in content
    printed = " ".join(capsys.readouterr().err.split())
    assert "10.00 s" in printed and "will hardly change the initial model: raise --time_budget" in printed


def test_steps_are_timed(disc_records, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe_plan, "_TIMED_STEPS", 2)
    given = {"training_number_of_steps": None, "time_budget": "1s", "train_batch_size": 2}
    assert run(disc_records, tmp_path / "run", **given) == 0
    assert manager.latest(tmp_path / "run").step == 1  # at least one, however little time there is


@pytest.mark.parametrize("other", ["training_number_of_steps=3", "training_epochs=2"])
def test_two_lengths_are_refused(disc_records, tmp_path, capsys, other):
    name, _, value = other.partition("=")
    given = {"training_number_of_steps": None, "time_budget": "1h", name: value}
    assert run(disc_records, tmp_path / "run", **given) == 1
    printed = capsys.readouterr().err
    assert "--time_budget" in printed and "[conflicting-settings]" in printed and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("given", "field"), [({"recipe": "auto"}, "recipe"), ({"time_budget": "1h"}, "time_budget")])
def test_several_machines_must_not_choose_each_for_itself(monkeypatch, tmp_path, given, field):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}')
    with raises("not-supported", field) as caught:
        recipe_plan.plan({"dataset_dir": "x", "train_logdir": str(tmp_path), **given}, train.SETTINGS, 0.0)
    assert "recipe.yml" in caught.value.hint


@pytest.mark.parametrize(
    ("left", "seconds", "start", "evaluates", "steps"),
    [
        (0.0, 1.0, 0.0, False, 1),
        (-5.0, 1.0, 0.0, False, 1),
        (103.0928, 1.0, 0.0, False, 97),
        (103.0928, 1.0, 17.0, False, 80),
        (103.0928, 1.0, 17.0, True, 72),
        (3600.0, 0.5, 20.0, True, 6307),
    ],
)
def test_steps_within_a_time(left, seconds, start, evaluates, steps):
    assert recipe_plan.steps_within(left, seconds, start, evaluates) == steps


def test_facts_of_the_data(disc_records, tmp_path):
    found = recipe_plan.data_facts(datasets.find("", disc_records), {"dataset_dir": str(disc_records)})
    assert (found.images, found.evaluated_split, found.evaluated_images) == (12, "val", 4)
    assert found.num_classes == 3 and found.is_rgb and min(found.size) > 30
    with raises("unknown-split"):
        recipe_plan.data_facts(
            datasets.find("", disc_records), {"dataset_dir": str(disc_records), "eval_split": "exam"}
        )


def test_sizes_of_records_that_have_none(disc_records, monkeypatch):
    shards = [str(disc_records / "train-00000-of-00001.tfrecord")]
    monkeypatch.setattr(recipe_plan.records, "read_shard", lambda path: iter([{}]))
    described = datasets.Dataset("x", ("a", "b"), size_range={"train": SizeRange(10, 30, 100, 200)})
    assert recipe_plan.median_size(shards, described, "train") == (20, 150)
    assert recipe_plan.median_size(shards, datasets.Dataset("x", ("a", "b")), "train") == (513, 513)


@pytest.mark.parametrize(
    ("splits", "wanted", "found"),
    [
        (("train", "val", "test"), None, "val"),
        (("train", "test", "exam"), None, "exam"),
        (("train", "train_aug"), None, ""),
        (("train", "trainval"), None, ""),
        (("train", "val"), "test", "test"),
    ],
)
def test_the_split_to_evaluate_on(tmp_path, splits, wanted, found):
    for split in splits:
        (tmp_path / f"{split}-00000-of-00001.tfrecord").touch()
    assert recipe_plan.evaluated_split(tmp_path, "train", wanted) == found


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"model_variant": "mobilenet_v2", "depth_multiplier": 1.0, "input_channels": 5}, "3 channels, not 5"),
        ({"model_variant": "mobilenet_v2", "depth_multiplier": 0.77, "input_channels": 3}, "no-imagenet-weights"),
        ({"model_variant": "mobilenet_v2", "depth_multiplier": 1.0, "input_channels": 3}, "download-failed"),
    ],
)
def test_why_there_are_no_weights(model, words):
    assert words in recipe_plan.no_weights(model)


def test_a_failed_download_is_tried_once(monkeypatch):
    tried = []

    def fetch(name):
        tried.append(name)
        raise UserError("download-failed", "cannot be downloaded")

    monkeypatch.setattr(zoo, "fetch", fetch)
    facts = recipe_plan.model_facts(None)
    model = {"model_variant": "mobilenet_v2", "depth_multiplier": 1.0, "input_channels": 3}
    assert facts.no_weights(model) == facts.no_weights(model) and "download-failed" in facts.no_weights(model)
    assert len(tried) == 1
    recipe_plan.model_facts(None).no_weights(model)  # another training may have a network
    assert len(tried) == 2


@pytest.mark.parametrize(
    ("given", "explicit", "found"), [({"a": 1}, {}, True), ({"a": 1}, {"a": 1}, False), ({}, {}, False)]
)
def test_what_the_recipe_chose(given, explicit, found):
    assert recipe_plan.RecipePlan(given, explicit=explicit).chose("a") == found


def test_weights_that_can_be_had(monkeypatch):
    monkeypatch.setattr(zoo, "fetch", lambda name: "model.ckpt")
    model = {"model_variant": "mobilenet_v2", "depth_multiplier": 1.0, "input_channels": 3}
    assert recipe_plan.no_weights(model) == ""


@pytest.mark.parametrize(
    ("model_variant", "found"), [("mobilenet_v2", True), ("resnet_v1_50", True), ("tiny", True), ("nothing", False)]
)
def test_backbones_with_features_for_a_decoder(model_variant, found):
    assert recipe_plan.has_decoder(model_variant) == found


def test_a_backbone_of_ones_own_without_features_for_a_decoder(monkeypatch):
    monkeypatch.setattr(recipe_plan.slim, "build", lambda name, image, options: slim.Features(image, {8: image}))
    assert not recipe_plan.has_decoder("mine")


def test_what_an_initial_checkpoint_tells(chosen):
    found = recipe_plan.model_facts(str(chosen))
    assert found.keeps_head and found.initial["model_variant"] == "tiny" and found.initial["aspp_convs_filters"] == 8
    for other in (None, "", "imagenet"):
        assert not recipe_plan.model_facts(other).keeps_head and not recipe_plan.model_facts(other).initial
    assert recipe_plan.model_facts("best_for_backbone").keeps_head
    with raises("checkpoint-not-found"):
        recipe_plan.model_facts("nothing/model.ckpt-3")


def test_weights_of_another_project_tell_what_they_expect(tmp_path):
    shapes = foreign_weights.goldens()["torchvision_mobilenet_v3_large"]["shapes"]
    path = tmp_path / "weights.safetensors"
    foreign_weights.write_safetensors(path, foreign_weights.tensors(shapes))
    found = recipe_plan.model_facts(str(path)).initial
    assert found["align_corners"] is False and len(found["input_mean"]) == len(found["input_std"]) == 3
    names = {choice.name for choice in recipe_plan.recipe.choose(DATA, MACHINE, {}, ModelFacts(initial=found))}
    assert {"align_corners", "input_mean", "input_std"} <= names
    own = dataclasses.replace(RGB, mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 1.0))  # the records have theirs
    assert "input_mean" not in recipe_plan.model_facts(str(path), own).initial


def test_other_errors_of_the_zoo_are_not_hidden(monkeypatch):
    def refuse(name):
        raise UserError("disk-full", "is full", where=name)

    monkeypatch.setattr(zoo, "fetch", refuse)
    with raises("disk-full"):
        recipe_plan.no_weights({"model_variant": "mobilenet_v2", "depth_multiplier": 1.0, "input_channels": 3})


def test_this_machine():
    facts = recipe_plan.machine_facts()
    assert facts.cores >= 1 and (facts.memory is None or facts.memory > 1e8)


@pytest.mark.parametrize(
    "code, printed, memory", [(0, "16384\n24576\n", 16384 * 2**20), (1, "", None), (0, "n/a", None)]
)
def test_the_memory_of_gpus(tmp_path, monkeypatch, code, printed, memory):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{printed}'\nexit {code}\n".replace("\n'", "\\n'"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    assert recipe_plan._gpu_memory() == memory


def test_no_driver_no_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert recipe_plan._gpu_memory() is None


def test_the_file_keeps_every_type_of_value(tmp_path):
    values = {"train_crop_size": (65, 33), "eval_every": "20", "nesterov": True, "warmup": "0.05", "loss": "a: #b"}
    text = recipe_plan.file_text([Choice(name, value, "# why:\nso") for name, value in values.items()], {}, None)
    path = pathlib.Path(tmp_path / "recipe.yml")
    path.write_text(text)
    assert read_config_file(str(path), train.SETTINGS) == values


def test_remote_places_are_written_by_their_names_and_output_is_not_remembered(chosen, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_names, "_copies", {"/cache/remote/s3/b": "s3://b"})
    explicit = {"dataset_dir": "/cache/remote/s3/b/data", "report_to": ("tensorboard",), "num_clones": 1}
    path = tmp_path / "recipe.yml"
    path.write_text(recipe_plan.file_text([], explicit, None))
    assert read_config_file(str(path), train.SETTINGS) == {**explicit, "dataset_dir": "s3://b/data"}
    folder = shutil.copytree(chosen, tmp_path / "run")
    config = yaml.safe_load((folder / "config.yml").read_text())
    config["compression"] |= {"distill_cache": "s3://b/cache", "distill_from": "s3://b/teacher"}
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    remembered = recipe_plan.remembered_settings(folder, train.SETTINGS)
    assert remembered["distill_from"] == "s3://b/teacher" and "distill_cache" not in remembered
