"""Models on Keras' JAX backend, in a process of its own: `python tests/support/on_jax.py CASES.json OUTPUT.npz`.

`tests/deeplab/model/test_other_backends.py` calls it, and compares what it writes with the same models on TensorFlow.
TensorFlow must not be imported here.
"""

import json
import os
import sys

if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

from deeplab.config.model_config import ModelConfig
from deeplab.model import MERGED_LOGITS, build_model
from slim.layers import variable_name, variables_by_name
from support.golden_recipe import image, weight

CLASSES = 5


def main(cases: str, output: str) -> None:
    """Logits of every case; of those that ask for them, gradients, and the logits in training.

    The gradients are those with fixed statistics of batch norm. With the batch's own, gradients of a few images are so
    sensitive to rounding that two kernels of TensorFlow itself disagree.
    """
    with open(cases, encoding="utf-8") as file:
        asked = json.load(file)
    import jax

    found = {}
    for name, case in asked.items():
        model = golden_model(case["config"], train_batch_norm=False)
        pixels = image(*case["size"], batch=2).astype(np.float32)
        logits = jax.jit(lambda values, model=model: model(values, training=False)[MERGED_LOGITS])
        found[f"{name}/logits"] = np.asarray(logits(pixels))
        if case["gradients"]:
            found |= {f"{name}/gradients/{key}": value for key, value in gradients(model, pixels).items()}
            learning = golden_model(case["config"], train_batch_norm=True)
            found[f"{name}/training"] = training_logits(learning, pixels)
    assert keras.backend.backend() == "jax" and "tensorflow" not in sys.modules
    np.savez(output, **found)


def golden_model(config: dict, train_batch_norm: bool) -> keras.Model:
    """A model with golden weights and without dropout: each backend draws other numbers."""
    model = build_model(ModelConfig(**config), CLASSES, train_batch_norm=train_batch_norm)
    for key, variable in variables_by_name(model).items():
        variable.assign(weight(key, tuple(variable.shape)))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model


def training_logits(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Logits in training, where batch norm uses the batch's statistics."""
    import jax

    states = [
        [variable.value for variable in part] for part in (model.trainable_variables, model.non_trainable_variables)
    ]
    outputs, _ = jax.jit(lambda *states: model.stateless_call(*states, pixels, training=True))(*states)
    return np.asarray(outputs[MERGED_LOGITS])


def gradients(model: keras.Model, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Of the mean square of the logits in training, by TensorFlow-1 names."""

    import jax

    def loss(trainable):
        outputs, _ = model.stateless_call(trainable, fixed, pixels, training=True)
        return (outputs[MERGED_LOGITS] ** 2).mean()

    fixed = [variable.value for variable in model.non_trainable_variables]
    slopes = jax.jit(jax.grad(loss))([variable.value for variable in model.trainable_variables])
    names = [variable_name(variable) for variable in model.trainable_variables]
    return {name: np.asarray(slope) for name, slope in zip(names, slopes, strict=True)}


if __name__ == "__main__":
    main(*sys.argv[1:])
