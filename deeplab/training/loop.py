"""The training loop: one page, read from top to bottom.

`train` sets up model, optimizer, starting point and data, then steps until the end. Callbacks write progress, summaries
and checkpoints on the way. What can go wrong in between stops it with the last checkpoint intact.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deeplab.config.durations import Length
from deeplab.config.training_config import TrainConfig
from deeplab.data import remapping
from deeplab.losses import segmentation_loss
from deeplab.model import build_model
from deeplab.training import (
    cache_plan,
    callbacks,
    compilation,
    distillation,
    distribution,
    evaluation_model,
    freezing,
    guards,
    memory,
    optimizers,
    precise_bn,
    pruning,
    quantization_phases,
    schedules,
    setup,
    starting_point,
)
from deeplab.training.averages import Averages
from deeplab.training.callbacks import live_evaluation, weight_averaging
from deeplab.training.distillation import Distillation
from deeplab.training.distribution import ALONE, Devices
from deeplab.training.loss_scale import LossScale
from deeplab.training.loss_watch import LossWatch
from deeplab.training.randomness import StepClock
from deeplab.training.setup import Prepared, TrainingConfigs
from deeplab.training.state import TrainState, replica_parts
from deeplab.training.step import Trainer, TrainingBatch, make_train_step
from deeplab.utils import console
from deeplab.utils.processes import extend_grace
from slim.layers import variables_by_name

MAX_UNCHECKED_STEPS = 100  # on a GPU; a loss that is not finite is found after so many steps at the latest


def train(configs: TrainingConfigs, prepared: Prepared, devices: Devices | None = None) -> str:
    """Trains to `training_number_of_steps`, from where an earlier run in `train_logdir` stopped.

    Args:
      configs: what to train, on what, how long.
      prepared: dataset, seed and starting point; both from `setup.prepare`.
      devices: as `distribution.open_devices` gives them; None = `num_clones` of this machine.

    Returns:
      Prefix of the last checkpoint.

    Raises:
      UserError: unusable input, a loss that is not finite, a checkpoint that does not fit, a full disk.
      KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint of all completed steps has been written.
    """
    config = configs.train
    distribution.allow_memory_growth()
    devices = devices or Devices(distribution.make_strategy(config.num_clones))
    prepared = _agreed(configs, prepared, devices)
    keras.utils.set_random_seed(prepared.seed)
    trainer = make_trainer(configs, prepared, devices.strategy)

    variables = trainer.variables()
    first_step = _restore(trainer, variables, configs, prepared, devices)
    if _is_complete(config, trainer.total_steps, first_step, devices):
        return prepared.resumed.prefix if prepared.resumed else ""
    cache_bytes = _memory_for_images(configs, prepared, devices, trainer, first_step)
    devices.broadcast(variables)
    configs = _with_compilation(configs, prepared, devices, trainer, first_step)
    if devices.is_chief:
        setup.save_config(configs, prepared)
    console.note(distribution.describe(devices, config.train_batch_size))
    state = _make_state(configs, prepared, devices, trainer, variables, first_step)
    step_at = _step_functions(configs, prepared, trainer, devices.strategy, first_step)
    with guards.deferred_signals() as stop:
        state.stop = stop
        _run(state, step_at, configs, prepared, cache_bytes)
    if stop.received and (stop.has_raised or not state.is_last_step):
        console.note(f"stopped: step {state.step} is saved; the same command resumes from there")
        raise KeyboardInterrupt
    console.note(f"done: {state.checkpoint}")
    return state.checkpoint


def _with_compilation(
    configs: TrainingConfigs, prepared: Prepared, devices: Devices, trainer: Trainer, first_step: int
) -> TrainingConfigs:
    """The configs with `jit_compile` as it was decided, for the steps and for `config.yml`."""
    frozen = freezing.frozen_names(configs.train.freeze, trainer.trainable())
    decided = compilation.decide(
        configs.train,
        devices,
        lambda compiled: make_train_step(trainer, devices.strategy, frozen, compiled),
        lambda: _batches(configs, prepared, devices, first_step, trainer.distillation),
        trainer.variables(),
        first_step,
    )
    return dataclasses.replace(configs, train=dataclasses.replace(configs.train, jit_compile=decided))


def _memory_for_images(
    configs: TrainingConfigs, prepared: Prepared, devices: Devices, trainer: Trainer, first_step: int
) -> int:
    """Bytes in which this process keeps decoded images, beside what the steps need."""
    config, workers = configs.train, devices.local_workers
    step = memory.warn(trainer, config, prepared.dataset.num_classes, devices.replicas)
    return cache_plan.cache_bytes(
        config.image_cache,
        prepared.shards,
        prepared.dataset,
        configs.resize,
        to_come=(trainer.total_steps - first_step) * config.train_batch_size,
        reserved=step * devices.local_replicas * workers,
        processes=workers,
    )


def _run(
    state: TrainState,
    step_at: Callable[[int], Callable],
    configs: TrainingConfigs,
    prepared: Prepared,
    cache_bytes: int = 0,
) -> None:
    """The training from its first step to what callbacks do at its end."""
    stop, devices, is_resumed_at_end = state.stop, state.devices, state.is_last_step
    with stop.at_once():
        for actor in state.actors:
            actor.on_start(state)
    if state.stopped_early and prepared.resumed:  # before the first step: nothing has changed
        state.checkpoint = prepared.resumed.prefix
        return
    batches = _batches(configs, prepared, devices, state.step, state.trainer.distillation, cache_bytes)
    _take_steps(state, step_at, batches, prepared.shards, stop)
    if state.is_last_step and not is_resumed_at_end:
        evaluation_model.recalibrate_for_good(state)
        if state.trainer.pruning:
            console.note(evaluation_model.sparsity(state).text())
    for actor in state.actors:
        actor.on_end(state)
    if state.is_last_step:
        devices.barrier()  # the chief still writes


def _agreed(configs: TrainingConfigs, prepared: Prepared, devices: Devices) -> Prepared:
    """What was prepared, with the chief's seed, where several workers have prepared the same.

    Raises:
      UserError: they have other settings or records (`workers-differ`).
    """
    if devices.workers == 1:
        return prepared
    setup.require_equal_workers(configs, prepared, devices)
    return dataclasses.replace(prepared, seed=int(devices.from_chief(np.array(prepared.seed, np.int64))))


def _is_complete(config: TrainConfig, total_steps: int, first_step: int, devices: Devices) -> bool:
    """Whether an earlier run has left nothing to do, which is said; all workers decide alike."""
    if first_step < total_steps:
        return False
    owes = live_evaluation.was_interrupted(config, first_step) or weight_averaging.is_missing(config, first_step)
    if devices.any(owes and devices.is_chief):
        return False
    rule = f"{config.train_logdir} is at step {first_step}: `training_number_of_steps={total_steps}` is"
    console.note(f"{rule} reached; raise it to train longer")
    return True


def _restore(
    trainer: Trainer,
    variables: Mapping[str, keras.Variable | tf.Variable],
    configs: TrainingConfigs,
    prepared: Prepared,
    devices: Devices,
) -> int:
    """Gives the variables their first values, of the chief alone, and returns the steps done, which all know."""
    first_step = starting_point.restore(variables, configs, prepared) if devices.is_chief else 0
    if trainer.averages and not (prepared.resumed and trainer.averages.are_in(prepared.resumed)):
        trainer.averages.reset()
    return int(devices.from_chief(np.array(first_step, np.int64)))


def _batches(
    configs: TrainingConfigs,
    prepared: Prepared,
    devices: Devices,
    step: int,
    teacher: Distillation | None = None,
    cache_bytes: int = 0,
) -> Iterator[TrainingBatch]:
    """The batches of a training from the step that follows `step` updates on."""
    shards, seed = prepared.shards, prepared.seed
    return iter(setup.training_batches(configs, prepared.dataset, shards, devices, seed, step, teacher, cache_bytes))


def _make_state(
    configs: TrainingConfigs,
    prepared: Prepared,
    devices: Devices,
    trainer: Trainer,
    variables: Mapping[str, keras.Variable | tf.Variable],
    first_step: int,
) -> TrainState:
    """What callbacks see of the training, before its first step."""
    config = configs.train
    watch = LossWatch(config.loss_guard, trainer.total_steps, from_scratch=not config.tf_initial_checkpoint)
    folder = config.train_logdir if devices.is_chief else ""
    unchecked = guards.UncheckedResults(lambda step: next(_batches(configs, prepared, ALONE, step)), folder, watch)
    state = TrainState(config, prepared.dataset, trainer, variables, first_step, unchecked)
    state.configs, state.length, state.seed, state.devices = configs, prepared.length, prepared.seed, devices
    state.actors = callbacks.make_all(devices.is_chief)
    recalibrator = precise_bn.Recalibrator(trainer.clock, devices)
    state.recalibrate = lambda model, always=False, brief=False: _recalibrate(
        state, model, lambda: _batches(configs, prepared, devices, state.step), recalibrator, always, brief
    )
    return state


def make_trainer(configs: TrainingConfigs, prepared: Prepared, strategy: tf.distribute.Strategy) -> Trainer:
    """Model, optimizer and loss, with weights and slots at their first values."""
    config, length = configs.train, prepared.length
    schedule = schedules.resolved(configs.optimizer, length)
    clock = StepClock(length.total_steps)
    with strategy.scope(), _dtype_policy(config.precision):
        model = build_model(
            configs.model,
            prepared.dataset.num_classes,
            train_batch_norm=config.fine_tune_batch_norm,
            sync_batch_norm=config.syncs_batch_norm(strategy.num_replicas_in_sync),
            drop_path_keep_probability=config.drop_path_keep_prob,
            training_progress=clock.fraction,
            with_auxiliary_head=configs.loss.auxiliary_loss_weight > 0,
        )
        if configs.compression.distill_from and configs.compression.distill_on == "features":
            model = distillation.with_features(model)
        clock.control(model, prepared.seed)
        weights = variables_by_name(model)
        optimizer = optimizers.make(schedule, {name: v for name, v in weights.items() if v.trainable})
        averages = Averages(weights, config.ema_decay) if config.ema_decay else None
        loss_scale = LossScale() if config.precision == "mixed_float16" else None
        waits = schedule.learning_policy == "plateau"
        rate_scale = tf.Variable(1.0, trainable=False, name="learning_rate_scale") if waits else None
        masks = _make_pruning(configs, length, {name: v for name, v in weights.items() if v.trainable})
    with strategy.scope():  # after the model, whose first weights depend on what was made before
        teacher = distillation.make(configs.compression, prepared.dataset, configs.model.align_corners)
    weighted = dataclasses.replace(configs.loss, label_weights=prepared.label_weights)
    return Trainer(
        model,
        optimizer,
        segmentation_loss.from_config(weighted, prepared.dataset.ignore_label, configs.model.align_corners),
        configs.loss.weight_decay,
        schedule,
        length.total_steps,
        clock,
        configs.loss.weight_decay_mask,
        config.accumulate_steps,
        averages,
        loss_scale,
        rate_scale,
        masks,
        teacher,
        quantization_phases.counter(configs.model),
    )


def _make_pruning(configs: TrainingConfigs, length: Length, trainable: Mapping[str, Any]) -> pruning.Pruning | None:
    """Masks of the kernels to be pruned, without those that are frozen throughout."""
    plan = pruning.plan_of(configs.compression, length)
    if plan is None:
        return None
    train = configs.train
    held = frozenset() if train.freeze_steps else freezing.frozen_names(train.freeze, trainable)
    chosen = pruning.prunable(trainable, configs.compression.prune_keep, plan.structure)
    return pruning.Pruning(plan, {name: trainable[name] for name in chosen if name not in held})


@contextlib.contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    """Makes the layers that are built within the block compute in this precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _step_functions(
    configs: TrainingConfigs,
    prepared: Prepared,
    trainer: Trainer,
    strategy: tf.distribute.Strategy,
    first_step: int,
) -> Callable[[int], Callable]:
    """A function of the steps done that gives the next step's function, and sets batch norm where it changes.

    Says what is pruned, and how many variables are trained.

    Args:
      configs: which variables are frozen and for how long, whether batch norm's statistics learn where they are not,
        the phases of fake quantization, and whether XLA compiles the step.
      prepared: the training's length.
      trainer: model, optimizer and loss.
      strategy: the devices.
      first_step: steps done so far.
    """
    frozen = freezing.frozen_names(configs.train.freeze, trainer.trainable())
    release = prepared.length.steps(configs.train.freeze_steps) if frozen else 0  # step from which all are trained
    if trainer.pruning:
        console.note(trainer.pruning.describe())
    held_at_first = frozen if not release or first_step < release else ()
    console.note(freezing.counts_text(trainer.trainable(), held_at_first, release))
    is_quantized = configs.model.quantize_delay_step >= 0
    is_compiled = configs.train.jit_compile == "true"
    last: tuple[bool, quantization_phases.Phase] | None = None
    train_step: Callable | None = None

    def step_at(step: int) -> Callable:
        nonlocal last, train_step
        is_frozen = bool(frozen) and (not release or step < release)
        phase = quantization_phases.phase_at(configs.model, step)
        if train_step is None or (is_frozen, phase) != last:
            held = frozen if is_frozen else frozenset()
            if frozen or is_quantized:
                trains = configs.train.fine_tune_batch_norm and not phase.keeps_statistics
                freezing.hold_statistics(trainer.model, held, trains)
            if is_quantized and (last is None or phase != last[1]):
                console.note(f"step {step}: {quantization_phases.enter(trainer.model, phase)}")
            if last is not None and is_frozen != last[0]:
                console.note(f"step {step}: {freezing.counts_text(trainer.trainable(), (), 0)}")
            last, train_step = (is_frozen, phase), make_train_step(trainer, strategy, held, is_compiled)
        return train_step

    step_at(first_step)  # from here on, frozen batch norm keeps its statistics
    return step_at


