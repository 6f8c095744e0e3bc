"""Distillation: the losses beside NumPy, every kind of teacher, the cache, and what it refuses."""

import dataclasses
import gc
import pathlib
import weakref

import numpy as np
import pytest
import tensorflow as tf
from support import tiny_backbone
from support.errors import raises
from support.object_storage import ObjectStorage

from deeplab import train
from deeplab.config.command_line import Command
from deeplab.config.compression_config import CompressionConfig
from deeplab.data.dataset import Dataset, load_dataset
from deeplab.export import export
from deeplab.inference.predictor import ModelPredictor
from deeplab.model import MERGED_LOGITS
from deeplab.training import distillation
from deeplab.training.callbacks import curves
from deeplab.training.distillation import FEATURES, TEACHER, Distillation, attention_loss, soft_target_loss
from deeplab.training.distribution import ALONE, Devices
from deeplab.training.setup import Prepared, TrainingConfigs, require_equal_workers
from deeplab.utils import remote_files
from slim import kernels

GIVEN = {
    "model_variant": "tiny",
    "train_crop_size": "33,33",
    "train_batch_size": 4,
    "training_number_of_steps": 2,
    "random_seed": 1,
    "batch_norm_calibration_batches": 0,
    "log_steps": 1,
}


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with tiny_backbone.registered():
        yield


def train_with(records, folder, **more) -> int:
    words = {"dataset_dir": records, "train_logdir": folder, **GIVEN, **more}
    return train.COMMAND.main([f"--{name}={value}" for name, value in words.items()])


