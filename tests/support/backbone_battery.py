"""What every backbone is tested for. A backbone gets it all by a class of a few lines:

    class TestXception41(Battery):
        variant = "xception_41"
        golden = (Golden("xception_41_os16", (65, 97)),)

Weights come from `golden_recipe`: they follow from names and shapes, and are the ones that the reference was run with.
"""

import contextlib
import functools
import gzip
import json
import math
import pathlib
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import slim
from slim.layers import variables_by_name
from support.golden_models import zeros_for_random_values
from support.golden_recipe import image, weight

FOLDER = pathlib.Path(__file__).parent.parent / "golden"
OUTPUT_STRIDE = 16  # unless asked for another
CHANNEL_STEP = 8  # the stored maps hold every eighth channel


class Golden(NamedTuple):
    """Feature maps measured on the reference.

    Attributes:
      name: key in the family's file.
      size: height and width of the golden image.
      options: how the backbone is built; output stride 16 unless said otherwise.
    """

    name: str
    size: tuple[int, int]
    options: dict[str, Any] = {}  # noqa: RUF012


class Reference:
    """The comparison with the reference alone, for the deepest networks; `Battery` has it, too.

    Attributes:
      variant: name of the backbone.
      family: golden file `backbones_FAMILY.npz`.
      golden: what is compared with the reference.
      tolerance: of that comparison, in standard deviations of the map.
      options: of the model that the tests without golden numbers use.
    """

    variant = ""
    family = ""
    golden: tuple[Golden, ...] = ()
    tolerance = 1e-4
    options: dict[str, Any] = {}  # noqa: RUF012

    def test_features_equal_the_reference(self):
        if not self.golden:
            pytest.skip("the reference has no such backbone")
        with np.load(FOLDER / f"backbones_{self.family}.npz") as stored:
            expected = {key: stored[key] for key in stored.files}
        for case in self.golden:
            model = golden_model(self.variant, case.options)
            outputs = model(normalized(self.variant, image(*case.size)), training=False)
            for part in ("features", "low_level_os4", "low_level_os8"):
                self._compare(case.name, part, outputs, expected)

    def _compare(self, name, part, outputs, expected):
        for suffix, step in (("", 1), ("_s4", 4)):
            wanted = expected.get(f"{name}/{part}{suffix}")
            if wanted is not None:
                result = np.asarray(outputs[part])[:, ::step, ::step, ::CHANNEL_STEP]
                assert result.shape == wanted.shape
                assert np.abs(result - wanted).max() < self.tolerance * wanted.std(), f"{name} {part}"

    def test_variables_have_the_reference_names_and_shapes(self):
        with gzip.open(FOLDER / "backbone_variables.json.gz") as file:
            expected = json.load(file).get(self.variant)
        if expected is None:
            pytest.skip("the reference has no such backbone")
        assert shapes(golden_model(self.variant, self.options)) == {k: tuple(v) for k, v in expected.items()}


