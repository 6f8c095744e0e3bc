"""Phases of a training with fake quantization, its refusals, and its exact resume."""

import itertools
import shutil

import numpy as np
import pytest
from support import tiny_backbone
from support.errors import raises
from tensorflow.lite.python import schema_py_generated as schema

from deeplab import checkpoint, train
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import TrainConfig
from deeplab.export import export
from deeplab.inference.load import load
from deeplab.training import quantization_phases
from deeplab.training.quantization_phases import Phase, phase_at
from slim.layers import folded_units, variables_by_name

pytestmark = pytest.mark.xdist_group("training")


def test_phases_count_steps_as_contrib_quantize_does():
    config = ModelConfig(quantize_delay_step=3, quantize_freeze_bn_step=4)
    found = [phase_at(config, step) for step in range(5)]
    assert found == [Phase(False, False)] * 2 + [Phase(True, False)] + [Phase(True, True)] * 2
    assert phase_at(ModelConfig(quantize_delay_step=0), 0) == Phase(True, False)
    assert {phase_at(ModelConfig(), step) for step in (0, 10**6)} == {Phase(False, False)}


def test_a_checkpoint_has_the_counter_that_tensorflow_1_resumes_from_only_with_a_delay():
    assert quantization_phases.counter(ModelConfig(quantize_delay_step=0)) == {}
    (counter,) = quantization_phases.counter(ModelConfig(quantize_delay_step=7)).values()
    assert counter.dtype == "int64" and counter.shape == ()


@pytest.mark.parametrize(
    ("model", "more", "code", "field"),
    [
        ({"quantize_delay_step": 0}, {"precision": "mixed_float16"}, "conflicting-settings", "precision"),
        ({"quantize_delay_step": 0}, {"num_clones": 2}, "not-supported", "num_clones"),
        ({"quantize_freeze_bn_step": 5}, {}, "missing-setting", "quantize_freeze_bn_step"),
    ],
)
def test_what_does_not_go_together_is_refused(model, more, code, field):
    with raises(code, field):
        quantization_phases.require_consistent(ModelConfig(**model), TrainConfig(train_batch_size=8, **more))


def train_with(records, folder, **more) -> int:
    words = {
        "dataset_dir": records,
        "train_logdir": folder,
        "model_variant": "tiny",
        "train_crop_size": "33,33",
        "train_batch_size": 4,
        "training_number_of_steps": 5,
        "base_learning_rate": 0.01,
        "random_seed": 1,
        "batch_norm_calibration_batches": 1,
        "save_interval_steps": 1,
        "max_checkpoints_to_keep": 99,
        "quantize_delay_step": 3,
        "quantize_freeze_bn_step": 5,
        "ema_decay": 0.9,
        "freeze": "Tiny/conv0",
        "freeze_steps": 2,
        **more,
    }
    return train.COMMAND.main([f"--{name}={value}" for name, value in words.items()])


