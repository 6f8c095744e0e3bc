"""The export command, from its command line to what it prints."""

import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf
from support import golden_recipe

from deeplab import export_model
from deeplab.checkpoint import manager
from deeplab.config.model_config import ModelConfig
from deeplab.inference.load import load
from deeplab.model import build_model
from slim.layers import variables_by_name

ROOT = pathlib.Path(__file__).parents[2]
QUICK = ("--parity_images=1", "--formats=frozen_graph", "--crop_size=65")


def run(monkeypatch, *arguments) -> int:
    """The command's exit code."""
    monkeypatch.setattr(sys, "argv", ["deeplab/export_model.py", *map(str, arguments)])
    return export_model.main()


@pytest.fixture(scope="module")
def tf1_checkpoint(tmp_path_factory) -> str:
    """A checkpoint as TensorFlow 1 leaves it, without config.yml: 21 classes, depth multiplier .25."""
    config = ModelConfig(depth_multiplier=0.25, aspp_convs_filters=16)
    names = {name: tuple(v.shape) for name, v in variables_by_name(build_model(config, 21)).items()}
    folder = tmp_path_factory.mktemp("tf1")
    return manager.save_step(folder, 30000, {name: golden_recipe.weight(name, shape) for name, shape in names.items()})


@pytest.fixture
def flags_of_tf1(tf1_checkpoint, tmp_path):
    """The flags with which that checkpoint was trained."""
    return [
        f"--checkpoint_path={tf1_checkpoint}",
        f"--export_path={tmp_path}/frozen_inference_graph.pb",
        "--model_variant=mobilenet_v2",
        "--depth_multiplier=0.25",
        "--aspp_convs_filters=16",
        "--inference_scales=1.0",
    ]


def test_a_trained_folder_needs_no_model_flags(small_run, tmp_path, monkeypatch, capsys):
    path = tmp_path / "frozen_inference_graph.pb"
    assert run(monkeypatch, f"--checkpoint_path={small_run}", f"--export_path={path}", *QUICK) == 0
    printed = capsys.readouterr().out
    assert "The files predict the same as the model; batch norm is folded." in printed
    assert "SemanticPredictions:0" in printed and "1 x 65 x 65 x 3" in printed
    assert f'Segmenter("{path}")' in printed
    assert (tmp_path / "labels.txt").read_text() == "ground\ndisc\nsquare\n"
    assert load(path).num_classes == 3


def test_a_tensorflow_1_checkpoint_takes_the_old_flags(flags_of_tf1, tmp_path, monkeypatch, capsys):
    old = ["--num_classes=21", "--crop_size=65", "--crop_size=81", "--parity_images=1", "--saved_model=false"]
    assert run(monkeypatch, *flags_of_tf1, *old) == 0
    printed = capsys.readouterr()
    assert "1 x 65 x 81 x 21" in printed.out
    assert "assuming --output_stride=16, which a checkpoint does not show" in printed.err
    assert (tmp_path / "labels.txt").read_text().splitlines()[:2] == ["class_0", "class_1"]


def test_a_data_set_names_the_classes(flags_of_tf1, tmp_path, monkeypatch):
    assert run(monkeypatch, *flags_of_tf1, "--dataset=pascal_voc_seg", *QUICK) == 0
    assert "aeroplane" in (tmp_path / "labels.txt").read_text()


@pytest.mark.parametrize(
    "flag, rule, hint",
    [
        ("--num_classes=5", "is 5, but the logits", "--num_classes=21, or leave it out"),
        ("--dataset=cityscapes", "cityscapes has 19 classes", "the dataset that it was trained on"),
        ("--depth_multiplier=0.5", "another model", "--depth_multiplier=0.25"),
        ("--decoder_output_stride=4", "is missing", "--decoder_output_stride="),
        ("--export_path=graph.txt", "must end in .pb", "graph.txt.pb"),
        ("--parity_folder=/nowhere", "there is no file, folder or match", ""),
        ("--checkpoint_path=/nowhere/model.ckpt", "does not exist", ""),
    ],
)
def test_what_does_not_fit_is_refused(flag, rule, hint, flags_of_tf1, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, *flags_of_tf1, *QUICK, flag) == 1
    printed = capsys.readouterr().err
    assert "error: " in printed and rule in printed and hint in printed
    assert os.listdir(tmp_path) == []


def test_flags_that_contradict_the_training_are_refused(small_run, tmp_path, monkeypatch, capsys):
    path = f"--export_path={tmp_path}/graph.pb"
    assert run(monkeypatch, f"--checkpoint_path={small_run}", path, "--num_classes=21", *QUICK) == 1
    assert "--num_classes=21, trained with 3" in capsys.readouterr().err


def test_required_flags_are_asked_for(monkeypatch, capsys):
    assert run(monkeypatch) == 2
    assert "--checkpoint_path: must be given; so must --export_path [missing-setting]" in capsys.readouterr().err
    assert run(monkeypatch, "--chekpoint_path=x") == 2
    assert "did you mean --checkpoint_path?" in capsys.readouterr().err


def test_a_truncated_checkpoint_is_refused(flags_of_tf1, tf1_checkpoint, tmp_path, monkeypatch, capsys):
    cut = tmp_path / "cut"
    cut.mkdir()
    for suffix in (".index", ".data-00000-of-00001"):
        content = pathlib.Path(tf1_checkpoint + suffix).read_bytes()
        (cut / f"model.ckpt{suffix}").write_bytes(content if suffix == ".index" else content[: len(content) // 2])
    assert run(monkeypatch, *flags_of_tf1, f"--checkpoint_path={cut}/model.ckpt", *QUICK) == 1
    assert "truncated" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["cut"]


def test_it_runs_as_a_file_from_anywhere(tmp_path):
    command = [sys.executable, str(ROOT / "deeplab" / "export_model.py"), "--help"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--inference_scales" in done.stdout and "--label_weights" not in done.stdout


def test_libraries_print_nothing(small_run, tmp_path):
    """A process of its own: some of these lines are printed once per process."""
    pytest.importorskip("tf2onnx")
    command = [sys.executable, "-m", "deeplab", "export", f"--checkpoint_path={small_run}", f"--export_path={tmp_path}"]
    command += ["--formats=litert,onnx", "--crop_size=33", "--parity_images=1"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours = ("predicting with the model: ", "checking model.", "warning: ", "  hint: ")
    assert [line for line in done.stderr.splitlines() if not line.startswith(ours)] == []


def test_scales_and_mirror_images_are_built_in(small_run, tmp_path, monkeypatch):
    path = tmp_path / "graph.pb"
    scales = ("--inference_scales=0.5", "--inference_scales=1.0", "--add_flipped_images")
    assert run(monkeypatch, f"--checkpoint_path={small_run}", f"--export_path={path}", *scales, *QUICK) == 0
    definition = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    # One softmax for each of the two scales, mirrored and not, and the one over their mean.
    assert sum(node.op == "Softmax" for node in definition.node) == 5