def _take_steps(
    state: TrainState,
    step_at: Callable[[int], Callable],
    batches: Iterator[TrainingBatch],
    shards: list[str],
    stop: guards.StopRequest,
) -> None:
    """Steps until the end or until the training is asked to stop."""
    config, devices = state.config, state.devices
    folder = config.train_logdir if devices.is_chief else ""

    def advise() -> tuple[str, str]:
        need = memory.estimate(state.trainer, config, state.dataset.num_classes, devices.replicas)
        return memory.need_text(need), memory.advice(need, config, devices.replicas)

    def stops() -> bool:
        """Whether a signal came; with several workers, to one of them, and all of them stop after the same step."""
        if devices.workers > 1 and state.step % check_every == 0:
            stop.received = devices.any(stop.received)
            return stop.received
        return stop.received and devices.workers == 1

    check_every = min(config.log_steps, MAX_UNCHECKED_STEPS) if tf.config.list_physical_devices("GPU") else 1
    first_step = state.step
    with guards.interrupted(stop), remapping.one_thread_per_image():
        while not state.is_last_step and not stops():
            with stop.at_once() if devices.workers == 1 else contextlib.nullcontext():
                batch = guards.next_batch(batches, shards)
            # The first call traces and compiles, which takes long; if that is interrupted, no step is counted.
            with stop.at_once() if state.step == first_step else contextlib.nullcontext():
                results = guards.run_step(step_at(state.step), batch, state.step, folder, advise)
            extend_grace(guards.SECONDS_TO_SAVE)
            state.advance(batch, results)
            if state.step % check_every == 0:
                state.require_finite_loss()
            for actor in state.actors:
                actor.after_step(state)


def _recalibrate(
    state: TrainState,
    model: keras.Model,
    make_batches: Callable[[], Iterator[TrainingBatch]],
    recalibrator: precise_bn.Recalibrator,
    always: bool = False,
    brief: bool = False,
) -> None:
    """Computes a model's batch-norm statistics again where needed, over the parts of all devices."""
    layers, steps = precise_bn.batch_norm_layers(model), 0 if always else state.step
    wanted = state.config.batch_norm_calibration_batches
    epoch = state.length.steps_per_epoch if brief else math.inf
    needed = precise_bn.batches_needed(layers, steps, wanted, epoch)
    if needed:
        console.note(f"computing the batch-norm statistics again over {needed} training batches")
        given = itertools.islice(make_batches(), needed)
        if any(layer.norm.synced for layer in layers):  # together, as in a step
            images = (batch["image"] for batch in given)
        else:
            images = (part["image"] for batch in given for part in replica_parts(batch))
            needed *= state.devices.local_replicas
        recalibrator(model, images, needed, state.step)
