"""Channels that are taken out: the smaller model computes what the wide one does without them, and trains on."""

import dataclasses

import numpy as np
import pytest
from support import golden_recipe
from support.errors import raises
from support.golden_models import zeros_for_random_values

from deeplab import checkpoint, train
from deeplab.checkpoint.bundle import ArrayCheckpoint
from deeplab.checkpoint.infer_config import describe_shapes
from deeplab.config.model_config import ModelConfig
from deeplab.export import export
from deeplab.inference.load import load
from deeplab.model import MERGED_LOGITS, build_model
from deeplab.training import channel_pruning
from slim.layers import variables_by_name

WIDE = ModelConfig(depth_multiplier=0.5, decoder_output_stride=(8, 4), aspp_convs_filters=8, decoder_filters=8)
PIXELS = np.random.default_rng(0).uniform(0, 255, (1, 33, 33, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def weights():
    """Golden weights of the wide model."""
    with zeros_for_random_values():
        model = build_model(WIDE, 3)
    return {name: golden_recipe.weight(name, tuple(v.shape)) for name, v in variables_by_name(model).items()}


def logits_of(config, weights) -> np.ndarray:
    with zeros_for_random_values():
        model = build_model(config, 3)
    variables = variables_by_name(model)
    assert {name: tuple(v.shape) for name, v in variables.items()} == {n: w.shape for n, w in weights.items()}
    for name, variable in variables.items():
        variable.assign(weights[name])
    return np.asarray(model(PIXELS)[MERGED_LOGITS])


def test_the_narrow_model_is_the_wide_one_without_the_channels(weights):
    """Channels that nothing reads can be taken out without a change: they are the least important ones."""
    narrow = channel_pruning.narrowed(WIDE, 0.5)
    before = channel_pruning.widths(WIDE)
    assert narrow.expansion_channels == tuple(max(8, round(width / 16) * 8) for width in before)
    silent = dict(weights)
    draw = np.random.default_rng(1)
    for block, (wide, kept) in enumerate(zip(before, narrow.expansion_channels, strict=True), start=1):
        unread = draw.permutation(wide)[: wide - kept]
        for name, axis in channel_pruning.places(weights, block, WIDE).items():
            if "project" in name:  # block projections and those of the decoder read them
                silent[name] = np.array(silent[name])
                silent[name][(slice(None),) * axis + (unread,)] = 0
    cut = channel_pruning.cut(ArrayCheckpoint(silent), narrow).arrays()
    assert sum(array.size for array in cut.values()) < 0.7 * sum(array.size for array in weights.values())
    expected = logits_of(WIDE, silent)
    np.testing.assert_allclose(logits_of(narrow, cut), expected, atol=1e-4 * np.std(expected))


def test_the_most_important_channels_have_large_scales_and_are_read():
    arrays = {
        "b/project/weights": np.array([1.0, 3.0, 2.0, -4.0, 0.0], np.float32).reshape(1, 1, 5, 1),
        "b/depthwise/BatchNorm/gamma": np.array([9.0, 1.0, 2.0, -1.0, 9.0], np.float32),
    }
    assert channel_pruning.most_important(arrays, "b", 3).tolist() == [0, 2, 3]
    del arrays["b/depthwise/BatchNorm/gamma"]
    assert channel_pruning.most_important(arrays, "b", 2).tolist() == [1, 3]


def test_its_variables_tell_its_widths():
    narrow = channel_pruning.narrowed(WIDE, 0.5)
    for config, expected in ((WIDE, ()), (narrow, narrow.expansion_channels)):
        with zeros_for_random_values():
            shapes = {name: tuple(v.shape) for name, v in variables_by_name(build_model(config, 3)).items()}
        assert describe_shapes(shapes).settings["expansion_channels"] == expected


def test_what_cannot_be_pruned_is_refused(weights):
    with raises("unsupported-by-backbone", field="prune_channels"):
        channel_pruning.narrowed(ModelConfig(model_variant="resnet_v1_50"), 0.5)
    with raises("unsupported-by-backbone", field="expansion_channels"):
        build_model(ModelConfig(model_variant="xception_41", expansion_channels=(8,) * 16), 3)
    with raises("unsupported-by-backbone", field="expansion_channels"):
        build_model(dataclasses.replace(WIDE, expansion_channels=(8, 8)), 3)
    wide = channel_pruning.narrowed(WIDE, 0.0)
    few = channel_pruning.cut(ArrayCheckpoint(weights), channel_pruning.narrowed(WIDE, 0.9))
    with raises("checkpoint-mismatch", field="prune_channels"):
        channel_pruning.cut(few, wide)


def test_a_pruned_model_trains_resumes_and_is_exported(disc_records, tmp_path, weights):
    from deeplab.checkpoint.manager import save_step

    (tmp_path / "wide").mkdir()
    save_step(tmp_path / "wide", 5, weights, keep=1)
    given = {
        "dataset_dir": disc_records,
        "train_logdir": tmp_path / "run",
        "tf_initial_checkpoint": tmp_path / "wide",
        "prune_channels": 0.5,
        "depth_multiplier": 0.5,
        "decoder_output_stride": "8,4",
        "aspp_convs_filters": 8,
        "decoder_filters": 8,
        "train_crop_size": "33,33",
        "train_batch_size": 2,
        "training_number_of_steps": 1,
        "random_seed": 1,
        "batch_norm_calibration_batches": 0,
    }
    words = [f"--{name}={value}" for name, value in given.items()]
    assert train.COMMAND.main(words) == 0
    assert train.COMMAND.main([*words, "--training_number_of_steps=2"]) == 0  # a resumed training is not pruned again
    opened = checkpoint.open(tmp_path / "run")
    assert opened.step == 2
    narrow = channel_pruning.narrowed(WIDE, 0.5)
    assert tuple(opened.config["expansion_channels"]) == narrow.expansion_channels
    assert opened.shapes["MobilenetV2/expanded_conv_16/expand/weights"][3] == narrow.expansion_channels[-1]
    done = export(tmp_path / "run", tmp_path / "out", ("frozen_graph",), crop_size=(33, 33), parity_images=1)
    image = PIXELS[0].astype(np.uint8)
    live, frozen = (load(source).predict(image).labels for source in (tmp_path / "run", done.paths[0]))
    assert np.mean(live == frozen) > 0.99