@pytest.fixture(scope="module")
def teacher(disc_records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    assert train_with(disc_records, folder, base_learning_rate=0.05) == 0
    return folder


@pytest.fixture(scope="module")
def exported(teacher, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "teacher.pb"
    export(teacher, path, ("frozen_graph",), crop_size=(33, 33), parity_images=1, measure_time=False)
    return path


@pytest.fixture(scope="module")
def dataset(disc_records):
    return load_dataset(disc_records)


@pytest.fixture(scope="module")
def batch():
    draw = np.random.default_rng(0)
    label = draw.integers(0, 3, (2, 33, 33)).astype(np.int32)
    label[0, :9] = 255
    return {"image": tf.constant(draw.integers(0, 256, (2, 33, 33, 3)), tf.float32), "label": tf.constant(label)}


# ---- losses


def test_soft_targets_are_the_divergence_times_the_temperature_squared():
    draw = np.random.default_rng(1)
    student, teacher = draw.normal(size=(2, 2, 3, 4, 5)).astype(np.float32)
    counts = (draw.random((2, 3, 4)) < 0.7).astype(np.float32)
    soft = [np.exp(one / 3) / np.exp(one / 3).sum(-1, keepdims=True) for one in (student, teacher)]
    divergence = (soft[1] * np.log(soft[1] / soft[0])).sum(-1)
    expected = 9 * (divergence * counts).sum() / counts.sum()
    found = soft_target_loss(*map(tf.constant, (student, teacher, counts)), 3.0)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert float(soft_target_loss(*map(tf.constant, (student, student, counts)), 3.0)) == pytest.approx(0, abs=1e-6)
    assert float(soft_target_loss(*map(tf.constant, (student, teacher, 0 * counts)), 3.0)) == 0


def test_attention_maps_of_other_widths_and_sizes_are_compared():
    draw = np.random.default_rng(2)
    student = draw.normal(size=(2, 5, 5, 4)).astype(np.float32)
    teacher = draw.normal(size=(2, 5, 5, 9)).astype(np.float32)
    maps = [(one**2).sum(-1).reshape(2, -1) for one in (student, teacher)]
    maps = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in maps]
    expected = ((maps[0] - maps[1]) ** 2).sum(1).mean()
    assert float(attention_loss(student, teacher)) == pytest.approx(expected, rel=1e-5)
    assert float(attention_loss(student, np.repeat(3 * student, 2, axis=-1))) == pytest.approx(0, abs=1e-6)
    larger = tf.image.resize(student, (9, 9), method="nearest")
    assert np.isfinite(float(attention_loss(student, larger)))


# ---- teachers


def test_a_model_that_predicts_as_its_teacher_has_no_loss(teacher, dataset, batch):
    made = Distillation(CompressionConfig(distill_from=str(teacher)), dataset)
    assert isinstance(made.teacher, ModelPredictor)
    logits = made.teacher.logits_of(batch["image"])
    same = made.loss({MERGED_LOGITS: logits}, batch, None, 255)
    other = made.loss({MERGED_LOGITS: -logits}, batch, None, 255)
    assert float(same) == pytest.approx(0, abs=1e-5) and float(other) > 0.01
    plain = tf.data.Dataset.from_tensors(batch)
    assert made.add_to(plain) is plain


@pytest.mark.parametrize("cached", [False, True])
def test_a_student_that_aligns_otherwise_gets_the_teachers_map_at_its_places(
    teacher, dataset, batch, tmp_path, monkeypatch, cached
):
    config = CompressionConfig(distill_from=str(teacher), distill_cache=str(tmp_path) if cached else "")
    made = Distillation(config, dataset, align_corners=False)
    maps = tf.constant(np.random.default_rng(3).normal(size=(2, 9, 9, 3)), tf.float32)
    monkeypatch.setattr(made.teacher, "logits_of", lambda images: maps)
    given = {**batch, TEACHER: tf.cast(tf.nn.softmax(maps), tf.float16)}
    known = tf.cast(given[TEACHER], tf.float32) if cached else maps
    placed = kernels.resize_bilinear(kernels.resize_bilinear(known, 33, 33), 8, 8, align_corners=False)
    moved = kernels.resize_bilinear(known, 8, 8)
    losses = [
        float(made.loss({MERGED_LOGITS: tf.math.log(one) if cached else one}, given, None, 255))
        for one in (placed, moved)
    ]
    assert losses[0] == pytest.approx(0, abs=1e-6) and losses[1] > 1e-3


def test_an_exported_teacher_says_what_its_checkpoint_says(teacher, exported, dataset, batch):
    live = Distillation(CompressionConfig(distill_from=str(teacher)), dataset)
    file = Distillation(CompressionConfig(distill_from=str(exported)), dataset)
    (prepared,) = file.add_to(tf.data.Dataset.from_tensors(batch))
    assert prepared[TEACHER].dtype == tf.float16 and prepared[TEACHER].shape == (2, 9, 9, 3)
    outputs = {MERGED_LOGITS: tf.random.stateless_normal([2, 9, 9, 3], (1, 2))}
    expected = live.loss(outputs, batch, None, 255)
    assert float(file.loss(outputs, prepared, None, 255)) == pytest.approx(float(expected), rel=0.05)


def test_a_cache_spares_the_teacher_and_knows_it(teacher, dataset, batch, tmp_path, monkeypatch):
    config = CompressionConfig(distill_from=str(teacher), distill_cache=str(tmp_path / "cache"))
    made = Distillation(config, dataset)
    (first,) = made.add_to(tf.data.Dataset.from_tensors(batch))
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2
    again = Distillation(config, dataset)
    monkeypatch.setattr(again.teacher, "predict", None)  # asking it is an error
    (second,) = again.add_to(tf.data.Dataset.from_tensors(batch))
    np.testing.assert_array_equal(first[TEACHER], second[TEACHER])
    again.teacher.step += 1  # another teacher
    with pytest.raises(tf.errors.OpError):
        list(again.add_to(tf.data.Dataset.from_tensors(batch)))


def test_the_teacher_is_gone_with_its_dataset(exported, dataset, batch):
    made = Distillation(CompressionConfig(distill_from=str(exported)), dataset)
    stream = iter(made.add_to(tf.data.Dataset.from_tensors(batch).repeat()))
    of_teacher = weakref.ref(made.teacher)
    del made
    gc.collect()
    next(stream)
    assert of_teacher() is not None
    del stream
    gc.collect()
    assert of_teacher() is None


def test_features_of_a_teacher_with_the_same_weights_are_equal(teacher, dataset, batch):
    made = Distillation(CompressionConfig(distill_from=str(teacher), distill_on="features"), dataset)
    model = distillation.with_features(made.teacher.model)
    outputs = model(batch["image"])
    assert set(outputs) == {MERGED_LOGITS, FEATURES}
    assert float(made.loss(outputs, batch, outputs[FEATURES], 255)) == pytest.approx(0, abs=1e-6)
    assert float(made.loss(outputs, batch, outputs[FEATURES][:, ::-1], 255)) > 1e-4


def test_teachers_that_do_not_fit_are_refused(teacher, exported, dataset):
    config = CompressionConfig(distill_from=str(teacher))
    with raises("class-count-mismatch", field="distill_from"):
        Distillation(config, dataclasses.replace(dataset, class_names=("a", "b")))
    with raises("other-dataset", field="distill_from"):
        Distillation(config, dataclasses.replace(dataset, class_names=tuple(reversed(dataset.class_names))))
    with raises("not-supported", field="distill_on"):
        Distillation(CompressionConfig(distill_from=str(exported), distill_on="features"), dataset)
    with raises("conflicting-settings", field="distill_cache"):
        CompressionConfig(distill_from="a", distill_on="features", distill_cache="b")


# ---- training


def losses_of(folder) -> list[float]:
    return [row["total_loss"] for row in curves.read(folder / curves.LOSSES)]


def test_a_training_learns_from_it_in_parts_and_begins_with_the_same_weights(disc_records, exported, tmp_path):
    assert train_with(disc_records, tmp_path / "plain", accumulate_steps=2) == 0
    assert train_with(disc_records, tmp_path / "taught", accumulate_steps=2, distill_from=exported) == 0
    assert losses_of(tmp_path / "taught")[0] > losses_of(tmp_path / "plain")[0] + 1e-4
    unused = {"distill_from": exported, "distill_weight": 0}
    assert train_with(disc_records, tmp_path / "weightless", accumulate_steps=2, **unused) == 0
    assert losses_of(tmp_path / "weightless") == losses_of(tmp_path / "plain")


def test_a_training_learns_features(disc_records, teacher, tmp_path):
    given = {"distill_from": teacher, "distill_on": "features", "eval_every": 2}
    assert train_with(disc_records, tmp_path / "run", **given) == 0
    assert len(losses_of(tmp_path / "run")) == 2


def test_a_remote_cache_is_written_to_its_storage(tmp_path, monkeypatch):
    """And the copies that several workers have of it and of the teacher are no difference between them."""
    monkeypatch.setenv("DEEPLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_files, "file_system", lambda scheme: ObjectStorage(tmp_path / "storage"))
    paths = []

    def run(given):
        paths.append(given["distill_cache"])
        pathlib.Path(given["distill_cache"]).mkdir()
        (pathlib.Path(given["distill_cache"]) / "a.npy").write_text("1")

    command = Command("train", run, train.GROUPS, "")
    assert command.main(["--distill_cache=s3://b/cache"]) == 0
    assert (tmp_path / "storage" / "b" / "cache" / "a.npy").read_text() == "1"
    facts = []
    monkeypatch.setattr(Devices, "require_equal", lambda self, found: facts.append(found))
    for path in (paths[0], "/other/place"):
        compression = CompressionConfig(distill_from=path, distill_cache=path)
        groups = (train.ModelConfig(), train.ResizeConfig(), train.DatasetConfig("a"), train.LossConfig())
        configs = TrainingConfigs(*groups, train.OptimizerConfig(), train.TrainConfig("b"), compression=compression)
        require_equal_workers(configs, Prepared(Dataset("x", ("a", "b")), [], 0, None), ALONE)
    assert facts[0] == facts[1]