@pytest.fixture(scope="module")
def trained(disc_records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantized") / "whole"
    with tiny_backbone.registered():
        assert train_with(disc_records, folder) == 0
    return folder


def arrays(folder, step=None):
    return checkpoint.open(folder if step is None else folder / f"model.ckpt-{step}").arrays()


@pytest.mark.parametrize("stop", [1, 4])
def test_a_stopped_training_resumes_exactly_in_every_phase(trained, disc_records, tmp_path, stop):
    shutil.copytree(trained, tmp_path / "stopped")
    for step in range(stop + 1, 6):
        for path in (tmp_path / "stopped").glob(f"model.ckpt-{step}.*"):
            path.unlink()
    with tiny_backbone.registered():
        assert train_with(disc_records, tmp_path / "stopped") == 0
    whole, stopped = arrays(trained), arrays(tmp_path / "stopped")
    assert whole.keys() == stopped.keys()
    assert [name for name in whole if not np.array_equal(whole[name], stopped[name])] == []


def test_ranges_move_in_every_phase_and_statistics_until_they_are_frozen(trained):
    steps = [arrays(trained, step) for step in range(1, 5)]
    for before, after in itertools.pairwise(steps):
        assert before["Tiny/conv1/act_quant/max"] != after["Tiny/conv1/act_quant/max"]
        assert not np.array_equal(before["Tiny/conv1/weights"], after["Tiny/conv1/weights"])
    frozen, released, last = steps[0], steps[1], steps[-1]
    assert np.array_equal(arrays(trained, 0)["Tiny/conv0/weights"], frozen["Tiny/conv0/weights"])
    assert not np.array_equal(released["Tiny/conv1/BatchNorm/moving_mean"], last["Tiny/conv1/BatchNorm/moving_mean"])
    for name in ("moving_mean", "moving_variance"):
        assert np.array_equal(last[f"Tiny/conv1/BatchNorm/{name}"], arrays(trained, 5)[f"Tiny/conv1/BatchNorm/{name}"])
    assert [step["fake_quantization_step"] for step in steps] == [1, 2, 3, 4]


def test_the_model_of_the_averages_has_the_ranges_of_its_own_weights(trained):
    with tiny_backbone.registered():
        predictor = load(trained)
    variables = variables_by_name(predictor.model)
    weights = variables["logits/semantic/weights"].numpy()
    assert not np.array_equal(weights, arrays(trained)["logits/semantic/weights"]), "averages"
    assert variables["logits/semantic/weights_quant/max"].numpy() == max(weights.max(), 0)
    assert np.unique(np.asarray(predictor.logits_of(np.zeros((1, 33, 33, 3), np.float32)))).size <= 256


# ---- together with pruning and distillation

PRUNED = {"prune_sparsity": 0.75, "prune_begin": 1, "prune_end": 4, "prune_every": 1}


def int8_kernels(path) -> list[np.ndarray]:
    """The int8 kernels of a LiteRT file as [kh, kw, in, out]."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    tensors = [one for one in model.subgraphs[0].tensors if one.type == schema.TensorType.INT8 and len(one.shape) == 4]
    contents = [(one.shape, model.buffers[one.buffer].data) for one in tensors]
    kernels = [np.array(data, np.uint8).view(np.int8).reshape(shape) for shape, data in contents if data is not None]
    return [kernel.transpose(1, 2, 3, 0) for kernel in kernels]


@pytest.fixture(scope="module")
def teacher(disc_records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("together") / "teacher"
    plain = {"quantize_delay_step": -1, "quantize_freeze_bn_step": -1, "training_number_of_steps": 2}
    with tiny_backbone.registered():
        assert train_with(disc_records, folder, **plain) == 0
    return folder


@pytest.fixture(scope="module", params=["logits", "features"])
def pruned_student(request, disc_records, teacher, tmp_path_factory):
    """A training with fake quantization, pruning and a teacher: its settings and its folder."""
    folder = tmp_path_factory.mktemp("together") / "whole"
    given = {**PRUNED, "distill_from": teacher, "distill_on": request.param}
    with tiny_backbone.registered():
        assert train_with(disc_records, folder, **given) == 0
    return given, folder


def test_pruned_students_resume_exactly(pruned_student, disc_records, tmp_path):
    given, folder = pruned_student
    shutil.copytree(folder, tmp_path / "stopped")
    for step in (3, 4, 5):
        for path in (tmp_path / "stopped").glob(f"model.ckpt-{step}.*"):
            path.unlink()
    with tiny_backbone.registered():
        assert train_with(disc_records, tmp_path / "stopped", **given) == 0
    whole, stopped = arrays(folder), arrays(tmp_path / "stopped")
    assert whole.keys() == stopped.keys() and any(name.endswith("/mask") for name in whole)
    assert [name for name in whole if not np.array_equal(whole[name], stopped[name])] == []


def test_pruned_students_are_exported_with_their_zeros_and_ranges(pruned_student, tmp_path):
    _, folder = pruned_student
    with tiny_backbone.registered():
        export(folder, tmp_path, ("litert_int8", "frozen_graph"), crop_size=(33, 33), parity_images=2)
        model = load(folder).model
    found = arrays(folder)
    masks = {name.removesuffix("/mask"): mask for name, mask in found.items() if name.endswith("/mask")}
    exported = int8_kernels(tmp_path / "model_int8.tflite")
    rounded = {layer.name.replace(".", "/"): np.asarray(layer.rounded_kernel()) for layer in folded_units(model)}
    assert masks
    for scope, mask in masks.items():
        assert np.mean(mask == 0) == pytest.approx(0.75, abs=0.05)
        assert not rounded[scope][mask == 0].any(), "fake quantization keeps zeros"
        assert any(kernel.shape == mask.shape and not kernel[mask == 0].any() for kernel in exported), scope
    assert "Pruned: 7" in (tmp_path / "export_report.md").read_text()
