"""Devices of one process; several are tested in test_connection.py and test_step.py."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises

from deeplab.config.training_config import TrainConfig
from deeplab.training import distribution
from deeplab.training.distribution import ALONE, Devices

CONFIG = {"train_logdir": "unused"}


def test_one_process_has_what_it_has():
    value = np.arange(3, dtype=np.float32)
    assert ALONE.is_chief and (ALONE.worker, ALONE.workers, ALONE.replicas, ALONE.local_replicas) == (0, 1, 1, 1)
    assert ALONE.sum(value) is value and ALONE.from_chief(value) is value and ALONE.gathered(b"x") == [b"x"]
    assert ALONE.any(True) and not ALONE.any(False)
    variable = tf.Variable([1.0])
    ALONE.broadcast({"v": variable})
    ALONE.require_equal({"a": "1"})
    assert variable.numpy() == 1


def test_facts_that_differ_are_named(monkeypatch):
    texts = [b'{"train_crop_size": "33,33", "loss": "dice"}', b'{"train_crop_size": "65,65", "loss": "dice"}']
    monkeypatch.setattr(Devices, "gathered", lambda self, content: texts)
    with raises("workers-differ", where="worker 1") as info:
        ALONE.require_equal({})
    assert info.value.value == "train_crop_size" and "65,65" in info.value.rule and "33,33" in info.value.rule


@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        ({"distribution": "multi_worker"}, "missing-workers", "distribution"),
        ({"num_replicas": 2}, "missing-workers", "num_replicas"),
        ({"distribution": "tpu"}, "not-enough-devices", "distribution"),
    ],
)
def test_devices_that_are_not_there(monkeypatch, given, code, field):
    for name in ("TF_CONFIG", "SLURM_STEP_NUM_TASKS", "TPU_NAME"):
        monkeypatch.delenv(name, raising=False)
    with raises(code, field):
        distribution.open_devices(TrainConfig(**CONFIG, **given))


def test_a_number_of_workers_that_is_not_that_of_the_cluster(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"index": 0}}')
    with raises("missing-workers", "num_replicas"):
        distribution.open_devices(TrainConfig(**CONFIG, num_replicas=3))
    with raises("indivisible-batch", "train_batch_size") as info:
        distribution.open_devices(TrainConfig(**CONFIG, train_batch_size=9))
    assert info.value.hint == "`train_batch_size=10`"


@pytest.mark.parametrize("name", ["auto", "one", "mirrored"])
def test_one_device_needs_no_strategy(monkeypatch, name):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    devices = distribution.open_devices(TrainConfig(**CONFIG, distribution=name))
    assert devices.cluster is None and devices.strategy is tf.distribute.get_strategy()
    assert distribution.describe(devices, 8) == "one CPU, batches of 8"


def test_batches_of_workers_are_made_for_their_part():
    asked = []
    assert ALONE.batches(lambda **given: asked.append(given)) is None and asked == [{}]


def test_each_device_of_a_process_reads_its_own_copy_of_the_variables():
    program = """
import keras, tensorflow as tf
from deeplab.training import distribution
devices = distribution.Devices(distribution.make_strategy(2))
with devices.strategy.scope():
    layer = keras.layers.Dense(1, use_bias=False)
    layer.build((None, 4))
for number, copy in enumerate(layer.kernel.value.values):
    copy.assign(tf.fill([4, 1], float(number + 1)))

@tf.function
def of(number):
    with devices.replica(number):
        return layer(tf.ones((1, 4)))

print([of(number).numpy().item() for number in (0, 1)])
"""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.splitlines()[-1:] == ["[4.0, 8.0]"], done.stderr[-2000:]
