"""The JAX side of `accelerator.py`: the project's model on Keras' JAX backend, one step per line of its input.

    PYTHON benchmarks/jax_peer.py HEAD CROP BATCH PRECISION train|forward

It needs JAX and Keras (`scripts/make_peer_env.sh jax`), no TensorFlow, and runs on the device that JAX chooses. A
training step is forward pass, cross-entropy, gradient, and SGD with momentum and weight decay, compiled as one
function. Its input and output have the form of `pytorch_peer.py`'s.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "jax"
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

import jax
import jax.numpy as jnp
import keras

from deeplab.config.model_config import ModelConfig
from deeplab.model import MERGED_LOGITS, build_model
from slim import kernels

CLASSES = 21
RATE, MOMENTUM, WEIGHT_DECAY = 0.001, 0.9, 4e-5


def main() -> None:
    head, crop, batch, precision, mode = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:6]
    keras.config.set_dtype_policy(precision)
    full = {"atrous_rates": (6, 12, 18), "decoder_output_stride": (4,)}
    model = build_model(ModelConfig(**(full if head == "full" else {})), CLASSES)

    def loss_of(weights, others, image, label):
        outputs, others = model.stateless_call(weights, others, image, training=True)
        logits = kernels.resize_bilinear(outputs[MERGED_LOGITS], crop, crop)
        log_probability = jnp.take_along_axis(jax.nn.log_softmax(logits), label[..., None], -1)
        return -log_probability.mean(), others

    @jax.jit(donate_argnums=(0, 1, 2))
    def step(weights, others, slots, image, label):
        (loss, others), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, others, image, label)
        decays = [WEIGHT_DECAY if weight.ndim == 4 else 0.0 for weight in weights]
        gradients = [
            gradient + decay * weight for gradient, decay, weight in zip(gradients, decays, weights, strict=True)
        ]
        slots = [MOMENTUM * slot + gradient for slot, gradient in zip(slots, gradients, strict=True)]
        return [weight - RATE * slot for weight, slot in zip(weights, slots, strict=True)], others, slots, loss

    @jax.jit
    def forward(weights, others, image):
        outputs, _ = model.stateless_call(weights, others, image, training=False)
        return outputs[MERGED_LOGITS].mean()

    keys = jax.random.split(jax.random.key(1))
    image = jax.random.uniform(keys[0], (batch, crop, crop, 3), maxval=255.0)
    label = jax.random.randint(keys[1], (batch, crop, crop), 0, CLASSES)
    weights = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    slots = [jnp.zeros_like(weight) for weight in weights]
    count = sum(weight.size for weight in weights)
    device = jax.devices()[0]
    print(json.dumps({"version": jax.__version__, "device": device.device_kind, "parameters": count}), flush=True)
    for _ in sys.stdin:
        if mode == "train":
            weights, others, slots, result = step(weights, others, slots, image, label)
        else:
            result = forward(weights, others, image)
        memory = (device.memory_stats() or {}).get("peak_bytes_in_use", 0)
        print(json.dumps({"result": float(result), "memory": memory}), flush=True)


if __name__ == "__main__":
    main()
