"""Config of training: loss, optimizer, and the training itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deeplab.config import durations
from deeplab.config.data_config import IMAGE_SIDE
from deeplab.config.fields import Config, Floats, Size, Texts, setting, split_words
from deeplab.utils.errors import UserError, nearest

TENSORBOARD, MLFLOW, WANDB = TRACKERS = ("tensorboard", "mlflow", "wandb")
IMAGENET = "imagenet"  # as `tf_initial_checkpoint`: published weights of the backbone
BEST_FOR_BACKBONE = "best_for_backbone"  # likewise, but segmentation weights if there are any

SCALE_FACTOR: dict[str, Any] = {"above": 0, "max": 16, "because": "memory grows with its square"}
MIN_BATCH_FOR_BATCH_NORM = 12  # images whose statistics batch norm should see
_MAX_BATCH_GB = 256
_MAX_SCALES = 10000


@dataclass(frozen=True)
class LossConfig(Config):
    """Loss."""

    loss: str = setting(
        "cross_entropy", "Loss, or a sum of losses with factors and options: cross_entropy + 0.5*focal(gamma=2)."
    )
    label_weights: Floats = setting((), "Loss weight per class, background included (unset: 1 for all).", min=0)
    class_balance: str = setting(
        "none",
        "Loss weights computed from the pixels of each class in the training split, or (adaptive) in each batch; "
        "`label_weights` replace them.",
        choices=("none", "inverse", "sqrt", "median", "enet", "effective", "adaptive"),
    )
    auxiliary_loss_weight: float = setting(
        0.0,
        "Factor of the loss of a second classifier on an earlier map of the backbone, for training alone (usual: 0.4); "
        "0 = none.",
        min=0,
    )
    upsample_logits: bool = setting(
        True, "Compute the loss at label size (off: at the size of the logits, with subsampled labels).", rare=True
    )
    top_k_percent_pixels: float = setting(
        1.0, "Fraction of the pixels, those with the largest loss, that count; 0 to 1.", above=0, max=1
    )
    hard_example_mining_step: int = setting(
        0, "Steps over which that fraction falls from 1 to its value; 0 = at once.", min=0, unit="steps"
    )
    weight_decay: float = setting(
        4e-5,
        "L2 coefficient of the convolution kernels; with adamw and lion, the fraction of a weight that is subtracted "
        "per step and unit of learning rate (usual: 0.01 to 0.1).",
        min=0,
    )
    weight_decay_mask: str = setting(
        "kernels",
        "Variables that decay: kernels (the reference: without depthwise ones), all_kernels, all, or a regular "
        "expression found in their names.",
        rare=True,
    )


@dataclass(frozen=True)
class OptimizerConfig(Config):
    """Optimizer and learning rate."""

    optimizer: str = setting(
        "momentum",
        "Optimizer: momentum, adam, rmsprop, adamw, lion, or the name of one in keras.optimizers, such as nadam.",
    )
    momentum: float = setting(0.9, "Momentum coefficient of momentum and rmsprop.", min=0, max=1, rare=True)
    nesterov: bool = setting(False, "Nesterov's momentum (with momentum).", rare=True)
    rmsprop_decay: float = setting(
        0.9, "Fraction of the squared gradients' average that rmsprop keeps.", min=0, max=1, rare=True
    )
    rmsprop_epsilon: float = setting(1e-10, "Epsilon of rmsprop.", above=0, rare=True)
    adam_learning_rate: float = setting(0.001, "Learning rate of Adam; constant, without a schedule.", min=0)
    adam_epsilon: float = setting(1e-8, "Epsilon of adam and adamw.", min=0, rare=True)
    learning_policy: str = setting(
        "poly",
        "Schedule of the learning rate: poly, step, cosine, cosine_restarts, exponential, piecewise, constant, "
        "one_cycle or plateau (lower it when evaluations stop improving; needs `eval_every`).",
    )
    base_learning_rate: float = setting(1e-4, "Learning rate at the start of the schedule.", min=0)
    learning_power: float = setting(0.9, "Exponent of the poly schedule.", min=0, rare=True)
    decay_steps: float = setting(
        0.0, "Length of the poly schedule; 0 = all steps after the warm-up.", min=0, unit="steps", rare=True
    )
    end_learning_rate: float = setting(0.0, "Learning rate at the end of the poly schedule.", min=0, rare=True)
    learning_rate_decay_factor: float = setting(
        0.1,
        "Factor by which step and exponential lower the learning rate in each period, and plateau each time.",
        min=0,
        rare=True,
    )
    learning_rate_decay_step: int = setting(
        2000, "Period of the step and exponential schedules.", min=1, unit="steps", rare=True
    )
    learning_rate_boundaries: Texts = setting(
        (), "Points at which piecewise changes the learning rate, each a duration: 0.5,0.8 or '10 epochs,20 epochs'."
    )
    learning_rate_values: Floats = setting(
        (), "Learning rates of piecewise between those points, one more than points.", min=0
    )
    restart_period: str = setting("0.25", "Length of the first period of cosine_restarts.", unit="duration", rare=True)
    restart_period_factor: float = setting(
        1.0,
        "Length of each period of cosine_restarts over that of the one before.",
        min=1,
        max=100,
        because="the second period would have no end",
        rare=True,
    )
    plateau_patience: int = setting(
        3,
        "Evaluations in a row without a better `best_metric` after which plateau lowers the learning rate.",
        min=1,
        unit="evaluations",
        rare=True,
    )
    warmup: str = setting(
        "",
        "Linear warm-up from 0 for any optimizer and schedule: steps, '1 epoch', or a fraction such as 0.05; replaces "
        "the slow start (unset: none).",
        unit="duration",
    )
    slow_start_step: int = setting(0, "Length of the warm-up, before the schedule begins.", min=0, unit="steps")
    slow_start_learning_rate: float = setting(1e-4, "Learning rate of the warm-up, or at its beginning.", min=0)
    slow_start_burnin_type: str = setting(
        "none",
        "Course of the warm-up: none = `slow_start_learning_rate` throughout; linear = from there to "
        "`base_learning_rate`.",
        choices=("none", "linear"),
    )
    gradient_clip_norm: float = setting(
        0.0, "Largest global norm of all gradients together; larger ones are scaled down to it; 0 = no limit.", min=0
    )
    backbone_learning_rate_multiplier: float = setting(
        1.0, "Learning rate of the backbone over that of the head.", min=0, max=1000, because="training would diverge"
    )
    last_layer_gradient_multiplier: float = setting(1.0, "Gradient multiplier of the variables of the head.", min=0)
    last_layers_contain_logits_only: bool = setting(
        False, "The head is the logits layer alone (off: also ASPP and decoder)."
    )

    def validate(self) -> None:
        points = self.boundaries()
        for text in points:
            durations.require(text, "learning_rate_boundaries", above_zero=True)
        for name in ("restart_period", "warmup"):
            durations.require(getattr(self, name), name, above_zero=name == "restart_period")
        if self.learning_policy == "piecewise" and len(self.learning_rate_values) != len(points) + 1:
            count = len(self.learning_rate_values)
            rule = f"{len(points)} `learning_rate_boundaries` need {len(points) + 1} rates, not {count}"
            hint = "`learning_rate_boundaries=0.5,0.8` `learning_rate_values=0.01,0.001,0.0001`"
            raise UserError("wrong-number-of-values", rule, hint, field="learning_rate_values", value=count)
        if self.warmup and self.slow_start_step:
            rule = "is a warm-up, as is `slow_start_step`"
            raise UserError("conflicting-settings", rule, "give one of them", field="warmup")
        if self.nesterov and self.optimizer != "momentum":
            rule = f"belongs to `optimizer=momentum`, not {self.optimizer}"
            raise UserError("conflicting-settings", rule, "leave it out", field="nesterov")

    def boundaries(self) -> tuple[str, ...]:
        """Return `learning_rate_boundaries` one by one, however they were written."""
        return tuple(split_words(self.learning_rate_boundaries))


@dataclass(frozen=True)
class TrainConfig(Config):
    """Training: data, length, augmentation, initial weights, what is written when."""

    train_logdir: str = setting(
        "", "Folder for checkpoints and summaries.", required=True, resumable=True, writes="folder"
    )
    train_split: str = setting("train", "Split to train on.")
    ignore_data_errors: bool = setting(
        False, "Train although the check of the data found errors (off: refuse).", rare=True, resumable=True
    )
    train_crop_size: Size = setting((513, 513), "Height,width of the training crop.", **IMAGE_SIDE, unit="pixels")
    train_batch_size: int = setting(
        8,
        "Images per step, over all devices.",
        min=1,
        max=65536,
        because="such a batch does not fit into memory",
        unit="images",
    )
    training_number_of_steps: int = setting(
        30000, "Global step at which the training ends.", min=1, unit="steps", resumable=True
    )
    training_epochs: float = setting(
        0.0,
        "Length of the training in passes over the training images; replaces `training_number_of_steps`; 0 = unused.",
        min=0,
        max=1e6,
        because="no training is that long",
        unit="epochs",
        resumable=True,
    )
    min_scale_factor: float = setting(0.5, "Smallest scale of the augmentation.", **SCALE_FACTOR)
    max_scale_factor: float = setting(2.0, "Largest scale of the augmentation.", **SCALE_FACTOR)
    scale_factor_step_size: float = setting(
        0.25, "Step between the scales of the augmentation; 0 = continuous.", min=0, rare=True
    )
    tf_initial_checkpoint: str = setting(
        "",
        "Weights to start from when `train_logdir` has none: a path (also .pth, .safetensors, .h5), zoo:NAME, imagenet "
        "or best_for_backbone, which prefers segmentation weights (unset: from scratch).",
        resumable=True,
    )
    initialize_last_layer: bool = setting(
        True, "Restore the head as well (off: the head starts from scratch).", resumable=True
    )
    accumulate_steps: int = setting(
        1,
        "Number of parts in which each batch is computed, one after the other: memory for one part, gradients of the "
        "whole batch (batch norm sees one part at a time).",
        min=1,
        max=65536,
        because="a batch has no more images",
        unit="parts",
    )
    precision: str = setting(
        "float32",
        "Precision of the layers; logits, loss, weights and checkpoints are float32 in any case. bfloat16 needs no "
        "scaling; float16 scales the loss.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    )
    jit_compile: str = setting(
        "auto",
        "Compile the training step with XLA: true, false, or auto = if it is faster, which is measured at the start of "
        "a training on one GPU and noted in config.yml; never on a CPU.",
        choices=("auto", "true", "false"),
        resumable=True,
        rare=True,
    )
    freeze: str = setting(
        "none",
        "Variables that keep their values: none, backbone, all_but_logits, or a regular expression found in names.",
    )
    freeze_steps: str = setting(
        "",
        "Time after which everything is trained: steps, '2 epochs', or a fraction such as 0.3 (unset: never).",
        unit="duration",
    )
    ema_decay: float = setting(
        0.0,
        "Fraction that a running average of the weights keeps per step, such as 0.999; evaluation, predictions and "
        "exports use the averages; 0 = none.",
        min=0,
        max=0.999999,
        because="the average would keep its first value",
    )
    average_checkpoints: int = setting(
        0,
        "Number of last checkpoints whose weights are averaged at the end into TRAIN_LOGDIR/averaged; needs "
        "`save_interval_steps`; 0 = none.",
        min=0,
        max=1000,
        because="all of them are kept",
        unit="checkpoints",
        resumable=True,
    )
    fine_tune_batch_norm: bool = setting(True, "Train batch norm (off: keep the statistics of the initial checkpoint).")
    sync_batch_norm: str = setting(
        "auto",
        "Batch norm sees the whole batch of several devices: true, false (each its part, as the reference), or auto = "
        "where a part has fewer than 12 images.",
        choices=("auto", "true", "false"),
        rare=True,
    )
    batch_norm_calibration_batches: int | None = setting(
        None,
        "Training batches with which the batch-norm statistics are computed again before evaluations and the last "
        "checkpoint; 0 = none (unset: if the training was too short for the averages to settle, 60, and one epoch, but "
        "10 to 60, before evaluations).",
        min=0,
        unit="batches",
        rare=True,
        resumable=True,
    )
    drop_path_keep_prob: float = setting(
        1.0,
        "Probability of keeping a path of a NAS backbone in a training step (drop-path), 0 to 1.",
        above=0,
        max=1,
        rare=True,
    )
    random_seed: int | None = setting(
        None,
        "Seed of the initial weights, shuffling and augmentation (unset: a different one for each training).",
        min=0,
        resumable=True,
    )
    image_cache: str = setting(
        "auto",
        "Decoded images that stay in memory after the first epoch, so that they need not be decoded again: memory = "
        "all; none = no images; auto = as many as fit into a quarter of the free memory, at most 4 GB. The batches are "
        "the same.",
        choices=("auto", "none", "memory"),
        resumable=True,
    )
    distribution: str = setting(
        "auto",
        "Devices that share each batch: one = a single device; mirrored = `num_clones` devices of this machine; "
        "multi_worker = those of several processes or machines, as started by `deeplab launch`, srun or TF_CONFIG; "
        "tpu = a TPU; auto = multi_worker if such processes are named, else mirrored if `num_clones` is above 1, else "
        "one. See docs/cluster.md.",
        choices=("auto", "one", "mirrored", "multi_worker", "tpu"),
        resumable=True,
    )
    worker_wait_secs: int = setting(
        60,
        "With several workers: how long each waits for the others at the start before it ends.",
        min=1,
        max=86400,
        because="that is a day",
        unit="seconds",
        rare=True,
        resumable=True,
    )
    num_clones: int = setting(
        1,
        "Devices on this machine that share each batch; with several workers, devices per worker.",
        min=1,
        max=1024,
        because="no machine has so many devices",
        unit="devices",
        resumable=True,
    )
    log_steps: int = setting(10, "Steps between two progress lines.", min=1, unit="steps", resumable=True)
    save_interval_secs: int = setting(1200, "Time between two checkpoints.", min=1, unit="seconds", resumable=True)
    save_interval_steps: int = setting(
        0, "Steps between two checkpoints; 0 = by time alone.", min=0, unit="steps", resumable=True
    )
    max_checkpoints_to_keep: int = setting(
        5, "Number of checkpoints to keep; older ones are removed.", min=1, unit="checkpoints", resumable=True
    )
    eval_every: str = setting(
        "",
        "How often the model is evaluated during the training: steps, '1 epoch', or a fraction such as 0.1 (unset: "
        "never). The best checkpoint is kept in TRAIN_LOGDIR/best, all numbers in history.csv.",
        unit="duration",
        resumable=True,
    )
    eval_split: str = setting("val", "Split that `eval_every` evaluates on.", resumable=True)
    early_stopping: int = setting(
        0,
        "End the training after this many evaluations in a row without a better `best_metric`; 0 = never.",
        min=0,
        unit="evaluations",
        resumable=True,
    )
    best_metric: str = setting(
        "mean_iou",
        "Metric by which the best checkpoint is chosen, `early_stopping` waits and plateau lowers the learning rate: a "
        "name in history.csv, such as mean_iou, pixel_accuracy, or iou/CLASS.",
        resumable=True,
    )
    allow_changes: Texts = setting(
        (), "Settings that may differ from those with which the training began, separated by commas.", resumable=True
    )
    loss_guard: str = setting(
        "stop",
        "What happens when the loss rises to ten times that of the first steps, or from scratch does not fall in a "
        "quarter of the training: stop, warn, or off.",
        choices=("stop", "warn", "off"),
        rare=True,
        resumable=True,
    )
    save_summaries_secs: int = setting(600, "Time between two summaries.", min=1, unit="seconds", resumable=True)
    save_summaries_images: bool = setting(
        False, "Show images, labels and predictions in the summaries.", resumable=True
    )
    report_to: Texts = setting(
        (TENSORBOARD,),
        "Where losses and metrics are sent, separated by commas: tensorboard, mlflow and wandb (extras of the same "
        "names); none = nowhere.",
        resumable=True,
    )
    profile_logdir: str = setting(
        "", "Folder for a profile of a few steps (unset: none).", rare=True, resumable=True, writes="folder"
    )
    num_replicas: int = setting(
        1,
        "Number of workers; it must equal the number of processes that `deeplab launch`, srun or TF_CONFIG start (1: "
        "whatever that number is).",
        min=1,
        rare=True,
        resumable=True,
    )
    master: str = setting("", "Session target.", retired="there are no sessions; devices are found automatically")
    clone_on_cpu: bool = setting(
        False,
        "Clones on CPU.",
        retired="devices are found automatically; hide GPUs with CUDA_VISIBLE_DEVICES=-1",
    )
    startup_delay_steps: int = setting(15, "Delay of worker starts.", retired="workers start together")
    num_ps_tasks: int = setting(
        0,
        "Parameter servers.",
        retired="variables are mirrored on every device; there are no parameter servers",
    )
    task: int = setting(0, "Index of this worker.", retired="the index of the worker is read from TF_CONFIG")

    def syncs_batch_norm(self, replicas: int = 0) -> bool:
        """Return whether batch norm sees the whole batch of several devices: `replicas`, or 0 for `num_clones`."""
        replicas = replicas or self.num_clones
        small = replicas > 1 and self.train_batch_size // replicas < MIN_BATCH_FOR_BATCH_NORM
        return small if self.sync_batch_norm == "auto" else self.sync_batch_norm == "true"

    def changes_allowed(self) -> tuple[str, ...]:
        """Return the names in `allow_changes` one by one, however they were written."""
        return tuple(word.lstrip("-") for word in split_words(self.allow_changes))

    def trackers(self) -> tuple[str, ...]:
        """Return the names in `report_to` one by one, however they were written."""
        words = map(str.lower, split_words(self.report_to))
        return tuple(dict.fromkeys(word for word in words if word != "none"))

    def validate(self) -> None:
        for name in self.trackers():
            if name not in TRACKERS:
                rule = f"{name!r} is not a tracker"
                raise UserError("unknown-name", rule, nearest(name, TRACKERS), field="report_to", value=name)
        self._check_scales()
        self._check_batch()
        durations.require(self.eval_every, "eval_every", above_zero=True)
        if self.early_stopping and not self.eval_every:
            rule = "needs evaluations during the training"
            raise UserError("missing-setting", rule, "add for example `eval_every=500`", field="early_stopping")
        durations.require(self.freeze_steps, "freeze_steps")
        self._check_averaging()
        self._check_devices()

    def _check_scales(self) -> None:
        low, high, step = self.min_scale_factor, self.max_scale_factor, self.scale_factor_step_size
        if low > high:
            rule = f"{low:g} is above `max_scale_factor={high:g}`"
            raise UserError("conflicting-settings", rule, field="min_scale_factor")
        if step and (high - low) / step > _MAX_SCALES:
            rule = f"{step:g} makes more than {_MAX_SCALES} scales between {low:g} and {high:g}"
            hint = "`scale_factor_step_size=0` draws scales continuously"
            raise UserError("out-of-range", rule, hint, field="scale_factor_step_size", value=step)

    def _check_batch(self) -> None:
        if self.train_batch_size % self.num_clones:
            better = -(-self.train_batch_size // self.num_clones) * self.num_clones
            rule = f"{self.train_batch_size} cannot be divided among `num_clones={self.num_clones}` devices"
            raise UserError("indivisible-batch", rule, f"`train_batch_size={better}`", field="train_batch_size")
        height, width = self.train_crop_size
        size = self.train_batch_size * height * width * 3 * 4 / 1e9
        if size > _MAX_BATCH_GB:
            rule = f"a batch of {self.train_batch_size} crops of {height}x{width} pixels takes {size:,.0f} GB"
            raise UserError("out-of-range", rule, "lower it, or `train_crop_size`", field="train_batch_size")
        per_device = self.train_batch_size // self.num_clones
        if per_device % self.accumulate_steps:
            rule = f"{per_device} images per device cannot be divided into {self.accumulate_steps} parts"
            fits = max(part for part in range(1, self.accumulate_steps + 1) if per_device % part == 0)
            raise UserError("indivisible-batch", rule, f"`accumulate_steps={fits}`", field="accumulate_steps")

    def _check_averaging(self) -> None:
        if self.average_checkpoints and not self.save_interval_steps:
            rule = "averages checkpoints at fixed steps"
            hint = "add for example `save_interval_steps=500`"
            raise UserError("missing-setting", rule, hint, field="average_checkpoints")
        if self.average_checkpoints > self.max_checkpoints_to_keep > 0:
            rule = f"{self.average_checkpoints} checkpoints cannot be averaged where fewer are kept"
            hint = f"`max_checkpoints_to_keep={self.average_checkpoints}`"
            raise UserError("conflicting-settings", rule, hint, field="average_checkpoints")

    def _check_devices(self) -> None:
        if self.num_clones > 1 and self.distribution in ("one", "tpu"):
            rule = f"is {self.distribution}, and `num_clones={self.num_clones}` asks for GPUs of this machine"
            raise UserError("conflicting-settings", rule, "give one of them", field="distribution")
        if self.num_replicas > 1 and self.distribution in ("one", "mirrored", "tpu"):
            rule = f"is {self.distribution}, and `num_replicas={self.num_replicas}` asks for several workers"
            raise UserError("conflicting-settings", rule, "`distribution=multi_worker`", field="distribution")
