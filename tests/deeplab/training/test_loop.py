"""Whole trainings through the command, on tiny records: start, stop, resume, refuse, fail."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from support import tiny_backbone
from support.foreign_weights import goldens, tensors, write_safetensors

from deeplab import checkpoint, train
from deeplab.checkpoint import manager, writer
from deeplab.checkpoint.names import is_bookkeeping
from deeplab.data import dataset
from deeplab.inference.load import load
from deeplab.training import guards, loop, precise_bn, setup
from deeplab.training.randomness import StepClock
from deeplab.utils.errors import UserError
from slim.layers import BatchNorm, Norm, variables_by_name

pytestmark = pytest.mark.xdist_group("training")  # one training serves many tests, so they stay in one process

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(train.__file__)))


MOBILENET = {"model_variant": "mobilenet_v2", "depth_multiplier": 0.25}


def flags_for(records, logdir, steps=3, **more):
    settings = {
        "dataset_dir": records,
        "train_logdir": logdir,
        "model_variant": "tiny",
        "train_crop_size": "33,33",
        "train_batch_size": 2,
        "training_number_of_steps": steps,
        "base_learning_rate": 0.01,
        "random_seed": 1,
        "batch_norm_calibration_batches": 2,
        "log_steps": 1,
        **more,
    }
    return [f"--{name}={value}" for name, value in settings.items()]


def train_with(*args, **more):
    return train.COMMAND.main(flags_for(*args, **more))


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """A backbone for trainings of which only the loop matters."""
    with tiny_backbone.registered():
        yield


@pytest.fixture(scope="module")
def trained(disc_records, tmp_path_factory):
    """A finished training of four steps that saved every two."""
    folder = tmp_path_factory.mktemp("trained")
    assert train_with(disc_records, folder, 4, save_interval_steps=2, **MOBILENET) == 0
    return folder


@pytest.fixture(scope="module")
def trained_tiny(disc_records, tmp_path_factory):
    """The same with the tiny backbone."""
    folder = tmp_path_factory.mktemp("trained_tiny")
    assert train_with(disc_records, folder, 4, save_interval_steps=2) == 0
    return folder


@pytest.fixture
def copy_of_trained(trained_tiny, tmp_path):
    return shutil.copytree(trained_tiny, tmp_path / "copy")


def test_checkpoints_are_written_at_the_start_the_intervals_and_the_end(trained):
    steps = [checkpoint.open(prefix).step for prefix in manager.all_checkpoints(trained)]
    assert steps == [0, 2, 4]
    tensors = checkpoint.open(trained).arrays()
    assert tensors["global_step"] == 4 and tensors["global_step"].dtype == np.int64
    assert tensors["logits/semantic/weights"].shape == (1, 1, 256, 3)
    assert np.abs(tensors["logits/semantic/weights/Momentum"]).max() > 0


def test_settings_and_classes_are_saved_beside_the_checkpoint(trained):
    saved = yaml.safe_load((trained / "config.yml").read_text())
    assert saved["model"]["depth_multiplier"] == 0.25
    assert saved["dataset_facts"]["class_names"] == ["ground", "disc", "square"]
    assert saved["train"]["train_crop_size"] == [33, 33]


def test_tensorboard_has_the_references_tags(trained):
    tags = {
        value.tag
        for path in trained.glob("events.out*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert {"total_loss_1", "learning_rate", "Losses/clone_loss", "Losses/regularization_loss"} <= tags
    assert "MobilenetV2/Conv/weights_1" in tags


def test_statistics_are_recalibrated_only_before_the_last_checkpoint(trained):
    name = "image_pooling/BatchNorm/moving_variance"  # starts at 1 and moves by .0003 a step
    assert np.abs(checkpoint.open(trained / "model.ckpt-2").arrays()[name] - 1).max() < 0.01
    assert np.abs(checkpoint.open(trained / "model.ckpt-4").arrays()[name] - 1).max() > 0.1


def test_the_same_seed_gives_the_same_weights(disc_records, trained_tiny, tmp_path):
    assert train_with(disc_records, tmp_path / "again", 4, save_interval_steps=2) == 0
    runs = trained_tiny, tmp_path / "again"
    first, second = (checkpoint.open(run / "model.ckpt-2").arrays() for run in runs)
    np.testing.assert_allclose(first["logits/semantic/weights"], second["logits/semantic/weights"], atol=1e-5)


def test_resuming_starts_at_the_last_step(disc_records, copy_of_trained, capsys):
    assert train_with(disc_records, copy_of_trained, 6) == 0
    said = capsys.readouterr().err
    assert "resuming from" in said and "step 4" in said and "step 5/6" in said and "step 4/6" not in said
    assert checkpoint.open(copy_of_trained).step == 6


def test_a_finished_training_says_so(disc_records, copy_of_trained, capsys):
    assert train_with(disc_records, copy_of_trained, 4) == 0
    assert "--training_number_of_steps=4 is reached; raise it" in capsys.readouterr().err


def test_another_config_is_refused_and_nothing_is_written(disc_records, copy_of_trained, capsys):
    before = {path.name: path.read_bytes() for path in copy_of_trained.iterdir()}
    assert train_with(disc_records, copy_of_trained, 6, base_learning_rate=0.5) == 1
    said = capsys.readouterr().err
    assert "[changed-config]" in said and "--base_learning_rate: was 0.01, is 0.5" in said
    assert f"--tf_initial_checkpoint={copy_of_trained}" in said
    assert {path.name: path.read_bytes() for path in copy_of_trained.iterdir()} == before


def test_another_dataset_is_refused_and_nothing_is_written(disc_records, copy_of_trained, tmp_path, capsys):
    other = shutil.copytree(disc_records, tmp_path / "other")
    before = {path.name: path.read_bytes() for path in copy_of_trained.iterdir()}
    for classes in (("void", "road", "hair"), ("void", "road", "hair", "nose")):
        dataset.save(dataset.Dataset("other", classes, splits={"train": 12}), other / dataset.FILE_NAME)
        assert train_with(other, copy_of_trained, 6) == 1
        said = capsys.readouterr().err
        assert "[other-dataset]" in said and "ground,disc,square" in said and "void,road,hair" in said
    assert {path.name: path.read_bytes() for path in copy_of_trained.iterdir()} == before


@pytest.mark.parametrize("values", [np.nan, np.inf])
def test_a_start_that_fails_leaves_no_folder(disc_records, trained_tiny, tmp_path, capsys, values):
    tensors = dict(checkpoint.open(trained_tiny).arrays())
    tensors["Tiny/conv0/weights"] = tensors["Tiny/conv0/weights"] * np.float32(values)
    writer.write(str(tmp_path / "bad" / "model.ckpt-4"), tensors)
    assert train_with(disc_records, tmp_path / "new", 1, tf_initial_checkpoint=tmp_path / "bad" / "model.ckpt-4") == 1
    said = capsys.readouterr().err
    assert "[not-finite]" in said and "Tiny/conv0/weights" in said
    assert not (tmp_path / "new").exists()


def test_a_smaller_batch_after_a_death_at_step_1_starts_again(disc_records, tmp_path, capsys, monkeypatch):
    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "make_train_step", lambda *_: exhausted)
        assert train_with(disc_records, tmp_path / "run", 1, train_batch_size=4) == 1
    assert "[out-of-memory]" in capsys.readouterr().err
    assert (tmp_path / "run" / "model.ckpt-0.index").exists()
    assert train_with(disc_records, tmp_path / "run", 1, train_batch_size=2) == 0
    assert "at step 0" in capsys.readouterr().err
    assert checkpoint.open(tmp_path / "run").step == 1
    assert yaml.safe_load((tmp_path / "run" / "config.yml").read_text())["train"]["train_batch_size"] == 2


def test_an_initial_checkpoint_sets_weights_and_shows_the_table(disc_records, trained_tiny, tmp_path, capsys):
    source = trained_tiny / "model.ckpt-4"
    assert (
        train_with(disc_records, tmp_path / "new", 1, tf_initial_checkpoint=source, initialize_last_layer="false") == 0
    )
    said = capsys.readouterr().err
    assert "restored" in said and "excluded" in said
    first, start = (checkpoint.open(path).arrays() for path in (source, tmp_path / "new" / "model.ckpt-0"))
    np.testing.assert_array_equal(first["Tiny/conv0/weights"], start["Tiny/conv0/weights"])
    assert np.abs(first["logits/semantic/weights"] - start["logits/semantic/weights"]).max() > 0
    assert start["global_step"] == 0


def test_averages_alone_start_a_training_and_do_not_resume_one(disc_records, copy_of_trained, tmp_path, capsys):
    tensors = checkpoint.open(copy_of_trained / "model.ckpt-4").arrays()
    kept = {name: value for name, value in tensors.items() if not is_bookkeeping(name)}
    averages = {f"{name}/ExponentialMovingAverage": value for name, value in kept.items()}
    source = writer.write(str(tmp_path / "averages" / "model.ckpt-4"), averages)
    assert train_with(disc_records, tmp_path / "new", 1, tf_initial_checkpoint=source) == 0
    said = capsys.readouterr().err
    assert said.count(f"holds the running averages of {len(averages)} weights alone") == 1
    start = checkpoint.open(tmp_path / "new" / "model.ckpt-0").arrays()
    assert all(np.array_equal(start[name], value) for name, value in kept.items())
    writer.write(str(copy_of_trained / "model.ckpt-4"), averages)
    assert train_with(disc_records, copy_of_trained, 6) == 1
    said = capsys.readouterr().err
    assert "[checkpoint-mismatch]" in said and "--tf_initial_checkpoint" in said and "looks like" not in said


def test_imagenet_weights_are_those_published_for_the_backbone(disc_records, tmp_path, capsys, monkeypatch):
    wanted = []

    def offline(config):
        wanted.append(config.model_variant)
        raise UserError("download-failed", "no network", field="model_variant")

    monkeypatch.setattr(setup.zoo, "imagenet_weights", offline)
    assert train_with(disc_records, tmp_path / "a", 1, tf_initial_checkpoint="imagenet", **MOBILENET) == 1
    assert "[download-failed]" in capsys.readouterr().err
    assert wanted == ["mobilenet_v2"] and not (tmp_path / "a").exists()


@pytest.mark.slow
def test_weights_of_another_project_are_trained_on(disc_records, tmp_path, capsys):
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, tensors(goldens()["vainf_deeplabv3plus_mobilenet"]["shapes"]))
    flags = dict(text.strip("`").split("=") for text in checkpoint.open(path).setting_texts())
    flags |= {"tf_initial_checkpoint": path, "train_batch_size": 1, "train_crop_size": "32,32"}
    flags["atrous_rates"] = "1,2,3"
    assert train_with(disc_records, tmp_path / "a", 1, **flags) == 0
    said = capsys.readouterr().err
    assert "was trained with settings that differ from those of this training: --atrous_rates=6,12,18\n" in said
    assert "logits/semantic/weights: model 1x1x256x3, checkpoint 1x1x256x21" in said and "missing  " in said
    start = checkpoint.open(tmp_path / "a" / "model.ckpt-0")
    assert start.config["align_corners"] is False and start.config["decoder_convolutions"] == 1
    np.testing.assert_array_equal(start.array("aspp2/weights"), checkpoint.open(path).array("aspp2/weights"))


def test_frozen_statistics_that_the_initial_checkpoint_lacks_are_said(disc_records, trained_tiny, tmp_path, capsys):
    tensors = {name: value for name, value in checkpoint.open(trained_tiny).arrays().items() if "Tiny" in name}
    writer.write(str(tmp_path / "backbone" / "model.ckpt-4"), tensors)
    given = {"tf_initial_checkpoint": tmp_path / "backbone" / "model.ckpt-4", "fine_tune_batch_norm": "false"}
    assert train_with(disc_records, tmp_path / "new", 1, **given) == 0
    said = capsys.readouterr().err
    assert "3 batch norms are not in the initial checkpoint" in said and "image_pooling/BatchNorm" in said


def test_a_checkpoint_of_another_architecture_is_refused(disc_records, tmp_path, capsys):
    writer.write(str(tmp_path / "other" / "model.ckpt-1"), {"resnet_v1_50/conv1/weights": np.zeros((7, 7, 3, 64))})
    given = {"tf_initial_checkpoint": tmp_path / "other" / "model.ckpt-1"}
    assert train_with(disc_records, tmp_path / "new", 1, **given) == 1
    assert "resnet_v1_50" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "word"),
    [
        ({"train_split": "trian"}, "", "train"),
        ({"label_weights": "1,2"}, "class-count-mismatch", "--label_weights"),
        ({"dataset": "pascal_voc_seg"}, "", "21 classes"),
        ({"model_variant": "mobilnet_v2"}, "unknown-name", "mobilenet_v2"),
        ({"optimizer": "adan"}, "unknown-name", "--optimizer"),
        ({"learning_policy": "polly"}, "unknown-name", "--learning_policy"),
        ({"loss": "cross_entropi"}, "unknown-name", "--loss"),
        ({"quantize_delay_step": 0, "model_variant": "xception_41"}, "not-supported", "--model_variant"),
        ({"quantize_delay_step": 0, "precision": "mixed_bfloat16"}, "conflicting-settings", "--precision"),
        ({"quantize_freeze_bn_step": 9}, "missing-setting", "--quantize_delay_step"),
        ({"num_replicas": 2}, "missing-workers", "--num_replicas"),
        ({"image_pooling_crop_size": "129,129"}, "crop-too-small", "--train_crop_size=129,129"),
        ({"tf_initial_checkpoint": "nowhere/model.ckpt"}, "checkpoint-not-found", "nowhere"),
    ],
)
def test_bad_settings_stop_before_anything_is_written(disc_records, tmp_path, capsys, more, code, word):
    assert train_with(disc_records, tmp_path / "new", 1, **more) == 1
    said = capsys.readouterr().err
    assert "error:" in said and word in said
    assert not code or f"[{code}]" in said
    assert not (tmp_path / "new").exists()


def test_a_resumed_training_equals_an_uninterrupted_one_with_dropout(disc_records, trained_tiny, copy_of_trained):
    for path in copy_of_trained.glob("model.ckpt-4*"):
        path.unlink()
    assert train_with(disc_records, copy_of_trained, 4, save_interval_steps=2) == 0
    whole, resumed = (checkpoint.open(run / "model.ckpt-4").arrays() for run in (trained_tiny, copy_of_trained))
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        np.testing.assert_allclose(resumed[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_signal_within_a_step_saves_the_steps_that_were_done(disc_records, tmp_path, monkeypatch, capsys):
    assert train_with(disc_records, tmp_path / "whole", 4, save_interval_steps=1, max_checkpoints_to_keep=9) == 0
    run_step = guards.run_step

    def interrupted(train_step, batch, step, *more):
        results = run_step(train_step, batch, step, *more)
        if step == 1:
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)  # after the update, before it is counted
        return results

    monkeypatch.setattr(guards, "run_step", interrupted)
    assert train_with(disc_records, tmp_path / "run", 4) == 130
    assert "step 2 is saved; the same command resumes" in capsys.readouterr().err
    assert checkpoint.open(tmp_path / "run").step == 2
    found, *expected = (
        checkpoint.open(tmp_path / name).arrays()["logits/semantic/weights"]
        for name in ("run/model.ckpt-2", "whole/model.ckpt-2", "whole/model.ckpt-1", "whole/model.ckpt-3")
    )
    distances = [np.abs(found - other).max() for other in expected]
    assert distances[0] < 1e-5 and min(distances[1:]) > 1e-3


def test_recalibration_takes_the_parts_of_all_replicas():
    image = keras.Input((1, 2, 1))
    model = keras.Model(image, BatchNorm(Norm(0.9, 1e-3))(image))
    state = SimpleNamespace(
        model=model,
        step=5,
        config=SimpleNamespace(batch_norm_calibration_batches=1),
        devices=SimpleNamespace(local_replicas=2),
    )
    parts = tuple(tf.reshape(tf.constant([mean - 1, mean + 1]), [1, 1, 2, 1]) for mean in (2.0, 6.0))
    batches = iter([{"image": SimpleNamespace(values=parts)}])
    loop._recalibrate(state, model, lambda: batches, precise_bn.Recalibrator(StepClock(10)))
    np.testing.assert_allclose(precise_bn.batch_norm_layers(model)[0].moving_mean, [4.0])


def test_a_loss_that_is_not_finite_stops_and_saves_the_batch(disc_records, tmp_path, capsys):
    assert train_with(disc_records, tmp_path / "new", 20, base_learning_rate=1e30) == 1
    said = capsys.readouterr().err
    assert "[loss-not-finite]" in said and "pair_" in said and "lower --base_learning_rate" in said
    (saved,) = tmp_path.glob("new/bad_batch_step_*.npz")
    with np.load(saved) as batch:
        assert batch["image"].shape == (2, 33, 33, 3) and batch["label"].shape == (2, 33, 33)
    assert np.isfinite(checkpoint.open(tmp_path / "new").arrays()["Tiny/conv0/weights"]).all()


def test_a_damaged_record_is_named(disc_records, tmp_path, capsys):
    records = shutil.copytree(disc_records, tmp_path / "records")
    shard = records / "train-00000-of-00001.tfrecord"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(bytes(content))
    assert train_with(records, tmp_path / "new", 30) == 1
    assert "train-00000-of-00001.tfrecord" in capsys.readouterr().err


def test_two_trainings_in_one_folder_are_refused(disc_records, tmp_path):
    command = [sys.executable, os.path.join(ROOT, "deeplab", "train.py")]
    command += flags_for(disc_records, tmp_path / "run", 100000, save_interval_steps=1, **MOBILENET)
    # A shell's background jobs ignore Ctrl-C, and so would their children.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    try:
        wait_for(lambda: (tmp_path / "run" / "model.ckpt-1.index").exists())  # before it, a stop has nothing to save
        second = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        assert second.returncode == 1 and "[folder-in-use]" in second.stderr
    finally:
        first.send_signal(signal.SIGINT)
        said = first.communicate(timeout=120)[1]
    assert first.returncode == 130 and "is saved; the same command resumes" in said
    assert checkpoint.open(tmp_path / "run").step > 0


@pytest.mark.slow
def test_a_kill_leaves_a_training_that_resumes(disc_records, tmp_path, capsys):
    command = [sys.executable, os.path.join(ROOT, "deeplab", "train.py")]
    command += flags_for(disc_records, tmp_path / "run", 100000, save_interval_steps=1, **MOBILENET)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(manager.all_checkpoints(tmp_path / "run")) > 2)
    process.kill()
    process.wait()
    reached = checkpoint.open(tmp_path / "run").step
    assert train_with(disc_records, tmp_path / "run", reached + 2, save_interval_steps=1, **MOBILENET) == 0
    assert f"step {reached + 1}/" in capsys.readouterr().err


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def test_a_profile_is_written_when_asked_for(disc_records, tmp_path):
    assert train_with(disc_records, tmp_path / "run", 12, profile_logdir=tmp_path / "profile") == 0
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_balance_clipping_schedule_and_warm_up_train_and_resume(disc_records, tmp_path, capsys):
    given = {
        "class_balance": "sqrt",
        "gradient_clip_norm": 0.1,
        "learning_policy": "one_cycle",
        "slow_start_step": 1,
        "slow_start_burnin_type": "linear",
        "save_interval_steps": 2,
    }
    assert train_with(disc_records, tmp_path / "whole", 4, **given) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    for path in tmp_path.glob("parts/model.ckpt-4*"):
        path.unlink()
    assert train_with(disc_records, tmp_path / "parts", 4, **given) == 0
    whole, resumed = (checkpoint.open(tmp_path / run / "model.ckpt-4").arrays() for run in ("whole", "parts"))
    for name, value in whole.items():
        np.testing.assert_allclose(resumed[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    saved = yaml.safe_load((tmp_path / "whole" / "config.yml").read_text())
    assert saved["loss"]["class_balance"] == "sqrt" and saved["optimizer"]["gradient_clip_norm"] == 0.1
    assert train_with(disc_records, tmp_path / "parts", 6, **{**given, "class_balance": "none"}) == 1
    assert "--class_balance: was sqrt, is none" in capsys.readouterr().err


def test_all_that_the_model_sees_and_minimizes_resumes_exactly(disc_records, tmp_path):
    """Augmentation, mixtures, repeated images, chosen crops, balance per batch and the auxiliary head."""
    more = {
        "augmentation": "strong", "mosaic": 0.3, "cutmix": 0.3, "copy_paste": 0.3, "rot90": 0.5, "elastic": 2,
        "sampling": "repeat_factor", "crop_sampling": "class_centered", "class_balance": "adaptive",
        "loss": "cross_entropy + 0.5*dice", "auxiliary_loss_weight": 0.4, "batch_norm_calibration_batches": 0,
    }  # fmt: skip
    once, twice = tmp_path / "once", tmp_path / "twice"
    assert train_with(disc_records, once, 4, **more, save_interval_steps=2) == 0
    shutil.copytree(once, twice)
    for path in twice.glob("model.ckpt-4*"):
        path.unlink()
    (twice / "checkpoint").unlink()
    assert checkpoint.open(twice).step == 2
    assert train_with(disc_records, twice, 4, **more, save_interval_steps=2) == 0
    first, second = (checkpoint.open(folder).arrays() for folder in (once, twice))
    assert first.keys() == second.keys() and "auxiliary/logits/weights" in first
    for name, array in first.items():
        np.testing.assert_allclose(array, second[name], atol=1e-5, err_msg=name)
    predictor = load(str(twice))  # the model that predicts has no auxiliary head
    assert not [name for name in variables_by_name(predictor.model) if name.startswith("auxiliary")]


def test_an_image_alone_cannot_be_mixed(disc_records, tmp_path, capsys):
    assert train_with(disc_records, tmp_path / "run", train_batch_size=1, class_mix=0.5) == 1
    assert "--class_mix" in (said := capsys.readouterr().err) and "[conflicting-settings]" in said
