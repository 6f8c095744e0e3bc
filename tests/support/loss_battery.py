"""What every loss is tested for. A loss gets it all by a class of a few lines:

    class TestFocal(LossBattery):
        loss = "focal"
        golden = True

All of it goes through `deeplab.losses.get`, as training does.
"""

import json
import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab import losses
from support.loss_batches import CLASSES, IGNORE, batch

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "loss_values.json"


class LossBattery:
    """All tests; see the head of this file.

    Attributes:
      loss, settings: what `deeplab.losses.get` is given.
      golden: whether tests/golden/loss_values.json has values and gradients of other implementations.
      never_negative: whether the value is at least 0.
      weighs_classes: whether `label_weights` change the value.
      best: value of a perfect and certain prediction.
    """

    loss = ""
    settings: dict[str, Any] = {}  # noqa: RUF012
    golden = False
    never_negative = True
    weighs_classes = True
    best = 0.0

    def value(self, logits, labels, kind=tf.float32, **settings: Any) -> tuple[float, np.ndarray]:
        """The value, and its gradient with respect to the logits, which are of the given float type."""
        loss = losses.get(self.loss, ignore_label=IGNORE, **self.settings, **settings)
        value, gradient = traced(loss, tf.cast(logits, kind), tf.constant(labels))
        assert value.shape == () and value.dtype == tf.float32
        return float(value), gradient.numpy()

    def test_equals_other_implementations(self):
        if not self.golden:
            pytest.skip("nothing to compare with")
        for case in json.loads(GOLDEN.read_text())[self.loss]:
            logits, labels = batch(**case["batch"])
            value, gradient = self.value(logits, labels)
            assert value == pytest.approx(case["value"], rel=1e-5), case
            wanted = np.array(case["gradient"], np.float32)
            found = gradient.reshape(-1, gradient.shape[-1])[:: case["gradient_every"]]
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5 * np.abs(wanted).max())

    def test_value_and_gradient_are_finite_and_not_zero(self):
        value, gradient = self.value(*batch())
        assert np.isfinite(value) and np.isfinite(gradient).all() and np.any(gradient)
        assert value >= 0 or not self.never_negative

    def test_ignored_pixels_do_not_count(self):
        logits, labels = batch()
        other = np.where((labels == IGNORE)[..., np.newaxis], 7 - 2 * logits, logits)
        (value, gradient), (again, _) = self.value(logits, labels), self.value(other, labels)
        assert again == pytest.approx(value, rel=1e-6)
        assert not np.any(gradient[labels == IGNORE])

    @pytest.mark.parametrize("settings", [{}, {"label_weights": (1.0, 2.0, 0.5)}])
    def test_nothing_labeled_is_zero_without_gradient(self, settings):
        logits, labels = batch()
        value, gradient = self.value(logits, np.full_like(labels, IGNORE), **settings)
        assert value == 0.0 and not np.any(gradient)

    def test_absent_classes(self):
        logits, labels = batch()
        value, gradient = self.value(logits, np.where(labels == IGNORE, IGNORE, 1))
        assert np.isfinite(value) and np.isfinite(gradient).all()

    @pytest.mark.parametrize("scale", [1e2, 1e4])
    def test_extreme_logits(self, scale):
        logits, labels = batch()
        value, gradient = self.value(scale * logits, labels)
        assert np.isfinite(value) and np.isfinite(gradient).all()

    @pytest.mark.parametrize("kind", [tf.float16, tf.bfloat16])
    def test_half_precision_is_computed_in_float32(self, kind):
        logits, labels = batch()
        rounded = tf.cast(tf.cast(logits, kind), tf.float32).numpy()
        assert self.value(logits, labels, kind)[0] == pytest.approx(self.value(rounded, labels)[0], rel=1e-6)

    def test_perfect_predictions_are_best(self):
        _, labels = batch()
        perfect = 40 * np.eye(CLASSES, dtype=np.float32)[np.where(labels == IGNORE, 0, labels)]
        value, _ = self.value(perfect, labels)
        assert value == pytest.approx(self.best, abs=1e-4)
        assert value < self.value(-perfect, labels)[0]

    def test_a_step_down_the_gradient_lowers_it(self):
        logits, labels = batch()
        value, gradient = self.value(logits, labels)
        step = 0.1 * np.abs(logits).max() / np.abs(gradient).max()
        assert self.value(logits - step * gradient, labels)[0] < value

    def test_class_weights(self):
        logits, labels = batch()
        plain, _ = self.value(logits, labels)
        assert self.value(logits, labels, label_weights=(1.0,) * CLASSES)[0] == pytest.approx(plain, rel=1e-6)
        changed, _ = self.value(logits, labels, label_weights=(1.0, 5.0, 0.5))
        assert np.isfinite(changed)
        assert (abs(changed - plain) > 1e-4 * abs(plain)) == self.weighs_classes

    def test_small_logits_are_enlarged(self):
        logits, labels = batch()
        small = logits[:, ::2, ::2]
        enlarged, _ = self.value(keras_resized(small, labels.shape[1:3]), labels)
        assert self.value(small, labels)[0] == pytest.approx(enlarged, rel=1e-5)

    def test_sizes_unknown_when_traced(self):
        logits, labels = batch()
        loss = losses.get(self.loss, ignore_label=IGNORE, **self.settings)
        shapes = [tf.TensorSpec([None, None, None, CLASSES]), tf.TensorSpec([None, None, None], tf.int32)]
        unknown = tf.function(loss.value, input_signature=shapes)
        assert float(unknown(logits, labels)) == pytest.approx(self.value(logits, labels)[0], rel=1e-6)

    def test_keras_compiles_saves_and_loads_it(self, tmp_path):
        logits, labels = batch()
        image = keras.Input((None, None, CLASSES))
        model = keras.Model(image, keras.layers.Dense(CLASSES, kernel_initializer="identity")(image))
        model.compile(optimizer="sgd", loss=losses.get(self.loss, ignore_label=IGNORE, **self.settings))
        expected = self.value(logits, labels)[0]
        assert model.evaluate(logits, labels, batch_size=len(logits), verbose=0) == pytest.approx(expected, rel=1e-5)
        model.fit(logits, labels, verbose=0)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert again.loss.get_config() == model.loss.get_config()


def traced(loss, logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Value and gradient, computed inside a `tf.function` as in a training step."""

    @tf.function(autograph=False)
    def run(logits, labels):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss.value(logits, labels)
        return value, tape.gradient(value, logits)

    return run(logits, labels)


def keras_resized(logits: np.ndarray, size) -> np.ndarray:
    """Logits [B, h, w, C] enlarged bilinearly with aligned corners."""
    from slim import kernels

    return np.asarray(kernels.resize_bilinear_portable(logits, *size))
