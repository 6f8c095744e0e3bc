"""Settings of training: loss, optimizer, and the training itself.

One dataclass per group of flags, one field per flag; see `fields.py`. No TensorFlow here.
"""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.fields import Floats, Size, require_positive, setting
from deeplab.utils.errors import UserError


@dataclass(frozen=True)
class LossConfig:
    """What the training minimizes."""

    loss: str = setting(
        "cross_entropy", "Loss, or a sum of losses with factors and options: cross_entropy + 0.5*focal(gamma=2)."
    )
    label_weights: Floats = setting((), "Loss weight of each class; none = 1 for all.")
    upsample_logits: bool = setting(True, "Loss at label size (off: at logits size, with subsampled labels).")
    top_k_percent_pixels: float = setting(1.0, "Fraction of hardest pixels kept in the loss, 0 to 1.")
    hard_example_mining_step: int = setting(
        0, "Steps over which that fraction shrinks from 1 to its value; 0 = at once."
    )
    weight_decay: float = setting(4e-5, "L2 coefficient of convolution kernels.")

    def __post_init__(self) -> None:
        if not 0 < self.top_k_percent_pixels <= 1:
            raise UserError(
                "out-of-range",
                f"is a fraction above 0 and at most 1, not {self.top_k_percent_pixels}",
                f"`top_k_percent_pixels={self.top_k_percent_pixels / 100:g}` if you meant percent",
                field="top_k_percent_pixels",
            )
        if any(weight < 0 for weight in self.label_weights):
            raise UserError("out-of-range", f"must not be negative: {list(self.label_weights)}", field="label_weights")


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights move: optimizer, learning rate, gradient multipliers."""

    optimizer: str = setting("momentum", "Optimizer.", choices=("momentum", "adam"))
    momentum: float = setting(0.9, "Momentum coefficient.")
    adam_learning_rate: float = setting(0.001, "Adam's constant learning rate (the schedule is not used).")
    adam_epsilon: float = setting(1e-8, "Adam's epsilon.")
    learning_policy: str = setting("poly", "Learning-rate schedule.", choices=("poly", "step"))
    base_learning_rate: float = setting(1e-4, "Learning rate at the start of the schedule.")
    learning_power: float = setting(0.9, "Exponent of the poly schedule.")
    decay_steps: float = setting(0.0, "Steps of the poly schedule; 0 = all steps after the slow start.")
    end_learning_rate: float = setting(0.0, "Learning rate at the end of the poly schedule.")
    learning_rate_decay_factor: float = setting(0.1, "Factor of the step schedule.")
    learning_rate_decay_step: int = setting(2000, "Period of the step schedule, in steps.")
    slow_start_step: int = setting(0, "Steps at the slow-start learning rate.")
    slow_start_learning_rate: float = setting(1e-4, "Learning rate of the slow start.")
    last_layer_gradient_multiplier: float = setting(1.0, "Gradient multiplier of the head's variables.")
    last_layers_contain_logits_only: bool = setting(False, "The head is the logits layer alone.")

    def __post_init__(self) -> None:
        require_positive(self, "learning_rate_decay_step")


@dataclass(frozen=True)
class TrainConfig:
    """One training: data, length, augmentation, starting point, what is written when."""

    train_logdir: str = setting("", "Folder of checkpoints and summaries.", required=True)
    train_split: str = setting("train", "Split to train on.")
    train_crop_size: Size = setting((513, 513), "Training crop, height,width in pixels.")
    train_batch_size: int = setting(8, "Images a step, over all devices.")
    training_number_of_steps: int = setting(30000, "Global step at which training ends.")
    min_scale_factor: float = setting(0.5, "Smallest augmentation scale.")
    max_scale_factor: float = setting(2.0, "Largest augmentation scale.")
    scale_factor_step_size: float = setting(0.25, "Grid step of augmentation scales; 0 = continuous.")
    tf_initial_checkpoint: str = setting(
        "", "Checkpoint to start from when train_logdir has none: a path, zoo:NAME or imagenet."
    )
    initialize_last_layer: bool = setting(True, "Restore the head too (off: start it anew).")
    fine_tune_batch_norm: bool = setting(True, "Train batch norm (off: frozen statistics).")
    batch_norm_calibration_batches: int | None = setting(
        None,
        "Training batches over which batch-norm statistics are measured anew before the last checkpoint; 0 = "
        "never (unset: 60 where the training was too short for the averages to settle).",
    )
    drop_path_keep_prob: float = setting(1.0, "Keep probability of paths in NAS backbones.")
    random_seed: int | None = setting(
        None, "Seed of initial weights, shuffling and augmentation (unset: a new one each time)."
    )
    num_clones: int = setting(1, "Devices on this machine that share each batch.")
    log_steps: int = setting(10, "Steps between two progress lines.")
    save_interval_secs: int = setting(1200, "Seconds between two checkpoints.")
    save_interval_steps: int = setting(0, "Steps between two checkpoints; 0 = by seconds alone.")
    max_checkpoints_to_keep: int = setting(5, "Older checkpoints are removed beyond this number.")
    save_summaries_secs: int = setting(600, "Seconds between two summaries.")
    save_summaries_images: bool = setting(False, "Summaries show images, labels and predictions.")
    profile_logdir: str = setting("", "Folder for a profile of a few steps; empty = none.")
    num_replicas: int = setting(1, "Worker machines.")
    master: str = setting("", "Session target.", retired="there are no sessions; devices are found by themselves")
    clone_on_cpu: bool = setting(
        False,
        "Clones on CPU.",
        retired="devices are found by themselves; hide GPUs with CUDA_VISIBLE_DEVICES=-1",
    )
    startup_delay_steps: int = setting(15, "Delay of worker starts.", retired="workers start together")
    num_ps_tasks: int = setting(
        0,
        "Parameter servers.",
        retired="variables are mirrored on every device; there are no parameter servers",
    )
    task: int = setting(0, "Index of this worker.", retired="the worker's index is read from TF_CONFIG")

    def __post_init__(self) -> None:
        require_positive(
            self,
            "train_crop_size",
            "train_batch_size",
            "training_number_of_steps",
            "min_scale_factor",
            "num_clones",
            "max_scale_factor",
            "log_steps",
            "save_interval_secs",
            "max_checkpoints_to_keep",
            "save_summaries_secs",
        )
        if self.min_scale_factor > self.max_scale_factor:
            raise UserError(
                "conflicting-settings",
                f"{self.min_scale_factor} is above `max_scale_factor={self.max_scale_factor}`",
                field="min_scale_factor",
            )
        if self.train_batch_size % self.num_clones:
            better = -(-self.train_batch_size // self.num_clones) * self.num_clones
            raise UserError(
                "indivisible-batch",
                f"{self.train_batch_size} cannot be shared by `num_clones={self.num_clones}`",
                f"`train_batch_size={better}`",
                field="train_batch_size",
            )
        if self.num_replicas > 1:
            raise UserError(
                "not-supported",
                "training over several machines is not there yet",
                "leave it at 1",
                field="num_replicas",
            )