class Battery(Reference):
    """All tests; see the head of this file.

    Attributes:
      nominal_stride, dense_strides: output strides whose features are compared.
      consistent_at: end point up to which the atrous comparison holds; None = the final features.
      constant: parts of variable names that are set to 0 for the atrous comparison, since they see the whole map.
    """

    nominal_stride = 32
    dense_strides: tuple[int, ...] = (16, 8)
    consistent_at: str | None = None
    constant: tuple[str, ...] = ()

    def test_dense_features_subsampled_are_the_strided_ones(self):
        strided = self._features_at(self.nominal_stride)
        for stride in self.dense_strides:
            step = self.nominal_stride // stride
            dense = self._features_at(stride)[:, ::step, ::step]
            assert dense.shape == strided.shape
            assert np.abs(dense - strided).max() < 1e-4 * strided.std(), f"output stride {stride}"

    def _features_at(self, stride):
        options = {**self.options, "output_stride": stride}
        if self.consistent_at or self.constant:
            model = build(self.variant, options, self.consistent_at)
            assign_golden_weights(model, self.constant)
        else:
            model = golden_model(self.variant, options)
        return np.asarray(model(normalized(self.variant, image(65, 97)), training=False)["features"])

    def test_any_image_size(self):
        model = golden_model(self.variant, self.options)
        stride = self.options.get("output_stride", OUTPUT_STRIDE)
        for height, width in ((33, 47), (64, 32)):
            outputs = model(normalized(self.variant, image(height, width)), training=False)
            assert outputs["features"].shape[1:3] == (math.ceil(height / stride), math.ceil(width / stride))
            for key in outputs:
                if key.startswith("low_level") and int(key.split("os")[1]) < stride:
                    low = int(key.split("os")[1])
                    assert outputs[key].shape[1:3] == (math.ceil(height / low), math.ceil(width / low)), key

    def test_one_training_step_changes_every_variable(self):
        model = spare_model(self.variant, self.options)
        before, gradients = step(model)
        assert [name for name, gradient in gradients.items() if gradient is None or not np.any(gradient)] == []
        after = values(model)
        unchanged = [name for name in after if "moving" in name and np.array_equal(before[name], after[name])]
        assert unchanged == []

    def test_frozen_batch_norm_keeps_its_averages_and_still_learns(self):
        model = build(self.variant, {**self.options, "train_batch_norm": False})
        assign_golden_weights(model)
        before, gradients = step(model)
        assert all(np.array_equal(before[name], value) for name, value in values(model).items() if "moving" in name)
        scales = {name: gradient for name, gradient in gradients.items() if name.endswith(("gamma", "beta"))}
        assert scales
        assert all(gradient is not None and np.any(gradient) for gradient in scales.values())

    def test_weights_saved_by_name_bring_the_features_back(self, tmp_path):
        model = golden_model(self.variant, self.options)
        arrays = values(model)
        assert len(arrays) == len(model.weights)
        np.savez(tmp_path / "weights.npz", **arrays)
        again = spare_model(self.variant, self.options)
        with np.load(tmp_path / "weights.npz") as saved:
            for name, variable in variables_by_name(again).items():
                variable.assign(saved[name])
        batch = normalized(self.variant, image(33, 47))
        for name, array in values(again).items():
            np.testing.assert_array_equal(array, arrays[name], err_msg=name)
        np.testing.assert_array_equal(again(batch)["features"], model(batch)["features"])

    def test_keras_saves_and_loads_it(self, tmp_path):
        model = golden_model(self.variant, self.options)
        model.save(tmp_path / "model.keras")
        with zeros_for_random_values():  # all values are then read from the file
            again = keras.models.load_model(tmp_path / "model.keras")
        assert shapes(again) == shapes(model)
        batch = normalized(self.variant, image(33, 47))
        for key, expected in model(batch).items():
            np.testing.assert_array_equal(again(batch)[key], expected, err_msg=key)
        assert own_configs(again) == own_configs(model)

    def test_mixed_precision(self):
        full = golden_model(self.variant, self.options)
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            half = build(self.variant, self.options)
        finally:
            keras.config.set_dtype_policy("float32")
        for name, variable in variables_by_name(half).items():
            assert variable.dtype == "float32", name
        assign_golden_weights(half)
        batch = normalized(self.variant, image(65, 65))
        result = half(batch, training=False)["features"]
        assert result.dtype == tf.bfloat16
        wanted = np.asarray(full(batch, training=False)["features"]).ravel()
        assert np.corrcoef(wanted, np.asarray(tf.cast(result, tf.float32)).ravel())[0, 1] > 0.9


