"""The training loop: one page, read from top to bottom.

`train` sets up model, optimizer, starting point and data, then steps until the end. Callbacks write progress, summaries
and checkpoints on the way. What can go wrong in between stops it with the last checkpoint intact.
"""

from __future__ import annotations

import dataclasses
import itertools

import keras
import tensorflow as tf

from deeplab.losses import segmentation_loss
from deeplab.model import build_model
from deeplab.training import callbacks, distribution, guards, optimizers, precise_bn, setup
from deeplab.training.randomness import StepClock
from deeplab.training.setup import Prepared, TrainingConfigs
from deeplab.training.state import TrainState, replica_parts
from deeplab.training.step import Trainer, make_train_step
from deeplab.utils import console
from slim.layers import variables_by_name

MAX_UNCHECKED_STEPS = 100  # on a GPU; a loss that is not finite is found after so many steps at the latest


def train(configs: TrainingConfigs, prepared: Prepared) -> str:
    """Trains to `training_number_of_steps`, from where an earlier run in `train_logdir` stopped.

    Args:
      configs: what to train, on what, how long.
      prepared: dataset, seed and starting point, from `setup.prepare`.

    Returns:
      Prefix of the last checkpoint.

    Raises:
      UserError: unusable input, a loss that is not finite, a checkpoint that does not fit, a full disk.
      KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint of all completed steps has been written.
    """
    config, dataset, seed = configs.train, prepared.dataset, prepared.seed
    total_steps = config.training_number_of_steps

    # ---- devices, model, optimizer
    distribution.allow_memory_growth()
    strategy = distribution.make_strategy(config.num_clones)
    keras.utils.set_random_seed(seed)
    clock = StepClock(total_steps)
    with strategy.scope():
        model = build_model(
            configs.model,
            dataset.num_classes,
            train_batch_norm=config.fine_tune_batch_norm,
            drop_path_keep_probability=config.drop_path_keep_prob,
            training_progress=clock.fraction,
        )
        clock.control(model, seed)
        trainable = {name: v for name, v in variables_by_name(model).items() if v.trainable}
        optimizer = optimizers.make(configs.optimizer, trainable)
    weighted = dataclasses.replace(configs.loss, label_weights=prepared.label_weights)
    loss = segmentation_loss.from_config(weighted, dataset.ignore_label)
    trainer = Trainer(model, optimizer, loss, configs.loss.weight_decay, configs.optimizer, total_steps, clock)
    train_step = make_train_step(trainer, strategy)

    # ---- starting point
    variables = trainer.variables()
    first_step = setup.restore(variables, configs, prepared)
    if first_step >= total_steps:
        rule = f"{config.train_logdir} is at step {first_step}: `training_number_of_steps={total_steps}` is reached"
        console.note(f"{rule}; raise it to train longer")
        return prepared.resumed.prefix if prepared.resumed else ""
    setup.save_config(configs, prepared)
    console.note(distribution.describe(strategy, config.train_batch_size))

    # ---- data
    def batches_from(step: int):
        return iter(setup.training_batches(configs, dataset, prepared.shards, strategy, seed, step))

    batches = batches_from(first_step)

    # ---- steps
    unchecked = guards.UncheckedResults(lambda step: next(batches_from(step)), config.train_logdir)
    state = TrainState(config, dataset, trainer, variables, first_step, unchecked)
    check_every = min(config.log_steps, MAX_UNCHECKED_STEPS) if tf.config.list_physical_devices("GPU") else 1
    actors = state.actors = callbacks.make_all()
    state.configs = configs
    replicas = strategy.num_replicas_in_sync
    state.recalibrate = lambda: _recalibrate(state, batches_from(state.step), replicas)
    with guards.deferred_signals() as stop:
        for actor in actors:
            actor.on_start(state)
        if state.stopped_early and prepared.resumed:  # before the first step: nothing has changed
            return prepared.resumed.prefix
        while not state.is_last_step and not stop.received:
            batch = guards.next_batch(batches, prepared.shards)
            state.advance(batch, guards.run_step(train_step, batch, state.step, config.train_logdir))
            if state.step % check_every == 0:
                state.require_finite_loss()
            for actor in actors:
                actor.after_step(state)
        if state.is_last_step:
            _recalibrate(state, batches, replicas)
        for actor in actors:
            actor.on_end(state)
    if stop.received and not state.is_last_step:
        console.note(f"stopped: step {state.step} is saved; the same command resumes from there")
        raise KeyboardInterrupt
    console.note(f"done: {state.checkpoint}")
    return state.checkpoint


def _recalibrate(state: TrainState, batches, replicas: int) -> None:
    """Computes the batch-norm statistics again where needed, over the parts of all devices."""
    layers = precise_bn.batch_norm_layers(state.model)
    needed = precise_bn.batches_needed(layers, state.step, state.config.batch_norm_calibration_batches)
    if needed:
        console.note(f"computing the batch-norm statistics again over {needed} training batches")
        images = (part["image"] for batch in itertools.islice(batches, needed) for part in replica_parts(batch))
        precise_bn.recalibrate(state.model, images, needed * replicas, state.trainer.clock, state.step)