def build(variant: str, options: dict, end_point: str | None = None, random_values: bool = False) -> keras.Model:
    """Backbone as a model: `features` (or the end point in their place) and `low_level_osN`.

    Its kernels are zeros unless random values are asked for.
    """
    given = keras.Input((None, None, 3))
    with contextlib.nullcontext() if random_values else zeros_for_random_values():
        features = slim.build(variant, given, slim.Options(**options))
    outputs = {"features": features.end_points[end_point] if end_point else features.final}
    outputs |= {f"low_level_os{stride}": tensor for stride, tensor in features.low_level.items()}
    return keras.Model(given, outputs)


def own_configs(model: keras.Model) -> list[str]:
    """The configs of the layers that are this project's own."""
    own = (layer for layer in model._flatten_layers() if type(layer).__module__.startswith("slim"))
    return [json.dumps(layer.get_config(), default=str) for layer in own]


def golden_model(variant: str, options: dict) -> keras.Model:
    """A backbone with the golden weights; tests that use it leave it as it is."""
    return _golden_model(variant, _key(options))


def spare_model(variant: str, options: dict) -> keras.Model:
    """A backbone whose weights are the initial ones or those that another test has left; every test may change them."""
    return _spare_model(variant, _key(options))


def _key(options: dict) -> tuple:
    """Options in a fixed order and without the default stride, so that equal models are built once."""
    return tuple(
        sorted((name, value) for name, value in options.items() if (name, value) != ("output_stride", OUTPUT_STRIDE))
    )


@functools.lru_cache(maxsize=4)
def _golden_model(variant: str, key: tuple) -> keras.Model:
    model = build(variant, dict(key))
    assign_golden_weights(model)
    return model


@functools.lru_cache(maxsize=1)
def _spare_model(variant: str, key: tuple) -> keras.Model:
    return build(variant, dict(key), random_values=True)


def assign_golden_weights(model: keras.Model, zero: tuple[str, ...] = ()) -> None:
    """Gives a model the golden weights, and zeros to variables whose names hold a part of `zero`."""
    for name, variable in variables_by_name(model).items():
        fixed = any(part in name for part in zero)
        variable.assign(np.zeros(variable.shape) if fixed else cached_weight(name, tuple(variable.shape)))


@functools.lru_cache(maxsize=1500)
def cached_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return weight(name, shape)


def forget_models() -> None:
    """Drops the models that were kept for the next test."""
    _golden_model.cache_clear()
    _spare_model.cache_clear()


def normalized(variant: str, pixels: np.ndarray) -> np.ndarray:
    """Golden image as the backbone wants it, float32."""
    backbone = slim.find(variant)
    if backbone.own_normalization:
        return pixels.astype(np.float32)
    if backbone.subtract_imagenet_mean:
        return pixels.astype(np.float32) - np.float32(slim.IMAGENET_MEAN)
    return pixels.astype(np.float32) * np.float32(2 / 255) - np.float32(1)


def shapes(model: keras.Model) -> dict[str, tuple[int, ...]]:
    return {name: tuple(variable.shape) for name, variable in variables_by_name(model).items()}


def values(model: keras.Model) -> dict[str, np.ndarray]:
    return {name: np.array(variable) for name, variable in variables_by_name(model).items()}


def step(model: keras.Model) -> tuple[dict, dict]:
    """(values before, gradients by name) of one forward and backward pass in training mode."""
    batch = np.random.default_rng(0).uniform(-1, 1, (2, 65, 65, 3)).astype(np.float32)
    before = values(model)
    with tf.GradientTape() as tape:
        features = tf.cast(model(batch, training=True)["features"], tf.float32)
        loss = tf.reduce_mean(features * np.random.default_rng(1).normal(size=features.shape).astype(np.float32))
    names = {id(variable): name for name, variable in variables_by_name(model).items()}
    trainable = [variable for variable in model.trainable_variables if id(variable) in names]
    gradients = tape.gradient(loss, [variable.value for variable in trainable])
    return before, {
        names[id(variable)]: None if gradient is None else np.asarray(gradient)
        for variable, gradient in zip(trainable, gradients, strict=True)
    }
